package imap

import (
	"bufio"
	"crypto/tls"
	"strings"
	"testing"
)

// dialTLS connects with TLS from the first byte.
func (w *world) dialTLS() *raw {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.tlsAddr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return newRaw(w.t, conn)
}

func TestImplicitTLS(t *testing.T) {
	w := newWorld(t)
	c := w.dialTLS()
	caps := c.ok("CAPABILITY")
	if contains(caps, "STARTTLS") || !contains(caps, "AUTH=PLAIN") || !contains(caps, "AUTH=LOGIN") {
		t.Errorf("capabilities under TLS: %q", caps)
	}
	c.ok(`LOGIN ` + testUser + ` "` + testPassword + `"`)
	c.ok("SELECT INBOX")
	c.ok("LOGOUT")
	c.closed() // with TLS's own goodbye, else this is an unexpected EOF
}

func TestSTARTTLS(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	if caps := c.ok("CAPABILITY"); !contains(caps, "STARTTLS") {
		t.Errorf("no STARTTLS: %q", caps)
	}
	c.ok("STARTTLS")
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	c.conn, c.r = conn, bufio.NewReader(conn)
	if caps := c.ok("CAPABILITY"); contains(caps, "STARTTLS") {
		t.Errorf("STARTTLS within TLS: %q", caps)
	}
	c.fails("STARTTLS", "BAD")
	c.ok(`LOGIN ` + testUser + ` "` + testPassword + `"`)
	c.gives("STATUS INBOX (MESSAGES)", "MESSAGES 0")
	c.fails("STARTTLS", "BAD")
}

// What is sent in plain text behind STARTTLS must never count as sent under TLS (CVE-2011-0411).
func TestSTARTTLSInjection(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	c.send("a STARTTLS\r\nb NOOP\r\n")
	if line := c.line(); !strings.HasPrefix(line, "a BAD") {
		t.Errorf("got %q", line)
	}
	c.want("* BYE")
	c.closed()
}
