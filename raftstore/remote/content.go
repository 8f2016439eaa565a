package remote

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// handle is a content that is open on another node, which keeps it readable. It is for one goroutine at a time.
type handle struct {
	c  *Client
	in tree.Inode // as it was opened
	d  *dialogue[remotepb.ContentRequest, remotepb.Piece]
}

// openHandle opens the content: ENOENT, ESTALE.
func (c *Client) openHandle(in *tree.Inode) (*handle, error) {
	h := &handle{c: c, in: *in}
	return h, h.open()
}

func (h *handle) open() error {
	h.close()
	return h.c.about(h.in.Ino.Account(), func(_ context.Context, r *replica) error {
		d, first, err := converse(h.c, func(ctx context.Context) (grpc.BidiStreamingClient[remotepb.ContentRequest, remotepb.Piece], error) {
			return r.reads.Content(ctx)
		}, &remotepb.ContentRequest{Open: &remotepb.ContentOpen{
			At: h.c.at(), Inode: uint64(h.in.Ino), Content: h.in.Content, SealedSize: h.in.SealedSize,
		}})
		if err != nil {
			return err
		}
		if err := h.c.answered(first.Errno, first.Applied); err != nil {
			d.end()
			return err
		}
		h.d = d
		return nil
	})
}

func (h *handle) close() {
	if h.d != nil {
		h.d.end()
		h.d = nil
	}
}

// read calls fn with length octets from off on, as they come. When the replica is lost, it goes on with another; if the file has another
// content by then, the rest is lost: EIO.
func (h *handle) read(off, length int64, fn func([]byte) error) error {
	for since := time.Now(); ; {
		err := h.d.say(&remotepb.ContentRequest{Offset: uint64(off), Length: uint64(length)})
		for err == nil && length > 0 {
			var piece *remotepb.Piece
			if piece, err = h.d.hear(); err != nil {
				break
			}
			if n := int64(len(piece.Data)); n == 0 || n > length {
				err = fmt.Errorf("piece of %d octets", n)
				break
			}
			if err := fn(piece.Data); err != nil {
				return err
			}
			off, length, since = off+int64(len(piece.Data)), length-int64(len(piece.Data)), time.Now()
		}
		if err == nil {
			return nil
		}
		if time.Since(since) > h.c.limit {
			return fmt.Errorf("read content %d of account %d: %w: %v", h.in.Content, h.in.Ino.Account(), syscall.EIO, err)
		}
		time.Sleep(retryPause)
		if err := h.open(); err != nil {
			if errno, ok := said(err); ok {
				err = fmt.Errorf("content %d of account %d went while it was read: %w: %v", h.in.Content, h.in.Ino.Account(), syscall.EIO, errno)
			}
			return err
		}
	}
}

// ReadContent implements tree.Reader. Whoever reads the same content meanwhile shares the transfer.
func (c *Client) ReadContent(in *tree.Inode, buf []byte) ([]byte, error) {
	buf = buf[:0]
	if in.SealedSize == 0 {
		return buf, nil
	}
	if in.SealedSize > maxInMemory {
		r, err := c.OpenContent(in)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		buf = append(buf, make([]byte, in.SealedSize)...)
		_, err = r.ReadAt(buf, 0)
		return buf, err
	}
	k := keyOf(in)
	if b := c.cache.get(k); b != nil {
		return append(buf, b...), nil
	}
	b, err, _ := c.transfers.Do(fmt.Sprint(k), func() (any, error) {
		h, err := c.openHandle(in)
		if err != nil {
			return nil, err
		}
		defer h.close()
		b := make([]byte, 0, in.SealedSize)
		err = h.read(0, int64(in.SealedSize), func(p []byte) error {
			b = append(b, p...)
			return nil
		})
		if err == nil {
			c.cache.put(k, b)
		}
		return b, err
	})
	if err != nil {
		if err == syscall.ENOENT { // the file has gone, and its content with it
			err = syscall.ESTALE
		}
		return nil, err
	}
	return append(buf, b.([]byte)...), nil
}

// content implements tree.ContentReader: out of the cache, or, when that has no room, or its disk fails, from the other node.
type content struct {
	c  *Client
	in tree.Inode
	e  *cached

	mu sync.Mutex // held while the other node is read
	h  *handle
}

// OpenContent implements tree.Reader.
func (c *Client) OpenContent(in *tree.Inode) (tree.ContentReader, error) {
	r := &content{c: c, in: *in}
	var h *handle
	// Opened here, so that what is wrong is said here.
	if !c.cache.has(keyOf(in)) {
		var err error
		if h, err = c.openHandle(in); err != nil {
			return nil, err
		}
	}
	e, err := c.cache.open(keyOf(in), func(f *filling) {
		mine := h
		h = nil
		go f.run(c, in, mine)
	})
	r.e, r.h = e, h
	if e != nil && h != nil { // somebody else brings it
		h.close()
		r.h = nil
	}
	if err != nil { // the cache's disk: it is not needed
		r.e = nil
	}
	if r.e == nil && r.h == nil {
		if r.h, err = c.openHandle(in); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Size implements tree.ContentReader.
func (r *content) Size() int64 { return int64(r.in.SealedSize) }

// ReadAt implements tree.ContentReader.
func (r *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if r.e != nil {
		n, err := r.e.readAt(p, off)
		if err == nil || err == io.EOF {
			return n, err
		}
		// What came is damaged, or it could not be brought: the node is asked again.
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.h == nil {
		h, err := r.c.openHandle(&r.in)
		if err != nil {
			if _, ok := said(err); ok {
				err = fmt.Errorf("content %d of account %d: %w: %v", r.in.Content, r.in.Ino.Account(), syscall.EIO, err)
			}
			return 0, err
		}
		r.h = h
	}
	want := min(int64(len(p)), max(0, r.Size()-off))
	n := 0
	if want > 0 {
		err := r.h.read(off, want, func(b []byte) error {
			n += copy(p[n:], b)
			return nil
		})
		if err != nil {
			r.h.close()
			r.h = nil
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close implements tree.ContentReader.
func (r *content) Close() error {
	if r.e != nil {
		r.c.cache.release(r.e)
		r.e = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.h != nil {
		r.h.close()
		r.h = nil
	}
	return nil
}

// filling brings a content into the cache's file.
type filling struct {
	e      *cached
	given  context.Context // done when nobody wants it any more
	giveUp context.CancelFunc
	ended  chan struct{} // closed when it writes no more

	mu     sync.Mutex
	come   int64 // octets that are there: whole blocks, or all
	failed error
	news   chan struct{} // closed when come or failed changes
}

func newFilling(e *cached) *filling {
	f := &filling{e: e, ended: make(chan struct{}), news: make(chan struct{})}
	f.given, f.giveUp = context.WithCancel(context.Background())
	return f
}

func (f *filling) isWhole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.come == int64(f.e.key.size)
}

func (f *filling) hasFailed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed != nil
}

func (f *filling) set(come int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.come, f.failed = come, err
	close(f.news)
	f.news = make(chan struct{})
}

// wait waits for the first octets.
func (f *filling) wait(octets int64) error {
	for {
		f.mu.Lock()
		come, failed, news := f.come, f.failed, f.news
		f.mu.Unlock()
		switch {
		case come >= octets:
			return nil
		case failed != nil:
			return failed
		}
		<-news
	}
}

// run brings the content over a handle, which it closes; nil: over one that it opens.
func (f *filling) run(c *Client, in *tree.Inode, h *handle) {
	defer close(f.ended)
	defer f.giveUp()
	var err error
	if h == nil {
		if h, err = c.openHandle(in); err != nil {
			f.set(0, err)
			return
		}
	}
	defer func() { h.close() }()
	size := int64(f.e.key.size)
	come := int64(0)
	block := make([]byte, 0, blockOctets)
	err = h.read(0, size, func(b []byte) error {
		for len(b) > 0 {
			n := min(len(b), blockOctets-len(block))
			block, b = append(block, b[:n]...), b[n:]
			if len(block) < blockOctets && come+int64(len(block)) < size {
				continue
			}
			if f.given.Err() != nil {
				return errGivenUp
			}
			if _, err := f.e.file.WriteAt(block, come); err != nil {
				return err
			}
			f.e.sums[come/blockOctets] = crc32.Checksum(block, castagnoli)
			come += int64(len(block))
			block = block[:0]
			f.set(come, nil)
		}
		return nil
	})
	if err != nil {
		f.set(come, err)
	}
}

var errGivenUp = errors.New("nobody reads the content any more")
