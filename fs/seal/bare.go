package seal

import (
	"fmt"
	"io"
	"slices"
)

// SealBare appends a message sealed bare to dst, and returns the extended slice: age of the message itself, not compressed, for who has the
// private key elsewhere and opens it with age alone. What is sealed so, this package does not open. Errors: ErrClosed when p was used before,
// ErrTooLarge.
func (p *Prepared) SealBare(dst, message []byte) ([]byte, error) {
	out := &output{b: slices.Grow(dst, len(p.out.b)+sealedPayload(int64(len(message))))}
	w, err := p.NewBareWriter(out)
	if err == nil {
		err = sealWhole(w, message)
	}
	if err != nil {
		return nil, err
	}
	return out.b, nil
}

// bareWriter bounds what is written, and names whose errors these are.
type bareWriter struct {
	age  io.WriteCloser
	size int64
}

// NewBareWriter is [Prepared.SealBare] for what is written to the Writer. It is whole once Close has returned nil. Errors: ErrClosed when p was
// used before, dst's.
func (p *Prepared) NewBareWriter(dst io.Writer) (io.WriteCloser, error) {
	w, err := p.begin(dst)
	if err != nil {
		return nil, err
	}
	return &bareWriter{age: w}, nil
}

// Write implements io.Writer.
func (w *bareWriter) Write(b []byte) (int, error) {
	if int64(len(b)) > MaxSize-w.size {
		return 0, ErrTooLarge
	}
	w.size += int64(len(b))
	n, err := w.age.Write(b)
	if err != nil {
		err = fmt.Errorf("seal: %w", err)
	}
	return n, err
}

// Close implements io.Closer.
func (w *bareWriter) Close() error {
	if err := w.age.Close(); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// BareSize is the size of a message of size bytes once it is sealed bare to r.
func (r *Recipient) BareSize(size int64) int64 {
	return int64(headerSize(r.kind)) + int64(sealedPayload(size))
}
