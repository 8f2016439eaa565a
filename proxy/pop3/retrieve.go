package pop3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"

	"mailraft/proxy/maildir"
)

// copySize is how much of a message is in memory at once, in bytes.
const copySize = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// retr sends a message (RFC 1939, 5).
func (s *session) retr(arg []byte) error {
	_, m, err := s.message(arg)
	if err != nil {
		return err
	}
	f, err := s.open(m)
	if err != nil {
		return err
	}
	defer f.Close()
	if m.size >= 0 {
		s.ok(strconv.FormatInt(m.size, 10) + " octets")
	} else {
		s.ok("message follows")
	}
	if err := s.send(maildir.CRLFReader(f)); err != nil {
		return err
	}
	s.retrieved++
	return nil
}

// top sends a message's header and the first lines of its body (RFC 1939, 7).
func (s *session) top(arg []byte) error {
	number, count, _ := bytes.Cut(arg, []byte(" "))
	_, m, err := s.message(number)
	if err != nil {
		return err
	}
	lines, err := parseLines(count)
	if err != nil {
		return err
	}
	f, err := s.open(m)
	if err != nil {
		return err
	}
	defer f.Close()
	s.ok("top of message follows")
	return s.send(&topReader{r: maildir.CRLFReader(f), left: lines})
}

// parseLines reads TOP's count of lines. More than a message can have is as good as all: clients send 99999999999.
func parseLines(arg []byte) (int, error) {
	n, err := strconv.ParseUint(string(arg), 10, 31)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt32, nil
	}
	if err != nil {
		return 0, bad("malformed number of lines")
	}
	return int(n), nil
}

// open opens a message, or says why not.
func (s *session) open(m *message) (*os.File, error) {
	f, err := s.drop.open(m)
	if errors.Is(err, errGone) {
		return nil, &failure{text: "the message is gone: another program removed or moved it"}
	}
	if err != nil {
		return nil, s.fileProblem("the message cannot be read", err)
	}
	return f, nil
}

// send sends r dot-stuffed. Once the answer has begun there is no way to tell of an error but to break the connection off
// before the final dot: every error ends the session.
func (s *session) send(r io.Reader) error {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	out := dotWriter{w: s.conn.w}
	for {
		n, readErr := r.Read(buf[:])
		if err := out.write(buf[:n]); err != nil {
			return err
		}
		s.sent += int64(n)
		if readErr == io.EOF {
			return out.close()
		}
		if readErr != nil {
			s.log.Error("a message broke off", "error", readErr)
			return fmt.Errorf("reading a message: %w", readErr)
		}
	}
}
