package seal

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"filippo.io/age"
)

// Reader gives random access to a sealed message. It is safe for concurrent use; calls that need a frame decrypted wait
// for each other. A Reader of a message of one frame holds the message; one of a larger message holds the two frames last
// used, none before the first read.
type Reader struct {
	size int64

	mu     sync.Mutex
	closed bool
	src    *source
	plain  io.ReaderAt // the compressed stream
	starts []int64     // of the frames in it, and of the seek table; nil when there is one frame
	cache  [2]cached   // the one last used first
}

type cached struct {
	frame int64
	data  *[]byte // nil: nothing cached
}

// source notes the errors of the reader below it, which age does not tell apart from its own.
type source struct {
	r   io.ReaderAt
	err error // the first error but io.EOF
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if err != nil && err != io.EOF && s.err == nil {
		s.err = err
	}
	return n, err
}

// fail says what went wrong when age answered err. A failed read is told as it is, and forgotten: the next may succeed.
func (s *source) fail(err error) error {
	if s.err != nil {
		err, s.err = s.err, nil
		return fmt.Errorf("read sealed content: %w", err)
	}
	return corrupt("%w", err)
}

// Open opens sealed content: sealedSize bytes of src, with a message of size bytes within. One frame's message (at most
// FrameSize) is read and decrypted at once, of a larger one the header and the end. src must stay as it is, and open, until
// the Reader is closed.
//
// Errors: ErrWrongKey, ErrWiped, ErrCorrupt, ErrSize, src's. What lies in the middle of large content is checked when it is
// read.
func Open(src io.ReaderAt, sealedSize, size int64, ids ...Identity) (*Reader, error) {
	if size < 0 || size > MaxSize {
		return nil, ErrSize
	}
	r := &Reader{size: size, src: &source{r: src}}
	begin, key, err := r.openHeader(sealedSize, ids)
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	if frames(size) == 1 && isChunk(sealedSize-begin) {
		if err := r.openSmall(begin, sealedSize, key); err != nil {
			return nil, err
		}
		return r, nil
	}
	stream, err := r.openStream(sealedSize, key)
	if err != nil {
		return nil, err
	}
	if frames(size) > 1 {
		if err := r.readSeekTable(stream); err != nil {
			return nil, err
		}
		return r, nil
	}
	if stream > int64(size)+maxFrameOverhead {
		return nil, ErrSize
	}
	data := make([]byte, 0, size)
	if data, err = r.readFrame(data, 0, stream, int(size)); err != nil {
		return nil, err
	}
	r.cache[0] = cached{0, &data}
	r.plain, r.src = nil, nil
	return r, nil
}

// OpenBytes opens sealed content that is all in memory, and returns its message of size bytes. Errors: as Open.
func OpenBytes(sealed []byte, size int64, ids ...Identity) ([]byte, error) {
	r, err := Open(bytes.NewReader(sealed), int64(len(sealed)), size, ids...)
	if err != nil {
		return nil, err
	}
	if r.starts == nil {
		return *r.cache[0].data, nil
	}
	defer r.Close()
	data := make([]byte, size)
	if _, err := r.ReadAt(data, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return data, nil
}

// openHeader checks the age header and returns its size, which is where the payload's nonce begins, and the file key.
func (r *Reader) openHeader(sealedSize int64, ids []Identity) (int64, fileKey, error) {
	var prefix [MaxHeader]byte
	n := min(sealedSize, MaxHeader)
	if n <= 0 {
		return 0, fileKey{}, corrupt("%d bytes", sealedSize)
	}
	if got, err := r.src.ReadAt(prefix[:n], 0); int64(got) < n {
		return 0, fileKey{}, r.src.fail(fmt.Errorf("content ends early: %w", err))
	}
	_, size, err := parseHeader(prefix[:n])
	if err != nil {
		return 0, fileKey{}, err
	}
	key, err := fileKeyOf(prefix[:size], ids)
	return int64(size), key, err
}

// openSmall opens a message of one frame in a payload of one chunk, which lies from begin to end.
func (r *Reader) openSmall(begin, end int64, key fileKey) error {
	buf := getBuffer(int(end - begin))
	defer putBuffer(buf)
	*buf = (*buf)[:end-begin]
	if n, err := r.src.ReadAt(*buf, begin); n < len(*buf) {
		return r.src.fail(fmt.Errorf("content ends early: %w", err))
	}
	frame, err := openChunk(*buf, key)
	if err != nil {
		return err
	}
	if int64(len(frame)) > r.size+maxFrameOverhead {
		return ErrSize
	}
	data, err := appendContent(make([]byte, 0, r.size), frame, int(r.size))
	if err != nil {
		return err
	}
	r.cache[0], r.src = cached{0, &data}, nil
	return nil
}

// openStream opens the age file and returns the size of the compressed stream within.
func (r *Reader) openStream(sealedSize int64, key fileKey) (int64, error) {
	plain, stream, err := age.DecryptReaderAt(r.src, sealedSize, age.NewInjectedFileKeyIdentity(key[:]))
	if err != nil {
		return 0, r.src.fail(err)
	}
	r.plain = plain
	return stream, nil
}

// readSeekTable reads the table at the end of the compressed stream of stream bytes.
func (r *Reader) readSeekTable(stream int64) error {
	n := seekTableSize(r.size)
	if stream < n || n > stream/2 { // every frame is larger than its entry
		return ErrSize
	}
	table := make([]byte, n)
	if err := r.readStream(table, stream-n); err != nil {
		return err
	}
	starts, err := parseSeekTable(table, r.size)
	if err != nil {
		return err
	}
	if starts[len(starts)-1] != stream-n {
		return corrupt("seek table covers %d bytes of %d", starts[len(starts)-1], stream-n)
	}
	r.starts = starts
	return nil
}

// readStream fills p from the compressed stream.
func (r *Reader) readStream(p []byte, off int64) error {
	n, err := r.plain.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return r.src.fail(err)
}

// readFrame appends the size bytes of the frame that lies in the compressed stream from begin to end to dst, which has
// room for them.
func (r *Reader) readFrame(dst []byte, begin, end int64, size int) ([]byte, error) {
	buf := getBuffer(int(end - begin))
	defer putBuffer(buf)
	*buf = (*buf)[:end-begin]
	if err := r.readStream(*buf, begin); err != nil {
		return nil, err
	}
	return appendContent(dst, *buf, size)
}

// Size returns the size of the message in bytes.
func (r *Reader) Size() int64 { return r.size }

// ReadAt reads from the message as io.ReaderAt says: io.EOF only with fewer than len(p) bytes.
// Errors: ErrClosed, ErrCorrupt, ErrSize, those of the reader given to Open.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at offset %d", off)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, ErrClosed
	}
	total := 0
	for len(p) > 0 && off < r.size {
		i := off / FrameSize
		data, err := r.frame(i)
		if err != nil {
			return total, err
		}
		n := copy(p, data[off-i*FrameSize:])
		p, off, total = p[n:], off+int64(n), total+n
	}
	if len(p) > 0 {
		return total, io.EOF
	}
	return total, nil
}

// frame returns what frame i holds, from the cache or decoded into it. The caller holds r.mu.
func (r *Reader) frame(i int64) ([]byte, error) {
	if c := r.cache[0]; c.data != nil && c.frame == i {
		return *c.data, nil
	}
	r.cache[0], r.cache[1] = r.cache[1], r.cache[0]
	if c := r.cache[0]; c.data != nil && c.frame == i {
		return *c.data, nil
	}
	buf := r.cache[0].data
	if buf == nil {
		buf = getBuffer(largeBuffer)
	}
	r.cache[0].data = nil
	data, err := r.readFrame((*buf)[:0], r.starts[i], r.starts[i+1], frameContent(r.size, i))
	if err != nil {
		*buf = (*buf)[:cap(*buf)] // it may hold plaintext up to anywhere
		putBuffer(buf)
		return nil, err
	}
	*buf = data
	r.cache[0] = cached{i, buf}
	return data, nil
}

// Close wipes the plaintext that r holds. Later reads are ErrClosed. Closing again does nothing.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for i, c := range r.cache {
		if c.data != nil {
			*c.data = (*c.data)[:cap(*c.data)]
			putBuffer(c.data)
			r.cache[i].data = nil
		}
	}
	r.plain, r.src = nil, nil
	return nil
}
