package seal

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"filippo.io/age"
)

// MaxSize is the largest message that can be sealed, in bytes.
const MaxSize = 1 << 40

// ageChunk and ageTag are the sizes of a chunk of age's payload and of the tag of each.
// Source: age-encryption.org/v1, "Payload".
const (
	ageChunk = 64 << 10
	ageTag   = 16
)

// SealBytes appends the sealed form of plaintext to dst and returns the extended slice, as append does. It is the quick
// way for the small; any size works. Errors: ErrTooLarge.
func SealBytes(dst, plaintext []byte, r *Recipient) ([]byte, error) {
	p, err := Prepare(r)
	if err != nil {
		return nil, err
	}
	return p.SealBytes(dst, plaintext)
}

// Prepared is sealed content whose header is made and whose message is still to come. The header holds the wrapped key and
// does not depend on the message; wrapping it is most of the work of sealing a small one. So it can be made in another
// goroutine while the message is being written. One Prepared seals one message; it is not safe for concurrent use.
type Prepared struct {
	out   *output
	age   io.WriteCloser
	to    string // the public key
	noted noted
}

// output is where age writes to: a slice first, and to when that is set.
type output struct {
	b  []byte
	to io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	if o.to != nil {
		return o.to.Write(p)
	}
	o.b = append(o.b, p...)
	return len(p), nil
}

// Prepare makes the header of one message that will be sealed to r.
func Prepare(r *Recipient) (*Prepared, error) {
	p := &Prepared{out: &output{b: make([]byte, 0, headerSize(r.kind))}, to: r.text, noted: noted{Recipient: r.key}}
	var err error
	if p.age, err = age.Encrypt(p.out, &p.noted); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return p, nil
}

// SealBytes is [SealBytes] with the header made before. Errors: ErrClosed when p was used before, ErrTooLarge.
func (p *Prepared) SealBytes(dst, plaintext []byte) ([]byte, error) {
	if p.age == nil {
		return nil, ErrClosed
	}
	if len(plaintext) > FrameSize {
		out := &output{b: slices.Grow(dst, len(p.out.b)+len(plaintext)/2)}
		w, err := p.NewWriter(out)
		if err == nil {
			err = sealWhole(w, plaintext)
		}
		if err != nil {
			return nil, err
		}
		return out.b, nil
	}
	w := p.age
	p.age, p.noted.key = nil, fileKey{}
	buf := getBuffer(len(plaintext) + maxFrameOverhead)
	defer putBuffer(buf)
	*buf = appendFrame(*buf, plaintext)
	dst = slices.Grow(dst, len(p.out.b)+sealedPayload(int64(len(*buf))))
	p.out.b = append(dst, p.out.b...)
	if _, err := w.Write(*buf); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return p.out.b, nil
}

// sealWhole writes all that there is.
func sealWhole(w io.WriteCloser, plaintext []byte) error {
	if _, err := w.Write(plaintext); err != nil {
		return err
	}
	return w.Close()
}

// sealedPayload returns the size of age's payload for n bytes within.
func sealedPayload(n int64) int {
	return int(n + ageTag*max(1, (n+ageChunk-1)/ageChunk))
}

// Writer seals a message while it is written. It holds one frame of it at a time. It is not safe for concurrent use.
type Writer struct {
	age        io.WriteCloser
	pending    *[]byte  // plaintext of the frame to come
	compressed []uint32 // sizes of the frames written
	size       int64
	err        error // sticky
}

// NewWriter writes the header of a message sealed to r to dst and returns a Writer for the message. The content is whole
// once Close has returned nil; a Writer that is given up is closed too, and what it wrote thrown away. Errors: dst's.
func NewWriter(dst io.Writer, r *Recipient) (*Writer, error) {
	p, err := Prepare(r)
	if err != nil {
		return nil, err
	}
	return p.NewWriter(dst)
}

// NewWriter is [NewWriter] with the header made before. Errors: ErrClosed when p was used before, dst's.
func (p *Prepared) NewWriter(dst io.Writer) (*Writer, error) {
	w, err := p.begin(dst)
	if err != nil {
		return nil, err
	}
	return &Writer{age: w, pending: getBuffer(FrameSize)}, nil
}

// begin writes the header to dst, and answers what seals the payload that is to follow it there. Errors: ErrClosed, dst's.
func (p *Prepared) begin(dst io.Writer) (io.WriteCloser, error) {
	if p.age == nil {
		return nil, ErrClosed
	}
	w := p.age
	p.age, p.noted.key = nil, fileKey{}
	if _, err := dst.Write(p.out.b); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	p.out.b, p.out.to = nil, dst
	return w, nil
}

// Write adds to the message. Errors: ErrTooLarge, ErrClosed, dst's; each later call answers the same.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > MaxSize-w.size {
		w.err = ErrTooLarge
		return 0, w.err
	}
	total := len(p)
	for len(p) > 0 {
		if len(*w.pending) == 0 && len(p) >= FrameSize {
			if w.err = w.flush(p[:FrameSize]); w.err != nil {
				return total - len(p), w.err
			}
			p = p[FrameSize:]
			continue
		}
		n := min(len(p), FrameSize-len(*w.pending))
		*w.pending = append(*w.pending, p[:n]...)
		p = p[n:]
		if len(*w.pending) == FrameSize {
			if w.err = w.flush(*w.pending); w.err != nil {
				return total - len(p), w.err
			}
			*w.pending = (*w.pending)[:0]
		}
	}
	return total, nil
}

// flush writes content as one frame.
func (w *Writer) flush(content []byte) error {
	buf := getBuffer(len(content) + maxFrameOverhead)
	defer putBuffer(buf)
	*buf = appendFrame(*buf, content)
	w.compressed = append(w.compressed, uint32(len(*buf)))
	w.size += int64(len(content))
	if _, err := w.age.Write(*buf); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// Size returns how many bytes of the message were written so far.
func (w *Writer) Size() int64 {
	if w.pending == nil {
		return w.size
	}
	return w.size + int64(len(*w.pending))
}

// Close writes what is left and ends the content; it does not close dst. Errors: those of Write; ErrClosed the second time.
func (w *Writer) Close() error {
	if w.pending == nil {
		return ErrClosed
	}
	err := w.err
	if err == nil && (len(*w.pending) > 0 || len(w.compressed) == 0) {
		err = w.flush(*w.pending)
	}
	*w.pending = (*w.pending)[:cap(*w.pending)] // it held plaintext up to anywhere
	putBuffer(w.pending)
	w.pending, w.err = nil, ErrClosed
	if err != nil {
		return err
	}
	if len(w.compressed) > 1 {
		if _, err := w.age.Write(appendSeekTable(nil, w.compressed, w.size)); err != nil {
			return fmt.Errorf("seal: %w", err)
		}
	}
	if err := w.age.Close(); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// Buffers come in two sizes: what most mail fits in, and a whole frame.
const (
	smallBuffer = 64<<10 + maxFrameOverhead
	largeBuffer = FrameSize + maxFrameOverhead
)

var smallBuffers, largeBuffers sync.Pool

// getBuffer returns an empty buffer with room for n bytes, n at most largeBuffer.
func getBuffer(n int) *[]byte {
	pool, size := &smallBuffers, smallBuffer
	if n > smallBuffer {
		pool, size = &largeBuffers, largeBuffer
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, size)
	return &b
}

// putBuffer wipes what b holds and keeps its memory for the next getBuffer.
func putBuffer(b *[]byte) {
	clear(*b)
	*b = (*b)[:0]
	switch cap(*b) {
	case smallBuffer:
		smallBuffers.Put(b)
	case largeBuffer:
		largeBuffers.Put(b)
	}
}
