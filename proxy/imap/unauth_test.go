package imap

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"mailraft/proxy"
)

func plain(identity, user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(identity + "\x00" + user + "\x00" + password))
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestLoginWays(t *testing.T) {
	w := newWorld(t)
	quoted := `"` + testPassword + `"`
	for name, dialogue := range map[string][]string{
		"quoted":           {"a LOGIN " + testUser + " " + quoted},
		"literals":         {"a LOGIN {17}", "+ ", testUser + " {13}", "+ ", testPassword},
		"non-sync":         {"a LOGIN {17+}\r\n" + testUser + " {13+}\r\n" + testPassword},
		"initial response": {"a AUTHENTICATE PLAIN " + plain("", testUser, testPassword)},
		"no initial":       {"a authenticate plain", "+ ", plain("", testUser, testPassword)},
		"own identity":     {"a AUTHENTICATE PLAIN " + plain(testUser, testUser, testPassword)},
		"SASL LOGIN":       {"a AUTHENTICATE LOGIN", "+ " + encoded("Username:"), encoded(testUser), "+ " + encoded("Password:"), encoded(testPassword)},
		"SASL LOGIN, name": {"a authenticate login " + encoded(testUser), "+ " + encoded("Password:"), encoded(testPassword)},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			c := w.dial()
			for _, line := range dialogue {
				if strings.HasPrefix(line, "+") {
					c.want(line)
				} else {
					c.send(line + "\r\n")
				}
			}
			if answer := c.want("a OK [CAPABILITY "); !strings.Contains(answer, "IDLE") {
				t.Errorf("no capabilities of the authenticated state: %q", answer)
			}
			c.ok("SELECT INBOX")
			c.fails("LOGIN a b", "BAD")
		})
	}
}

func TestLoginRefusals(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxFailedLogins = 100 })
	c := w.dial()
	c.fails("LOGIN "+testUser+" wrong", "NO [AUTHENTICATIONFAILED]")
	c.fails("LOGIN nobody "+testPassword, "BAD")
	c.fails(`LOGIN "" ""`, "NO [AUTHENTICATIONFAILED]")
	c.fails("LOGIN broken x", "NO [UNAVAILABLE]")
	c.fails("LOGIN", "BAD")
	c.fails("LOGIN a", "BAD")
	c.fails("AUTHENTICATE", "BAD")
	c.fails("AUTHENTICATE SCRAM-SHA-1", "NO")
	c.fails("AUTHENTICATE PLAIN !", "BAD")
	c.fails("AUTHENTICATE PLAIN "+plain("carol", testUser, testPassword), "NO [AUTHORIZATIONFAILED]")
	c.fails("AUTHENTICATE PLAIN "+plain("", testUser, "wrong"), "NO [AUTHENTICATIONFAILED]")
	c.fails("AUTHENTICATE PLAIN "+plain("", testUser, ""), "NO [AUTHENTICATIONFAILED]")
	c.fails("AUTHENTICATE PLAIN "+plain("", testUser, "\xff"), "NO [AUTHENTICATIONFAILED]")
	c.fails("AUTHENTICATE PLAIN =", "BAD")
	c.fails("SELECT INBOX", "BAD")
	c.fails("FETCH 1 FLAGS", "BAD")

	c.send("a AUTHENTICATE PLAIN\r\n")
	c.want("+ ")
	c.send("*\r\n")
	c.want("a BAD")
	c.send("b AUTHENTICATE PLAIN\r\n")
	c.want("+ ")
	c.send("...\r\n")
	c.want("b BAD")
	c.send("b AUTHENTICATE LOGIN " + encoded(testUser) + "\r\n")
	c.want("+ ")
	c.send(encoded("wrong") + "\r\n")
	c.want("b NO [AUTHENTICATIONFAILED]")

	// What a client sends of its own accord with a refused command must not be taken for commands.
	c.send("c APPEND INBOX {12+}\r\nd LOGIN a b\n\r\n")
	c.want("c BAD")
	c.ok("NOOP")
	if log := w.log.String(); strings.Contains(log, "wrong") || strings.Contains(log, testPassword) {
		t.Errorf("a password was logged:\n%s", log)
	}
}

func TestTooManyFailedLogins(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxFailedLogins = 2 })
	c := w.dial()
	c.fails("LOGIN a wrong", "NO [AUTHENTICATIONFAILED]")
	c.fails("LOGIN a wrong", "NO [AUTHENTICATIONFAILED]")
	c.want("* BYE")
	c.closed()
}

// Guessing passwords gets slower with each one, and no shutdown waits for that.
func TestFailedLoginsAreHeldBack(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.FailureDelay = 50 * time.Millisecond })
	c := w.dial()
	for n := 1; n <= 3; n++ {
		begun := time.Now()
		c.fails([]string{"LOGIN a wrong", "AUTHENTICATE PLAIN " + plain("", "a", "wrong"), `LOGIN "" ""`}[n-1], "NO [AUTHENTICATIONFAILED]")
		if took := time.Since(begun); took < time.Duration(n)*50*time.Millisecond {
			t.Errorf("answer %d came after %v", n, took)
		}
	}
	w = newWorld(t, func(c *Config) { c.FailureDelay = time.Hour })
	c = w.dial()
	c.send("a NOOP\r\nb LOGIN a wrong\r\n")
	c.want("a OK") // what came before is answered now
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	c.want("b NO [AUTHENTICATIONFAILED]")
	c.want("* BYE")
}

// panicking services are a node gone mad.
type panicking struct{ proxy.Logins }

func (p panicking) Login(ctx context.Context, c proxy.Credentials) (proxy.Session, error) {
	if c.Username == "mad" {
		panic("in a login")
	}
	return p.Logins.Login(ctx, c)
}

func (panicking) Watch(context.Context, string) (<-chan proxy.Change, error) {
	panic("in the change feed")
}

// A panic ends the connection that had it, and no other.
func TestPanicsAreCaught(t *testing.T) {
	w := newWorld(t)
	var log syncBuffer
	s := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, panicking{w.logins}, panicking{})
	s.readIndex = w.keeper.read
	w.address = w.listen(s.Serve)
	other := w.login()
	c := w.dial()
	c.send("a LOGIN mad mad\r\n")
	c.closed()
	c = w.login()
	c.send("a SELECT INBOX\r\n")
	c.until("a")
	c.want("* BYE Internal error")
	c.closed()
	other.ok("NOOP")
	other.ok("LOGOUT")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "panic"); n < 2 || !strings.Contains(log.String(), "in the change feed") {
		t.Errorf("logged:\n%s", log.String())
	}
	for _, session := range w.logins.open {
		<-session.closed
	}
}

func TestPreAuthCommands(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	c.gives(`ID ("name" "test")`, `* ID ("name" "Mailraft")`)
	c.ok("NOOP")
	c.fails("CAPABILITY x", "BAD")
	c.gives("LOGOUT", "* BYE")
	c.closed()

	// A browser that was lured here (cross-protocol attack).
	c = w.dial()
	c.send("POST / HTTP/1.1\r\nHost: x\r\n")
	c.want("POST BAD")
	c.want("Host: BAD")
	c.want("* BYE")
	c.conn.Close()
}

// notLocal makes connections look as if they came from elsewhere.
type notLocal struct{ net.Listener }

type elsewhere struct{ net.Conn }

func (l notLocal) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return elsewhere{c}, nil
}

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func TestNoPasswordsInPlainText(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		w := newWorld(t, func(c *Config) { c.AllowPlaintextAuth = allowed })
		w.address = w.listen(func(l net.Listener) error { return w.server.Serve(notLocal{l}) })
		c := w.dial()
		caps := strings.Join(c.ok("CAPABILITY"), "")
		if strings.Contains(caps, "LOGINDISABLED") == allowed || strings.Contains(caps, "AUTH=") != allowed {
			t.Errorf("allowed %v: %s", allowed, caps)
		}
		if allowed {
			c.ok(`LOGIN ` + testUser + ` "` + testPassword + `"`)
			continue
		}
		c.fails(`LOGIN `+testUser+` "`+testPassword+`"`, "NO [PRIVACYREQUIRED]")
		c.fails("AUTHENTICATE PLAIN "+plain("", testUser, testPassword), "NO [PRIVACYREQUIRED]")
		c.fails("LOGIN {5}", "NO [PRIVACYREQUIRED]") // not asked to go on
		c.fails("LOGIN {5+}\r\nalice {6+}\r\nsecret", "NO [PRIVACYREQUIRED]")
		c.ok("NOOP")
	}
}

func TestLoginTimeout(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LoginTimeout = 50 * time.Millisecond })
	c := w.dial()
	c.want("* BYE")
	c.closed()

	// A TLS client that never shakes hands.
	conn, err := net.Dial("tcp", w.tlsAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("not closed: %v", err)
	}
}

func TestIdleTimeout(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.IdleTimeout = 50 * time.Millisecond })
	c := w.login()
	c.want("* BYE")
	c.closed()
	c = w.login()
	c.send("a IDLE\r\n")
	c.want("+ ")
	c.want("* BYE")
	c.closed()
}

func TestConnectionLimits(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxConnectionsPerIP = 2 })
	for range 3 { // this machine's own, a webmail server's for example, have no limit of their own
		w.dial()
	}
	w.address = w.listen(func(l net.Listener) error { return w.server.Serve(notLocal{l}) })
	first := w.dial()
	w.dial()
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "* BYE [UNAVAILABLE] Too many") {
		t.Errorf("got %q, %v", b, err)
	}
	first.ok("LOGOUT")
	first.closed()
	w.dial()

	w = newWorld(t, func(c *Config) { c.MaxConnections = 1 })
	w.dial()
	if conn, err = net.Dial("tcp", w.address); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "* BYE [UNAVAILABLE] Too many") {
		t.Errorf("got %q, %v", b, err)
	}
}
