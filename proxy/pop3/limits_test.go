package pop3

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"mailraft/proxy"
)

func TestConnectionLimit(t *testing.T) {
	h := serve(t, Config{MaxConnections: 2}, newDrop(t))
	first := h.dial()
	first.expect("+OK")
	second := h.dial()
	second.expect("+OK")
	h.dial().expect("-ERR [SYS/TEMP] too many connections")
	dial(t, h.tls).expectEOF()
	first.do("QUIT", "+OK")
	first.expectEOF()
	for { // a place is free once the server has seen to the end of the first
		c := h.dial()
		if strings.HasPrefix(c.line(), "+OK") {
			return
		}
	}
}

func TestAuthTimeout(t *testing.T) {
	h := serve(t, Config{AuthTimeout: 100 * time.Millisecond}, newDrop(t))
	c := h.dial()
	c.expect("+OK")
	c.do("USER "+alice, "+OK")
	c.expectEOF()
	dial(t, h.tls).expectEOF() // no ClientHello
}

// A client that takes nothing of what it asked for is dropped.
func TestWriteTimeout(t *testing.T) {
	d := newDrop(t)
	d.add(strings.Repeat("x\r\n", 8<<20), true)
	h := serve(t, Config{WriteTimeout: 100 * time.Millisecond}, d)
	c := h.login()
	c.send("RETR 1\r\nDELE 1\r\nQUIT\r\n")
	<-h.logins.last().closed
	if n := d.files(); n != 1 {
		t.Errorf("%d messages left, want 1", n)
	}
}

// Shutdown lets a command end, but begins no other.
func TestShutdownLetsCommandsEnd(t *testing.T) {
	d := newDrop(t)
	text := strings.Repeat("x\r\n", 8<<20)
	d.add(text, true)
	h := serve(t, Config{}, d)
	c := h.login()
	c.send("RETR 1\r\nDELE 1\r\nQUIT\r\n")
	c.expect("+OK")
	ended := make(chan error)
	go func() { ended <- h.srv.Shutdown(context.Background()) }()
	<-h.srv.ctx.Done()
	if got := c.body(); got != text {
		t.Errorf("RETR gave %d octets, want %d", len(got), len(text))
	}
	c.expectEOF()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := d.files(); n != 1 {
		t.Errorf("%d messages left, want 1", n)
	}
}

// Shutdown breaks connections when its time is over.
func TestShutdownEnds(t *testing.T) {
	d := newDrop(t)
	d.add(strings.Repeat("x\r\n", 8<<20), true)
	h := serve(t, Config{}, d)
	c := h.login()
	c.send("RETR 1\r\n")
	c.expect("+OK")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	<-h.logins.last().closed
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.srv.Serve(l); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// crash is a node whose answer nobody expected.
type crash struct{ proxy.Logins }

func (crash) Login(context.Context, proxy.Credentials) (proxy.Session, error) { panic("unexpected") }

// A panic costs one connection, not the server.
func TestPanic(t *testing.T) {
	h := serve(t, Config{}, newDrop(t), func(s *Server) { s.logins = crash{} })
	c := h.dial()
	c.expect("+OK")
	c.do("USER "+alice, "+OK")
	c.send("PASS " + testPassword + "\r\n")
	c.expectEOF()
	h.dial().expect("+OK")
	if log := h.log.String(); !strings.Contains(log, "panic=unexpected") || strings.Contains(log, testPassword) {
		t.Errorf("log: %s", log)
	}
}
