package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"strconv"
	"strings"
)

// IMAP is a client of IMAP.
type IMAP struct {
	*conn
	tag int
}

// Response is one response of an IMAP server. Its text has "{n}" where literals were, which follow in order.
type Response struct {
	Text     string
	Literals [][]byte
}

// DialIMAP connects; with a TLS configuration, TLS comes first.
func DialIMAP(address string, secure *tls.Config) (*IMAP, error) {
	c, err := dial(address, secure)
	if err != nil {
		return nil, err
	}
	i := &IMAP{conn: c}
	r, err := i.Response()
	if err != nil || !strings.HasPrefix(r.Text, "* OK") {
		c.Close()
		return nil, fmt.Errorf("greeting %q: %w", r.Text, orUnexpected(err))
	}
	return i, nil
}

// errUnexpected is what an answer is that cannot be right.
var errUnexpected = errors.New("unexpected answer")

func orUnexpected(err error) error {
	if err == nil {
		return errUnexpected
	}
	return err
}

var literalEnd = regexp.MustCompile(`~?\{(\d+)\}$`)

// Response reads one response.
func (i *IMAP) Response() (Response, error) {
	var r Response
	for {
		line, err := i.Line()
		if err != nil {
			return r, err
		}
		m := literalEnd.FindStringSubmatch(line)
		if m == nil {
			r.Text += line
			return r, nil
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return r, err
		}
		r.Text += line[:len(line)-len(m[0])] + "{" + m[1] + "}"
		literal, err := i.octets(n)
		if err != nil {
			return r, err
		}
		r.Literals = append(r.Literals, literal)
	}
}

// Command sends a command and reads up to its completion, which must be OK. Untagged responses are given back.
func (i *IMAP) Command(format string, args ...any) ([]Response, error) {
	var all []Response
	for r, err := range i.Stream(format, args...) {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// Stream sends a command and yields its untagged responses while they come. An error, or a completion that is not OK, is
// yielded last.
func (i *IMAP) Stream(format string, args ...any) iter.Seq2[Response, error] {
	return func(yield func(Response, error) bool) {
		command := fmt.Sprintf(format, args...)
		tag, err := i.Start(command)
		if err != nil {
			yield(Response{}, err)
			return
		}
		for {
			r, err := i.Response()
			if err != nil {
				yield(r, fmt.Errorf("%s: %w", firstWords(command), err))
				return
			}
			if done, ok := strings.CutPrefix(r.Text, tag+" "); ok {
				if !strings.HasPrefix(done, "OK") {
					yield(r, fmt.Errorf("%s: %s", firstWords(command), done))
				}
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Start sends a command and returns its tag.
func (i *IMAP) Start(command string) (string, error) {
	i.tag++
	tag := fmt.Sprintf("t%d", i.tag)
	return tag, i.Sendf("%s %s", tag, command)
}

// firstWords names a command in an error, without what it carried.
func firstWords(command string) string {
	words := strings.Fields(command)
	return strings.Join(words[:min(2, len(words))], " ")
}

// Login logs in.
func (i *IMAP) Login(user, password string) error {
	_, err := i.Command("LOGIN %s %s", quote(user), quote(password))
	return err
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Append stores a message in a folder.
func (i *IMAP) Append(folder, flags string, raw []byte) error {
	tag, err := i.Start(fmt.Sprintf("APPEND %s (%s) {%d}", quote(folder), flags, len(raw)))
	if err != nil {
		return err
	}
	if r, err := i.Response(); err != nil || !strings.HasPrefix(r.Text, "+") {
		return fmt.Errorf("APPEND: %q: %w", r.Text, orUnexpected(err))
	}
	if err := i.Send(append(raw[:len(raw):len(raw)], "\r\n"...)); err != nil {
		return err
	}
	for {
		r, err := i.Response()
		if err != nil {
			return err
		}
		if done, ok := strings.CutPrefix(r.Text, tag+" "); ok {
			if !strings.HasPrefix(done, "OK") {
				return fmt.Errorf("APPEND: %s", done)
			}
			return nil
		}
	}
}

// Idle begins IDLE; End ends it. Between them, Response reads what is told.
func (i *IMAP) Idle() (tag string, err error) {
	if tag, err = i.Start("IDLE"); err != nil {
		return "", err
	}
	r, err := i.Response()
	if err != nil || !strings.HasPrefix(r.Text, "+") {
		return "", fmt.Errorf("IDLE: %q: %w", r.Text, orUnexpected(err))
	}
	return tag, nil
}

// End ends IDLE and returns what was told meanwhile.
func (i *IMAP) End(tag string) ([]Response, error) {
	if err := i.Sendf("DONE"); err != nil {
		return nil, err
	}
	var all []Response
	for {
		r, err := i.Response()
		if err != nil {
			return all, err
		}
		if strings.HasPrefix(r.Text, tag+" OK") {
			return all, nil
		}
		all = append(all, r)
	}
}

// Logout says goodbye and closes.
func (i *IMAP) Logout() error {
	_, err := i.Command("LOGOUT")
	if closed := i.Close(); err == nil {
		err = closed
	}
	return err
}
