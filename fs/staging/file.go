package staging

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// File is a file being written: like an os.File that is open for reading and writing, with a hole wherever nothing was
// written. It is not safe for concurrent use, not even for reading alone: callers lock.
type File struct {
	area   *Area
	size   int64
	mem    *[]byte // while not spilled: the first bytes of the file, what lies beyond up to size is zero
	spill  *spill  // nil while not spilled
	closed bool
}

// Size returns the size of the file in bytes.
func (f *File) Size() int64 { return f.size }

// Spilled says whether the file lies on disk.
func (f *File) Spilled() bool { return f.spill != nil }

// WriteAt writes p at off, which may be beyond the end. It fails only when the File cannot hold the data: exactly the n
// bytes that it tells are written then, and the File stays as usable as before.
//
// Errors: EFBIG above MaxSize, EINVAL for a negative offset, os.ErrClosed, and the disk's, ENOSPC above all; test with
// errors.Is.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	switch {
	case f.closed:
		return 0, os.ErrClosed
	case off < 0:
		return 0, fmt.Errorf("staging: write at %d: %w", off, syscall.EINVAL)
	case off > MaxSize-int64(len(p)):
		return 0, fmt.Errorf("staging: write at %d: %w", off, syscall.EFBIG)
	case len(p) == 0:
		return 0, nil
	}
	end := off + int64(len(p))
	if f.spill == nil {
		if f.grow(end) {
			*f.mem = (*f.mem)[:max(int64(len(*f.mem)), end)]
			copy((*f.mem)[off:], p)
			f.size = max(f.size, end)
			return len(p), nil
		}
		if err := f.toDisk(); err != nil {
			return 0, err
		}
	}
	n, err := f.spill.writeAt(p, off)
	if n > 0 {
		f.size = max(f.size, off+int64(n))
	}
	return n, err
}

// grow makes room in memory for end bytes, if that is allowed.
func (f *File) grow(end int64) bool {
	if end > f.area.threshold {
		return false
	}
	have := 0
	if f.mem != nil {
		have = cap(*f.mem)
	}
	if end <= int64(have) {
		return true
	}
	size := bufferSize(int(end))
	if !f.area.budget.take(size) {
		return false
	}
	mem := getBuffer(size)
	if f.mem != nil {
		*mem = append(*mem, *f.mem...)
		putBuffer(f.mem)
		f.area.budget.give(have)
	}
	f.mem = mem
	return true
}

// toDisk moves what is in memory to disk; if that fails it stays in memory.
func (f *File) toDisk() error {
	s, err := newSpill(f.area)
	if err != nil {
		return err
	}
	if f.mem != nil {
		if _, err := s.writeAt(*f.mem, 0); err != nil {
			s.close()
			return err
		}
		f.dropMemory()
	}
	f.spill = s
	return nil
}

func (f *File) dropMemory() {
	if f.mem != nil {
		f.area.budget.give(cap(*f.mem))
		putBuffer(f.mem)
		f.mem = nil
	}
}

// ReadAt reads as io.ReaderAt says: io.EOF only with fewer than len(p) bytes. Errors: EINVAL for a negative offset,
// os.ErrClosed, the disk's, ErrDamaged.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case f.closed:
		return 0, os.ErrClosed
	case off < 0:
		return 0, fmt.Errorf("staging: read at %d: %w", off, syscall.EINVAL)
	}
	var eof error
	if left := max(0, f.size-off); int64(len(p)) > left {
		p, eof = p[:left], io.EOF
	}
	if len(p) == 0 {
		return 0, eof
	}
	if f.spill != nil {
		if n, err := f.spill.readAt(p, off); err != nil {
			return n, err
		}
		return len(p), eof
	}
	n := 0
	if f.mem != nil && off < int64(len(*f.mem)) {
		n = copy(p, (*f.mem)[off:])
	}
	clear(p[n:])
	return len(p), eof
}

// Truncate sets the size; what is added reads as zeros and takes no room. Errors: EFBIG, EINVAL, os.ErrClosed.
func (f *File) Truncate(size int64) error {
	switch {
	case f.closed:
		return os.ErrClosed
	case size < 0:
		return fmt.Errorf("staging: truncate to %d: %w", size, syscall.EINVAL)
	case size > MaxSize:
		return fmt.Errorf("staging: truncate to %d: %w", size, syscall.EFBIG)
	}
	if size < f.size {
		switch {
		case f.spill != nil:
			f.spill.truncate(size)
		case size == 0:
			f.dropMemory()
		case f.mem != nil && size < int64(len(*f.mem)):
			clear((*f.mem)[size:])
			*f.mem = (*f.mem)[:size]
		}
	}
	f.size = size
	return nil
}

// Bytes returns the whole content when it is in memory; it is valid, and not to be changed, until the File is next written
// to, truncated or closed. ok is false when the file is spilled or closed, or has a hole at its end that is not worth the
// memory: then there is Reader.
func (f *File) Bytes() (b []byte, ok bool) {
	if f.closed || f.spill != nil || !f.grow(f.size) {
		return nil, false
	}
	if f.mem == nil {
		return nil, true
	}
	*f.mem = (*f.mem)[:f.size] // buffers are zero beyond their length
	return *f.mem, true
}

// Reader returns the content from the beginning, one chunk in memory at a time; it writes itself (io.WriterTo) without
// copying. It reads what is there when it reads, and needs the caller's lock as all of f does.
func (f *File) Reader() io.Reader { return &reader{f: f} }

// Close wipes the content and the key, and gives memory and disk back. Closing again is os.ErrClosed.
func (f *File) Close() error {
	if f.closed {
		return os.ErrClosed
	}
	f.closed = true
	f.dropMemory()
	if f.spill != nil {
		err := f.spill.close()
		f.spill = nil
		return err
	}
	return nil
}

type reader struct {
	f   *File
	off int64
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.f.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// WriteTo writes the rest of the content to w, in pieces of at most a chunk. Errors: those of ReadAt, w's.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	begin := r.off
	if b, ok := r.f.Bytes(); ok {
		if r.off >= int64(len(b)) {
			return 0, nil
		}
		n, err := w.Write(b[r.off:])
		r.off += int64(n)
		return r.off - begin, err
	}
	buf := getBuffer(chunkSize)
	defer putBuffer(buf)
	for {
		*buf = (*buf)[:chunkSize]
		n, err := r.f.ReadAt((*buf)[:min(chunkSize, chunkSize-r.off%chunkSize)], r.off)
		if n > 0 {
			m, werr := w.Write((*buf)[:n])
			r.off += int64(m)
			if werr != nil {
				return r.off - begin, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return r.off - begin, nil
		}
		if err != nil {
			return r.off - begin, err
		}
	}
}
