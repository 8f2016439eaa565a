package smtp

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// input reads what the client sends: lines and messages. Its buffer is small while there are only commands, and a large one,
// borrowed, during a message.
type input struct {
	conn   io.Reader
	flush  func() error // hands pending replies to the client; called before a read that may wait
	buf    []byte
	r, w   int // buf[r:w] is read and not consumed
	small  []byte
	pooled *[largeInput]byte // what buf is made of during a message
}

const (
	smallInput = 4 << 10
	largeInput = 64 << 10
)

var inputPool = sync.Pool{New: func() any { return new([largeInput]byte) }}

var (
	errLineTooLong = errors.New("smtp: line too long")
	errBareLF      = errors.New("smtp: line ends without a carriage return")
)

func newInput(conn io.Reader, flush func() error, maxLine int) *input {
	small := make([]byte, max(smallInput, maxLine))
	return &input{conn: conn, flush: flush, buf: small, small: small}
}

// pending is what was read and not consumed. It is valid until the next fill.
func (in *input) pending() []byte { return in.buf[in.r:in.w] }

// skip consumes n pending bytes.
func (in *input) skip(n int) { in.r += n }

// fill reads more, at least a byte. The buffer must not be full of pending bytes.
func (in *input) fill() error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if err := in.flush(); err != nil {
		return err
	}
	for {
		n, err := in.conn.Read(in.buf[in.w:])
		in.w += n
		if n > 0 {
			return nil // an error that came with bytes comes again
		}
		if err != nil {
			return err
		}
	}
}

// line reads a line and returns it without its CRLF; valid until the next fill. A line longer than limit bytes, line end included,
// is skipped and is errLineTooLong. A bare LF, which ends no line, is errBareLF.
func (in *input) line(limit int) ([]byte, error) {
	scanned, tooLong := 0, false
	for {
		if i := bytes.IndexByte(in.pending()[scanned:], '\n'); i >= 0 {
			line := in.pending()[:scanned+i]
			in.skip(len(line) + 1)
			if tooLong || len(line)+1 > limit {
				return nil, errLineTooLong
			}
			line, ok := bytes.CutSuffix(line, []byte("\r"))
			if !ok {
				return nil, errBareLF
			}
			return line, nil
		}
		scanned = len(in.pending())
		if scanned >= limit {
			tooLong = true
			in.skip(scanned)
			scanned = 0
		}
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
}

// enlarge takes a large buffer, for a message.
func (in *input) enlarge() {
	if in.pooled != nil {
		return
	}
	in.pooled = inputPool.Get().(*[largeInput]byte)
	in.w = copy(in.pooled[:], in.pending())
	in.r, in.buf = 0, in.pooled[:]
}

// reduce gives the large buffer back, once what is pending has room in the small one.
func (in *input) reduce() {
	if in.pooled == nil || len(in.pending()) > len(in.small) {
		return
	}
	in.w = copy(in.small, in.pending())
	in.r, in.buf = 0, in.small
	inputPool.Put(in.pooled)
	in.pooled = nil
}

// wipe forgets what was consumed: it may be a password.
func (in *input) wipe() {
	clear(in.buf[:in.r])
	clear(in.buf[in.w:])
	if in.pooled != nil {
		clear(in.small)
	}
}
