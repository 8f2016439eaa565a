package tree

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// ReadContent implements Reader.
func (v *View) ReadContent(in *Inode, buf []byte) ([]byte, error) {
	h := v.store.Acquire()
	defer h.Release()
	buf = buf[:0]
	for n := uint32(0); uint64(len(buf)) < in.SealedSize; n++ {
		val, c, err := read(h, pieceKey(MakeIno(in.Ino.Account(), in.Content), n))
		if err == syscall.ENOENT {
			// The content may have been replaced since in was read; if not, the store has lost it.
			return nil, fmt.Errorf("piece %d of content %d of account %d: %w", n, in.Content, in.Ino.Account(), syscall.ESTALE)
		}
		if err != nil {
			return nil, err
		}
		if rest := in.SealedSize - uint64(len(buf)); uint64(len(val)) != min(rest, MaxPiece) {
			err = fmt.Errorf("%w: piece %d of content %d of account %d has %d octets", ErrCorrupt, n, in.Content, in.Ino.Account(), len(val))
		}
		buf = append(buf, val...)
		if err := closed(c, err); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// contentReader implements ContentReader on a snapshot.
type contentReader struct {
	snap    *snapshot
	content Ino
	size    int64
}

// OpenContent implements Reader.
func (v *View) OpenContent(in *Inode) (ContentReader, error) {
	snap := v.snapshot()
	now, err := wholeInode(snap, in.Ino)
	if err == nil && now.Content != in.Content {
		err = syscall.ESTALE
	}
	if err != nil {
		snap.Close()
		return nil, err
	}
	return &contentReader{snap, MakeIno(in.Ino.Account(), in.Content), int64(in.SealedSize)}, nil
}

// Size implements ContentReader.
func (r *contentReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *contentReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	n := 0
	for n < len(p) {
		if off >= r.size {
			return n, io.EOF
		}
		k, err := r.readPiece(p[n:], off)
		if err != nil {
			return n, err
		}
		n += k
		off += int64(k)
	}
	return n, nil
}

// readPiece reads from one piece.
func (r *contentReader) readPiece(p []byte, off int64) (n int, err error) {
	val, c, err := read(r.snap, pieceKey(r.content, uint32(off/MaxPiece)))
	switch {
	case err == nil:
		if at := off % MaxPiece; at < int64(len(val)) {
			n = copy(p, val[at:])
		}
		err = c.Close()
	case err == syscall.ENOENT:
		err = nil
	}
	if n == 0 && err == nil {
		err = errors.Join(fmt.Errorf("%w: piece %d of content %d of account %d is not whole",
			ErrCorrupt, off/MaxPiece, r.content.Local(), r.content.Account()), syscall.EIO)
	}
	return n, err
}

// Close lets the content go.
func (r *contentReader) Close() error { return r.snap.Close() }
