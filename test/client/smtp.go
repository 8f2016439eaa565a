package client

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
)

// SMTP is a client of SMTP or LMTP.
type SMTP struct {
	*conn
	lmtp bool
	Caps string // what EHLO or LHLO answered, a line a capability
}

// Reply is a server's answer, its lines joined by LF, each with its code.
type Reply string

// Code is the reply code, such as "250".
func (r Reply) Code() string { return string(r[:min(3, len(r))]) }

// OK says whether the command was done.
func (r Reply) OK() bool { return r != "" && r[0] == '2' }

// Begins says whether the reply has that code and that enhanced code (RFC 3463), such as "550 5.1.1".
func (r Reply) Begins(codes string) bool { return strings.HasPrefix(string(r), codes+" ") }

// DialSMTP connects and says EHLO.
func DialSMTP(address string) (*SMTP, error) { return dialSMTP(address, nil, false) }

// DialSMTPS connects, with TLS first, and says EHLO.
func DialSMTPS(address string, secure *tls.Config) (*SMTP, error) {
	return dialSMTP(address, secure, false)
}

// DialLMTP connects and says LHLO.
func DialLMTP(address string) (*SMTP, error) { return dialSMTP(address, nil, true) }

func dialSMTP(address string, secure *tls.Config, lmtp bool) (*SMTP, error) {
	c, err := dial(address, secure)
	if err != nil {
		return nil, err
	}
	s := &SMTP{conn: c, lmtp: lmtp}
	if r, err := s.Reply(); err != nil || r.Code() != "220" {
		c.Close()
		return nil, fmt.Errorf("greeting %q: %w", r, orUnexpected(err))
	}
	if err := s.hello(); err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

func (s *SMTP) hello() error {
	verb := "EHLO"
	if s.lmtp {
		verb = "LHLO"
	}
	r, err := s.Command("%s client.example", verb)
	if err != nil || !r.OK() {
		return fmt.Errorf("%s: %q: %w", verb, r, orUnexpected(err))
	}
	s.Caps = string(r)
	return nil
}

// StartTLS goes on under TLS.
func (s *SMTP) StartTLS(secure *tls.Config) error {
	r, err := s.Command("STARTTLS")
	if err != nil || r.Code() != "220" {
		return fmt.Errorf("STARTTLS: %q: %w", r, orUnexpected(err))
	}
	if err := s.startTLS(secure); err != nil {
		return err
	}
	return s.hello()
}

// Login logs in by AUTH PLAIN. It returns the answer, whatever it is.
func (s *SMTP) Login(user, password string) (Reply, error) {
	return s.Command("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
}

// Reply reads one reply.
func (s *SMTP) Reply() (Reply, error) {
	var lines []string
	for {
		line, err := s.Line()
		if err != nil {
			return "", err
		}
		lines = append(lines, line)
		if len(line) < 3 {
			return "", fmt.Errorf("not a reply: %q", line)
		}
		if len(line) == 3 || line[3] == ' ' {
			return Reply(strings.Join(lines, "\n")), nil
		}
	}
}

// Command sends a line and reads its reply.
func (s *SMTP) Command(format string, args ...any) (Reply, error) {
	if err := s.Sendf(format, args...); err != nil {
		return "", err
	}
	return s.Reply()
}

// Deliver sends a message to recipients in one transaction, the envelope pipelined. It returns the answers that decide: for SMTP
// the one to the data, or the first refusal before it; for LMTP one for each recipient that was taken (RFC 2033, 4.2). Refused
// recipients are in refused.
func (s *SMTP) Deliver(from string, raw []byte, to ...string) (answers []Reply, refused map[string]Reply, err error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "MAIL FROM:<%s> BODY=8BITMIME\r\n", from)
	for _, r := range to {
		fmt.Fprintf(&b, "RCPT TO:<%s>\r\n", r)
	}
	b.WriteString("DATA\r\n")
	if err := s.Send(b.Bytes()); err != nil {
		return nil, nil, err
	}
	mail, err := s.Reply()
	if err != nil {
		return nil, nil, err
	}
	refused = map[string]Reply{}
	taken := 0
	for _, r := range to {
		answer, err := s.Reply()
		if err != nil {
			return nil, nil, err
		}
		if answer.OK() {
			taken++
		} else {
			refused[r] = answer
		}
	}
	data, err := s.Reply()
	if err != nil {
		return nil, nil, err
	}
	if data.Code() != "354" {
		if !mail.OK() {
			data = mail
		}
		_, err := s.Command("RSET")
		return []Reply{data}, refused, err
	}
	if err := s.Send(Stuffed(raw)); err != nil {
		return nil, nil, err
	}
	if !s.lmtp {
		taken = 1
	}
	for range taken {
		answer, err := s.Reply()
		if err != nil {
			return nil, nil, err
		}
		answers = append(answers, answer)
	}
	return answers, refused, nil
}

// Stuffed is a message as DATA sends it: a dot that begins a line is doubled, and the end is marked (RFC 5321, 4.5.2). CRLF alone
// ends a line, and all data has to end with one: a final bare LF is sent as CRLF, and what ends in neither gets one.
func Stuffed(raw []byte) []byte {
	b := make([]byte, 0, len(raw)+len(raw)/32+8)
	if bytes.HasPrefix(raw, []byte(".")) {
		b = append(b, '.')
	}
	for {
		i := bytes.Index(raw, []byte("\r\n."))
		if i < 0 {
			break
		}
		b = append(b, raw[:i+3]...)
		b = append(b, '.')
		raw = raw[i+3:]
	}
	b = append(b, raw...)
	if len(b) > 0 && !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(bytes.TrimSuffix(b, []byte("\n")), "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

// Quit says goodbye and closes.
func (s *SMTP) Quit() error {
	r, err := s.Command("QUIT")
	if err == nil && r.Code() != "221" {
		err = fmt.Errorf("QUIT: %q", r)
	}
	if closed := s.Close(); err == nil {
		err = closed
	}
	return err
}
