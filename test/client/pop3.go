package client

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"time"
)

// POP3 is a client of POP3.
type POP3 struct{ *conn }

// DialPOP3 connects; with a TLS configuration, TLS comes first.
func DialPOP3(address string, secure *tls.Config) (*POP3, error) {
	c, err := dial(address, secure)
	if err != nil {
		return nil, err
	}
	p := &POP3{c}
	if line, err := p.Line(); err != nil || !strings.HasPrefix(line, "+OK") {
		c.Close()
		return nil, fmt.Errorf("greeting %q: %w", line, orUnexpected(err))
	}
	return p, nil
}

// Command sends a line and reads the one that answers it, which must be +OK.
func (p *POP3) Command(format string, args ...any) (string, error) {
	if err := p.Sendf(format, args...); err != nil {
		return "", err
	}
	return p.answer()
}

func (p *POP3) answer() (string, error) {
	line, err := p.Line()
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = fmt.Errorf("answer: %s", line)
	}
	return line, err
}

// Login logs in.
func (p *POP3) Login(user, password string) error {
	if _, err := p.Command("USER %s", user); err != nil {
		return err
	}
	_, err := p.Command("PASS %s", password)
	return err
}

// Multi sends a command and reads its answer of many lines, dots unstuffed.
func (p *POP3) Multi(format string, args ...any) ([]byte, error) {
	if err := p.Sendf(format, args...); err != nil {
		return nil, err
	}
	return p.multi()
}

func (p *POP3) multi() ([]byte, error) {
	if _, err := p.answer(); err != nil {
		return nil, err
	}
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var all bytes.Buffer
	start := true // of a line: behind CRLF
	for {
		// Not ReadLine: a message may have lines of any length, and any octet in them.
		piece, err := p.r.ReadSlice('\n')
		if err != nil && len(piece) < p.r.Size() {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if start && len(piece) > 0 && piece[0] == '.' {
			if string(piece) == ".\r\n" {
				return all.Bytes(), nil
			}
			piece = piece[1:]
		}
		all.Write(piece)
		start = bytes.HasSuffix(all.Bytes(), []byte("\r\n"))
	}
}

// RetrieveAll retrieves messages 1 to n, the commands pipelined (RFC 2449, 6.6), and calls fn with each.
func (p *POP3) RetrieveAll(n int, fn func(number int, message []byte)) error {
	const ahead = 16
	sent := 0
	for got := 1; got <= n; got++ {
		for sent < n && sent < got+ahead {
			sent++
			if err := p.Sendf("RETR %d", sent); err != nil {
				return err
			}
		}
		m, err := p.multi()
		if err != nil {
			return fmt.Errorf("RETR %d: %w", got, err)
		}
		fn(got, m)
	}
	return nil
}

// Quit ends the session, with which deletions are done.
func (p *POP3) Quit() error {
	_, err := p.Command("QUIT")
	if closed := p.Close(); err == nil {
		err = closed
	}
	return err
}
