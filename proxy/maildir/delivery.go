package maildir

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Delivery is a message being written: first to a file in tmp/, where nobody sees it, then linked into new/ or cur/.
//
// Its system calls are open, one write for each Write, close, link, unlink. On the mount the link is the commit: once Commit
// has returned without an error, the message is safe, and no fsync adds to that. A Delivery is not for use by several
// goroutines at once.
//
// Errors are *os.PathError or *os.LinkError around the errno: EDQUOT when the mailbox is over its quota.
type Delivery struct {
	dir  string // of the folder
	tmp  string // path of the tmp file, "" once it is gone
	base string // unique file name without its fields
	fd   int    // of the tmp file, -1 once closed

	size    int64 // bytes written
	bareLFs int64 // line feeds written that no carriage return precedes
	last    byte  // written last
	err     error // first error of writing; sticks
}

// Options say how a message is committed.
type Options struct {
	Flags  string    // letters of maildir(5), "S" for seen, and keywords a-z
	Date   time.Time // INTERNALDATE; zero: when it was written
	Recent bool      // without Flags: put it into new/, not cur/
	// Unique is the name before its fields, for who must find the message again by it; "": one that no other message has. A folder
	// that has the whole name already answers EEXIST.
	Unique string
	// Enclosed is proxy.Mailbox's: the size that goes into the name is asked for.
	Enclosed bool
}

// NewDelivery makes a tmp file in a folder of a Maildir++; folder "" is the INBOX, ".Sent" another one.
func NewDelivery(home, folder string) (*Delivery, error) {
	dir, err := folderPath(home, folder)
	if err != nil {
		return nil, err
	}
	d := &Delivery{dir: dir, base: newName(time.Now())}
	d.tmp = dir + "/tmp/" + d.base
	d.fd, err = openRetrying(d.tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Write writes p to the tmp file, unbuffered: each Write is a request to the mount, so few large ones are best (see ReadFrom).
// After an error the Delivery is good only for Abort.
func (d *Delivery) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.fd < 0 {
		return 0, &os.PathError{Op: "write", Path: d.tmp, Err: os.ErrClosed}
	}
	written := 0
	for written < len(p) {
		n, err := unix.Write(d.fd, p[written:])
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = unix.EIO
		}
		if err != nil {
			d.err = &os.PathError{Op: "write", Path: d.tmp, Err: err}
			break
		}
		written += n
	}
	d.count(p[:written])
	return written, d.err
}

// count keeps the sizes that go into the message's name.
func (d *Delivery) count(p []byte) {
	if len(p) == 0 {
		return
	}
	d.size += int64(len(p))
	d.bareLFs += int64(bytes.Count(p, []byte("\n")) - bytes.Count(p, []byte("\r\n")))
	if p[0] == '\n' && d.last == '\r' {
		d.bareLFs-- // its carriage return came with the Write before
	}
	d.last = p[len(p)-1]
}

// copySize is how much ReadFrom hands to the mount at once, in bytes.
const copySize = 128 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// ReadFrom writes all that r gives, in large pieces; io.Copy(d, r) uses it.
func (d *Delivery) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	var total int64
	for {
		n, readErr := fill(r, buf[:])
		written, err := d.Write(buf[:n])
		total += int64(written)
		switch {
		case err != nil:
			return total, err
		case readErr == io.EOF:
			return total, nil
		case readErr != nil:
			return total, readErr
		}
	}
}

// fill reads until buf is full or r gives an error, which it returns as it is (io.ReadFull would rename an EOF).
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var read int
		read, err = r.Read(buf[n:])
		n += read
	}
	return n, err
}

// Size returns the bytes written so far.
func (d *Delivery) Size() int64 { return d.size }

// Close ends the writing: the mount seals the message now. Commit does it by itself; calling it before lets a caller with
// several deliveries know that all are written before it commits the first.
func (d *Delivery) Close() error {
	if d.fd >= 0 {
		err := unix.Close(d.fd)
		d.fd = -1
		if err != nil && d.err == nil {
			d.err = &os.PathError{Op: "close", Path: d.tmp, Err: err}
		}
	}
	return d.err
}

// Commit makes the message visible and safe, and returns its path. After an error it is removed, except that an error of the
// link itself that stays (EIO, ETIMEDOUT) leaves open whether the message went in.
func (d *Delivery) Commit(o Options) (path string, err error) {
	defer d.Abort()
	flags, err := normalFlags(o.Flags)
	if err != nil {
		return "", err
	}
	if err := d.Close(); err != nil {
		return "", err
	}
	if d.tmp == "" {
		return "", &os.PathError{Op: "link", Path: d.dir, Err: os.ErrClosed}
	}
	if o.Enclosed {
		if err := d.measure(); err != nil {
			return "", err
		}
	}
	if !o.Date.IsZero() {
		ts := unix.NsecToTimespec(o.Date.UnixNano())
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, d.tmp, []unix.Timespec{ts, ts}, 0); err != nil {
			return "", &os.PathError{Op: "utimensat", Path: d.tmp, Err: err}
		}
	}
	if o.Unique != "" {
		d.base = o.Unique
	}
	path = d.finalPath(flags, o.Recent)
	if err := link(d.tmp, path); err != nil {
		return "", err
	}
	return path, nil
}

// measure takes the size of what is read of the tmp file, which has CRLF line ends and is whole.
func (d *Delivery) measure() error {
	var st unix.Stat_t
	if err := unix.Lstat(d.tmp, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: d.tmp, Err: err}
	}
	d.size, d.bareLFs, d.last = st.Size, 0, '\n'
	return nil
}

// finalPath is where the message will be seen. Its name tells its sizes, in bytes: S= on disk, W= with CRLF line ends. A message whose
// last line does not end has no W=: POP3 ends it, IMAP does not, so its size is not the same for all, and whoever asks has to look.
func (d *Delivery) finalPath(flags string, recent bool) string {
	b := make([]byte, 0, len(d.dir)+len(d.base)+64)
	b = append(b, d.dir...)
	if recent && flags == "" {
		b = append(b, "/new/"...)
	} else {
		b = append(b, "/cur/"...)
	}
	b = append(b, d.base...)
	b = append(b, ",S="...)
	b = strconv.AppendInt(b, d.size, 10)
	if d.size == 0 || d.last == '\n' {
		b = append(b, ",W="...)
		b = strconv.AppendInt(b, d.size+d.bareLFs, 10)
	}
	if !recent || flags != "" {
		b = append(b, flagSeparator...)
		b = append(b, flags...)
	}
	return string(b)
}

// link links once, whatever signals arrive and whatever the mount knows: a link that was interrupted, or got no answer from its shard
// (EIO, ETIMEDOUT), may have been made, and then a second one finds the name taken by the very file. The mount settles the doubt
// before it answers that. When it cannot, it is left open.
func link(from, to string) error {
	inDoubt, again := false, true
	for {
		err := unix.Link(from, to)
		switch {
		case err == nil, err == unix.EEXIST && inDoubt && isLinked(from, to):
			return nil
		case err == unix.EINTR:
			inDoubt = true
		case (err == unix.EIO || err == unix.ETIMEDOUT) && again:
			inDoubt, again = true, false
		default:
			return &os.LinkError{Op: "link", Old: from, New: to, Err: err}
		}
	}
}

// isLinked says whether both names are one file's.
func isLinked(from, to string) bool {
	var a, b unix.Stat_t
	return unix.Lstat(from, &a) == nil && unix.Lstat(to, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// Abort removes the tmp file. It does nothing after Commit or another Abort.
func (d *Delivery) Abort() error {
	d.Close() // what could not be written is not wanted any more
	if d.tmp == "" {
		return nil
	}
	err := unix.Unlink(d.tmp)
	tmp := d.tmp
	d.tmp = ""
	if d.err == nil {
		d.err = &os.PathError{Op: "write", Path: tmp, Err: os.ErrClosed}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &os.PathError{Op: "unlink", Path: tmp, Err: err}
	}
	return nil
}

// Open opens a message or an index for reading. Unlike os.Open it stays away from the network poller.
func Open(path string) (*os.File, error) {
	fd, err := openRetrying(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func openRetrying(path string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags, mode)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}
