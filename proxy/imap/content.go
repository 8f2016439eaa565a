package imap

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"mailraft/proxy/imap/mimetree"
	"mailraft/proxy/maildir"
)

// smallMessage is the size in bytes up to which messages are read at once; larger ones stream.
const smallMessage = 256 << 10

// content is the text of one message, with CRLF line ends. It must be closed.
type content struct {
	size   int64         // with CRLF line ends
	small  *bytes.Buffer // all of it, when it is small
	fd     int           // else the open file
	asIs   bool          // the file has CRLF line ends itself
	header *mimetree.Part
	tree   *mimetree.Part
	view   *view
	uid    uint32
}

// parsed is the MIME structure of one message, kept between commands: clients ask for a part at a time.
type parsed struct {
	uid  uint32
	tree *mimetree.Part
}

var smallBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
var largeBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// errGone tells that a message was expunged by somebody else before it could be read.
var errGone = errors.New("imap: message is gone")

// onFile runs an operation on a message's file, whatever others have renamed it to in the meantime: when it is not where the view
// believes, the index knows where it went.
func (s *session) onFile(i int, operation func(m *message) error) error {
	for range 5 {
		m := &s.view.messages[i]
		if m.gone {
			return errGone
		}
		err := operation(m)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		before := m.Name
		if err := s.refresh(); err != nil {
			return err
		}
		if m := &s.view.messages[i]; !m.gone && m.Name == before {
			return err // then it is something else that does not exist
		}
	}
	return errGone
}

// content opens message i of the view.
func (s *session) content(i int) (*content, error) {
	c := &content{fd: -1, view: s.view, uid: s.view.messages[i].UID}
	err := s.onFile(i, func(m *message) error { return c.open(s.view.dir+"/"+m.Name, m) })
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *content) open(path string, m *message) error {
	fd, err := openFile(path)
	if err != nil {
		return err
	}
	c.asIs = m.size == m.Size
	if m.Size <= smallMessage {
		defer unix.Close(fd)
		return c.readSmall(fd, path, m)
	}
	c.fd, c.size = fd, m.size
	if c.size < 0 {
		if err := c.measure(m); err != nil {
			c.Close()
			return err
		}
	}
	return nil
}

func openFile(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

// readSmall reads the whole file: open, read, close, when it is as long as the index says.
func (c *content) readSmall(fd int, path string, m *message) error {
	buf := smallBuffers.Get().(*bytes.Buffer)
	buf.Reset()
	buf.Grow(int(m.Size) + 1)
	b := buf.AvailableBuffer()[:m.Size]
	n := 0
	for n < len(b) {
		read, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			smallBuffers.Put(buf)
			return &os.PathError{Op: "read", Path: path, Err: err}
		}
		if read == 0 {
			break // it has shrunk
		}
		n += read
	}
	buf.Write(b[:n])
	if !c.asIs || n != len(b) {
		normal := smallBuffers.Get().(*bytes.Buffer)
		normal.Reset()
		if _, err := normal.ReadFrom(maildir.CRLFReader(buf)); err != nil {
			return err
		}
		smallBuffers.Put(buf)
		buf = normal
		m.size = int64(buf.Len())
	}
	c.small, c.size = buf, int64(buf.Len())
	return nil
}

// measure reads a large file whose name does not tell its size with CRLF line ends.
func (c *content) measure(m *message) error {
	buf := largeBuffers.Get().(*[64 << 10]byte)
	defer largeBuffers.Put(buf)
	raw := &fileReader{fd: c.fd}
	n, err := io.CopyBuffer(onlyWriter{io.Discard}, maildir.CRLFReader(raw), buf[:])
	if err != nil {
		return err
	}
	m.size, c.size = n, n
	c.asIs = n == raw.offset
	return nil
}

type onlyWriter struct{ io.Writer } // hides ReadFrom

// Close gives the buffer or the file back.
func (c *content) Close() {
	if c.small != nil {
		smallBuffers.Put(c.small)
		c.small = nil
	}
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// section reads the bytes [from, to).
func (c *content) section(from, to int64) io.Reader {
	if c.small != nil {
		return bytes.NewReader(c.small.Bytes()[from:to])
	}
	if c.asIs {
		return io.LimitReader(&fileReader{fd: c.fd, offset: from}, to-from)
	}
	return &skippingReader{r: io.LimitReader(maildir.CRLFReader(&fileReader{fd: c.fd}), to), skip: from}
}

// fileReader reads a file from an offset, without the Go runtime's poller.
type fileReader struct {
	fd     int
	offset int64
}

func (r *fileReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Pread(r.fd, p, r.offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, &os.PathError{Op: "read", Err: err}
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		r.offset += int64(n)
		return n, nil
	}
}

// skippingReader leaves the first bytes of a stream out.
type skippingReader struct {
	r    io.Reader
	skip int64
}

func (r *skippingReader) Read(p []byte) (int, error) {
	for r.skip > 0 {
		n, err := r.r.Read(p[:min(int64(len(p)), r.skip)])
		r.skip -= int64(n)
		if err != nil {
			return 0, err
		}
	}
	return r.r.Read(p)
}

// head returns the message's header alone; what it costs does not depend on the body.
func (c *content) head() (*mimetree.Part, error) {
	if c.tree != nil {
		return c.tree, nil
	}
	if c.header == nil {
		if c.view.lastParts.uid == c.uid && c.view.lastParts.tree != nil {
			c.tree = c.view.lastParts.tree
			return c.tree, nil
		}
		h, err := mimetree.ParseHeader(c.section(0, c.size), c.size)
		if err != nil {
			return nil, err
		}
		c.header = h
	}
	return c.header, nil
}

// parts returns the message's MIME structure.
func (c *content) parts() (*mimetree.Part, error) {
	if c.tree == nil {
		if c.view.lastParts.uid == c.uid && c.view.lastParts.tree != nil {
			c.tree = c.view.lastParts.tree
			return c.tree, nil
		}
		tree, err := mimetree.Parse(c.section(0, c.size))
		if err != nil {
			return nil, err
		}
		c.tree = tree
		c.view.lastParts = parsed{uid: c.uid, tree: tree}
	}
	return c.tree, nil
}
