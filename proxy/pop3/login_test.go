package pop3

import (
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"

	"mailraft/proxy"
)

func plain(identity, user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(identity + "\x00" + user + "\x00" + password))
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestCapabilities(t *testing.T) {
	h := serve(t, Config{}, newDrop(t))
	const always = "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\n"
	check := func(where string, c *client, want string) {
		t.Helper()
		if got := c.multi("CAPA"); got != want {
			t.Errorf("%s: %q, want %q", where, got, want)
		}
	}
	c := h.dial()
	c.expect("+OK")
	check("loopback", c, always+"USER\r\nSASL PLAIN LOGIN\r\nSTLS\r\n")
	c.do("STLS", "+OK")
	c = c.startTLS()
	check("after STLS", c, always+"USER\r\nSASL PLAIN LOGIN\r\n")
	c.do("STLS", "-ERR TLS is active already")
	c.do("AUTH PLAIN "+plain("", alice, testPassword), "+OK")
	check("logged in", c, always+"USER\r\nSASL PLAIN LOGIN\r\nIMPLEMENTATION Mailraft\r\n")
	c.do("STLS", "-ERR already logged in")

	far := h.listen(h.srv.Serve, func(l net.Listener) net.Listener { return strangers{l, "192.0.2.1"} })
	c = dial(t, far)
	c.expect("+OK")
	check("from far", c, always+"STLS\r\n")
}

func TestPlaintextRefused(t *testing.T) {
	d := newDrop(t)
	h := serve(t, Config{}, d)
	far := h.listen(h.srv.Serve, func(l net.Listener) net.Listener { return strangers{l, "192.0.2.1"} })
	c := dial(t, far)
	c.expect("+OK")
	c.do("USER "+alice, "-ERR [AUTH] use STLS first")
	c.do("PASS "+testPassword, "-ERR [AUTH] use STLS first")
	c.do("AUTH PLAIN "+plain("", alice, testPassword), "-ERR [AUTH] use STLS first")
	if len(h.logins.seen) > 0 {
		t.Errorf("the node was asked: %d", len(h.logins.seen))
	}
	c.do("STLS", "+OK")
	c = c.startTLS()
	c.do("USER "+alice, "+OK")
	c.do("PASS "+testPassword, "+OK")
	if seen := h.logins.seen[0]; !seen.TLS || seen.Protocol != "pop3" || seen.Remote.String() != "192.0.2.1:4711" {
		t.Errorf("the node was told %v %v %v", seen.TLS, seen.Protocol, seen.Remote)
	}
	c.do("QUIT", "+OK")

	h = serve(t, Config{AllowPlaintextAuth: true}, d)
	c = dial(t, h.listen(h.srv.Serve, func(l net.Listener) net.Listener { return strangers{l, "192.0.2.1"} }))
	c.expect("+OK")
	c.do("USER "+alice, "+OK")
	c.do("PASS "+testPassword, "+OK")
}

// What comes in one packet with STLS was not protected, and must not be carried out behind it.
func TestSTLSDiscardsPlaintext(t *testing.T) {
	h := serve(t, Config{}, newDrop(t))
	c := h.dial()
	c.expect("+OK")
	c.do("USER "+alice, "+OK")
	c.send("STLS\r\nUSER mallory\r\nQUIT\r\n")
	c.expect("+OK")
	c = c.startTLS()
	c.do("PASS "+testPassword, "-ERR send USER first") // the name from before TLS counts no more, nor does mallory
	c.do("USER "+alice, "+OK")
	c.do("PASS "+testPassword, "+OK")
	c.do("QUIT", "+OK")
}

func TestFailedHandshakeEnds(t *testing.T) {
	h := serve(t, Config{}, newDrop(t))
	c := h.dial()
	c.expect("+OK")
	c.do("STLS", "+OK")
	c.send("this is not a ClientHello\r\n")
	for { // an alert may come first
		if _, err := c.r.ReadByte(); err != nil {
			break
		}
	}
}

func TestImplicitTLS(t *testing.T) {
	d := newDrop(t)
	d.add("x\r\n", true)
	h := serve(t, Config{}, d)
	nc, err := net.Dial("tcp", h.tls)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc).startTLS()
	c.expect("+OK mail.example.org")
	c.do("STLS", "-ERR TLS is active already")
	c.do("USER "+alice, "+OK")
	c.do("PASS "+testPassword, "+OK")
	if got := c.multi("RETR 1"); got != "x\r\n" {
		t.Errorf("RETR: %q", got)
	}
	c.do("QUIT", "+OK")
	c.expectEOF()
}

func TestSASL(t *testing.T) {
	h := serve(t, Config{MaxLoginFailures: 99, MaxBadCommands: 99}, newDrop(t))
	good := plain("", alice, testPassword)
	for name, steps := range map[string][][2]string{
		"initial response":    {{"AUTH PLAIN " + good, "+OK"}},
		"lower case":          {{"auth plain " + good, "+OK"}},
		"challenge":           {{"AUTH PLAIN", "+ "}, {good, "+OK"}},
		"own identity":        {{"AUTH PLAIN " + plain(alice, alice, testPassword), "+OK"}},
		"another identity":    {{"AUTH PLAIN " + plain("bob@example.org", alice, testPassword), "-ERR [AUTH]"}, {"NOOP", "-ERR log in"}},
		"empty initial":       {{"AUTH PLAIN =", "-ERR malformed SASL"}},
		"LOGIN":               {{"AUTH LOGIN", "+ " + encoded("Username:")}, {encoded(alice), "+ " + encoded("Password:")}, {encoded(testPassword), "+OK"}},
		"LOGIN with name":     {{"auth login " + encoded(alice), "+ " + encoded("Password:")}, {encoded(testPassword), "+OK"}},
		"LOGIN, wrong":        {{"AUTH LOGIN " + encoded(alice), "+ "}, {encoded("wrong"), "-ERR [AUTH] wrong"}},
		"LOGIN, nothing":      {{"AUTH LOGIN =", "+ "}, {encoded(testPassword), "-ERR [AUTH] wrong"}, {"NOOP", "-ERR log in"}},
		"LOGIN, cancelled":    {{"AUTH LOGIN " + encoded(alice), "+ "}, {"*", "-ERR SASL exchange cancelled"}, {"NOOP", "-ERR log in"}},
		"cancelled":           {{"AUTH PLAIN", "+ "}, {"*", "-ERR SASL exchange cancelled"}, {"AUTH PLAIN " + good, "+OK"}},
		"no base64":           {{"AUTH PLAIN", "+ "}, {"!!!", "-ERR malformed base64"}},
		"wrong password":      {{"AUTH PLAIN " + plain("", alice, "wrong"), "-ERR [AUTH] wrong"}, {"AUTH PLAIN " + good, "+OK"}},
		"no password":         {{"AUTH PLAIN " + plain("", alice, ""), "-ERR [AUTH] wrong"}},
		"no UTF-8":            {{"AUTH PLAIN " + plain("", alice, "\xff"), "-ERR [AUTH] wrong"}},
		"two fields":          {{"AUTH PLAIN " + encoded("a\x00b"), "-ERR malformed SASL"}},
		"unknown mechanism":   {{"AUTH SCRAM-SHA-1", "-ERR unknown SASL mechanism"}},
		"no mechanism":        {{"AUTH", "-ERR wrong number"}},
		"long response":       {{"AUTH PLAIN", "+ "}, {plain("", alice, strings.Repeat("x", 255)), "-ERR [AUTH] wrong"}},
		"overlong response":   {{"AUTH PLAIN", "+ "}, {strings.Repeat("A", 5000), "-ERR line too long"}, {"AUTH PLAIN " + good, "+OK"}},
		"NUL in the password": {{"AUTH PLAIN " + plain("", alice, testPassword+"\x00"), "-ERR malformed SASL"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, h.plain)
			c.expect("+OK")
			for _, step := range steps {
				c.do(step[0], step[1])
			}
			c.do("QUIT", "+OK")
		})
	}
}

// A pipelined command behind a SASL exchange must not be damaged by the wiping of the exchange's lines.
func TestSASLPipelined(t *testing.T) {
	c := serve(t, Config{}, newDrop(t)).dial()
	c.expect("+OK")
	c.send("AUTH PLAIN\r\n" + plain("", alice, testPassword) + "\r\nSTAT\r\nUIDL\r\nQUIT\r\n")
	for _, want := range []string{"+ ", "+OK maildrop ready", "+OK 0 0", "+OK listing", ".", "+OK bye"} {
		c.expect(want)
	}
}

func TestLoginFailures(t *testing.T) {
	h := serve(t, Config{MaxLoginFailures: 3}, newDrop(t))
	c := h.dial()
	c.expect("+OK")
	c.do("USER nobody@example.org", "+OK")
	c.do("PASS hunter2", "-ERR [AUTH] wrong user name or password")
	c.do("PASS "+testPassword, "-ERR send USER first")
	c.do("USER "+alice, "+OK")
	c.do("PASS hunter2", "-ERR [AUTH] wrong user name or password")
	c.do("AUTH PLAIN "+plain("", alice, "hunter2"), "-ERR [AUTH] wrong user name or password")
	c.expectEOF()
	for _, secret := range []string{"hunter2", testPassword, plain("", alice, "hunter2")} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log tells %q", secret)
		}
	}
}

func TestNodeTrouble(t *testing.T) {
	d := newDrop(t)
	h := serve(t, Config{MaxLoginFailures: 9}, d)
	c := h.dial()
	c.expect("+OK")
	for _, err := range []error{proxy.ErrTemporary, errors.New("anything else")} {
		h.logins.mu.Lock()
		h.logins.err = err
		h.logins.mu.Unlock()
		c.do("USER "+alice, "+OK")
		c.do("PASS "+testPassword, "-ERR [SYS/TEMP]")
	}
	h.logins.mu.Lock()
	h.logins.err = nil
	h.logins.homes["bob@example.org"] = d.home + "/missing"
	h.logins.mu.Unlock()
	c.do("USER bob@example.org", "+OK")
	c.do("PASS "+testPassword, "-ERR [SYS/TEMP] the maildrop cannot be locked")
	<-h.logins.last().closed
}

func TestMalformedIndex(t *testing.T) {
	d := newDrop(t)
	d.index.UIDNext = 0
	d.index.UIDValidity = 0
	d.add("x\r\n", true)
	h := serve(t, Config{}, d)
	c := h.dial()
	c.expect("+OK")
	c.do("USER "+alice, "+OK")
	c.do("PASS "+testPassword, "-ERR [SYS/PERM] the maildrop cannot be opened")
	<-h.logins.last().closed
	if n := len(d.flags()); n > 0 {
		t.Errorf("%d lock files left", n)
	}
}
