package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	netsmtp "net/smtp"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/proxy"
)

const testPassword = "secret pass"

// logins lets everybody of example.org in whose password is testPassword.
type logins struct {
	proxy.Logins // no more than Login is asked for
	mu           sync.Mutex
	seen         []proxy.Credentials
	sessions     []*testSession
}

type testSession struct {
	account string
	done    chan struct{}
	closed  chan struct{}
}

func (s *testSession) Mailbox() proxy.Mailbox { return proxy.Mailbox{Account: s.account} }
func (s *testSession) Done() <-chan struct{}  { return s.done }
func (s *testSession) Close() error           { close(s.closed); return nil }

func (l *logins) Login(_ context.Context, c proxy.Credentials) (proxy.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, c)
	switch {
	case c.Username == "broken@example.org":
		return nil, proxy.ErrTemporary
	case !strings.HasSuffix(c.Username, "@example.org") || c.Password != testPassword:
		return nil, proxy.ErrAuthentication
	}
	s := &testSession{c.Username, make(chan struct{}), make(chan struct{})}
	l.sessions = append(l.sessions, s)
	return s, nil
}

func (l *logins) last() *testSession {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[len(l.sessions)-1]
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func plain(identity, user, password string) string {
	return encoded(identity + "\x00" + user + "\x00" + password)
}

// submissionHouse has alice, bob and some aliases.
func submissionHouse(t testing.TB) *house {
	h := newHouse(t, "alice@example.org", "bob@example.org")
	h.aliases["sales@example.org"] = []string{"alice@example.org"}
	h.aliases["team@example.org"] = []string{"bob@example.org", "alice@example.org"}
	h.aliases["älice@example.org"] = []string{"alice@example.org"}
	h.aliases["empty@example.org"] = nil
	h.aliases["full@example.org"], h.errs["full@example.org"] = []string{"alice@example.org"}, proxy.ErrOverQuota
	h.aliases["fuller@example.org"], h.errs["fuller@example.org"] = []string{"bob@example.org"}, proxy.ErrOverQuota
	h.errs["slow@example.org"] = proxy.ErrTemporary
	return h
}

// quick is a submission server's configuration for tests that do not wait.
func quick(l proxy.Logins) Config {
	return Config{Logins: l, FailureDelay: time.Nanosecond, MaxBadCommands: 100, MaxLoginFailures: 100, MaxRefusedRecipients: 100}
}

// far is how a connection looks that comes from another machine.
type far struct{ net.Listener }

func (f far) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return pipeConn{c, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711}}, nil
}

// listenBy has a server serve one more listener.
func listenBy(t testing.TB, serve func(net.Listener) error, wrap func(net.Listener) net.Listener) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	go serve(wrap(l))
	return address
}

func asItIs(l net.Listener) net.Listener { return l }

// secure does the client's side of a handshake.
func (c *client) secure(cfg *tls.Config) *client {
	c.t.Helper()
	secured := tls.Client(c.Conn, cfg)
	if err := secured.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, secured)
}

func (c *client) logIn(user string) {
	c.t.Helper()
	c.dialogue("C: EHLO client.example\nS: 250-\nC: AUTH PLAIN " + plain("", user, testPassword) + "\nS: 235 2.7.0")
}

func TestAuthDialogues(t *testing.T) {
	h := submissionHouse(t)
	l := &logins{}
	_, address := run(t, quick(l), h)
	good, wrong := plain("", "alice@example.org", testPassword), plain("", "alice@example.org", "wrong")
	user, word := encoded("alice@example.org"), encoded(testPassword)
	for name, script := range map[string]string{
		"initial response":   "C: AUTH PLAIN " + good + "\nS: 235 2.7.0",
		"lower case, spaces": "C: auth  plain " + good + " \nS: 235 2.7.0",
		"challenge":          "C: AUTH PLAIN\nS: 334 \nC: " + good + "\nS: 235 2.7.0",
		"LOGIN":              "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: " + user + "\nS: 334 UGFzc3dvcmQ6\nC: " + word + "\nS: 235 2.7.0",
		"LOGIN with name":    "C: AUTH LOGIN " + user + "\nS: 334 UGFzc3dvcmQ6\nC: " + word + "\nS: 235 2.7.0",
		"own identity":       "C: AUTH PLAIN " + plain("alice@example.org", "alice@example.org", testPassword) + "\nS: 235 2.7.0",
		"another identity":   "C: AUTH PLAIN " + plain("bob@example.org", "alice@example.org", testPassword) + "\nS: 535 5.7.8",
		"wrong":              "C: AUTH PLAIN " + wrong + "\nS: 535 5.7.8\nC: AUTH PLAIN " + good + "\nS: 235 2.7.0",
		"LOGIN, wrong":       "C: AUTH LOGIN\nS: 334 \nC: " + user + "\nS: 334 \nC: " + user + "\nS: 535 5.7.8",
		"no password":        "C: AUTH PLAIN " + plain("", "alice@example.org", "") + "\nS: 535 5.7.8",
		"node in trouble":    "C: AUTH PLAIN " + plain("", "broken@example.org", testPassword) + "\nS: 454 4.7.0\nC: AUTH PLAIN " + good + "\nS: 235",
		"empty initial":      "C: AUTH PLAIN =\nS: 501 5.5.2",
		"empty name":         "C: AUTH LOGIN =\nS: 334 UGFzc3dvcmQ6\nC: " + word + "\nS: 535 5.7.8",
		"cancelled":          "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501 5.7.0\nC: AUTH LOGIN\nS: 334 \nC: " + user + "\nS: 334 \nC: *\nS: 501 5.7.0",
		"no base64":          "C: AUTH PLAIN !\nS: 501 5.5.2\nC: AUTH PLAIN\nS: 334 \nC: !\nS: 501 5.5.2\nC: AUTH PLAIN\nS: 334 \nC: =\nS: 501 5.5.2",
		"more words":         "C: AUTH PLAIN " + good + " more\nS: 501 5.5.2",
		"two fields":         "C: AUTH PLAIN " + encoded("a\x00b") + "\nS: 501 5.5.2",
		"long response":      "C: AUTH PLAIN\nS: 334 \nC: " + encoded(strings.Repeat("x", 9000)) + "\nS: 501 5.5.2",
		"too long response":  "C: AUTH PLAIN\nS: 334 \nC: " + strings.Repeat("A", 12300) + "\nS: 500 5.5.6\nC: AUTH PLAIN " + good + "\nS: 235",
		"unknown mechanism":  "C: AUTH CRAM-MD5\nS: 504 5.5.4",
		"no mechanism":       "C: AUTH\nS: 501 5.5.4",
		"a second time":      "C: AUTH PLAIN " + good + "\nS: 235 2.7.0\nC: AUTH PLAIN " + good + "\nS: 503 5.5.1",
		"in a transaction": "C: AUTH PLAIN " + good + "\nS: 235\nC: MAIL FROM:<alice@example.org>\nS: 250\n" +
			"C: AUTH PLAIN " + good + "\nS: 503 5.5.1\nC: RCPT TO:<bob@example.org>\nS: 250",
		"before it": "C: MAIL FROM:<alice@example.org>\nS: 530 5.7.0\nC: RCPT TO:<bob@example.org>\nS: 503 5.5.1\nC: DATA\nS: 503 5.5.1\n" +
			"C: NOOP\nS: 250\nC: RSET\nS: 250\nC: AUTH PLAIN " + wrong + "\nS: 535\nC: MAIL FROM:<alice@example.org>\nS: 530 5.7.0",
		"HELO":                "C: HELO client.example\nS: 250 mx\nC: AUTH PLAIN " + good + "\nS: 503 5.5.1",
		"EHLO keeps it":       "C: AUTH PLAIN " + good + "\nS: 235\nC: EHLO client.example\nS: 250-\nC: MAIL FROM:<alice@example.org>\nS: 250",
		"a response too many": "C: AUTH PLAIN " + good + "\nS: 235\nC: " + good + "\nS: 500 5.5.1",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, address)
			c.expect("220 ")
			c.dialogue("C: EHLO client.example\nS: 250-")
			c.dialogue(script)
			c.dialogue("C: QUIT\nS: 221")
		})
	}
	c := dial(t, address)
	c.expect("220 ")
	c.dialogue("C: AUTH PLAIN " + good + "\nS: 503 5.5.1\nC: MAIL FROM:<a@example.com>\nS: 503 5.5.1") // not greeted
	for _, s := range l.sessions {
		<-s.closed
	}
	for _, seen := range l.seen {
		if seen.Protocol != "submission" || seen.TLS || seen.Remote == nil {
			t.Errorf("the node was told %q, TLS %v, %v", seen.Protocol, seen.TLS, seen.Remote)
		}
	}
}

// No AUTH where nobody is to log in.
func TestAuthElsewhere(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		_, address := run(t, Config{LMTP: lmtp}, submissionHouse(t))
		c := dial(t, address)
		c.expect("220 ")
		hello := "EHLO"
		if lmtp {
			hello = "LHLO"
		}
		c.send(hello + " client.example\r\n")
		if r := c.reply(); strings.Contains(r, "AUTH") {
			t.Errorf("%s", r)
		}
		c.dialogue("C: AUTH PLAIN " + plain("", "alice@example.org", testPassword) + "\nS: 502 5.5.1\n" +
			"C: MAIL FROM:<a@example.com> AUTH=<>\nS: 555 5.5.4")
	}
}

// Passwords cross an unprotected connection from another machine only where that is allowed.
func TestAuthNeedsTLS(t *testing.T) {
	serverTLS, clientTLS := tlsConfigs(t)
	good := plain("", "alice@example.org", testPassword)
	for _, allowed := range []bool{false, true} {
		l := &logins{}
		cfg := quick(l)
		cfg.TLSConfig, cfg.AllowPlaintextAuth = serverTLS, allowed
		s, _ := run(t, cfg, submissionHouse(t))
		c := dial(t, listenBy(t, s.Serve, func(l net.Listener) net.Listener { return far{l} }))
		c.expect("220 ")
		c.send("EHLO client.example\r\n")
		if r := c.reply(); strings.Contains(r, "\n250-AUTH PLAIN LOGIN\n") != allowed || !strings.Contains(r, "STARTTLS") {
			t.Errorf("allowed %v: %s", allowed, r)
		}
		if allowed {
			c.dialogue("C: MAIL FROM:<alice@example.org>\nS: 530 5.7.0 Auth\nC: AUTH PLAIN " + good + "\nS: 235")
		} else {
			c.dialogue("C: MAIL FROM:<alice@example.org>\nS: 530 5.7.0 Must issue a STARTTLS\nC: AUTH PLAIN " + good + "\nS: 538 5.7.11")
			if len(l.seen) > 0 {
				t.Error("the node was asked")
			}
		}
		c.dialogue("C: STARTTLS\nS: 220")
		c = c.secure(clientTLS)
		c.send("AUTH PLAIN " + good + "\r\n")
		c.expect("503 5.5.1") // not greeted
		c.send("EHLO client.example\r\n")
		if r := c.reply(); !strings.Contains(r, "\n250-AUTH PLAIN LOGIN\n") || strings.Contains(r, "STARTTLS") {
			t.Errorf("over TLS: %s", r)
		}
		c.dialogue("C: MAIL FROM:<alice@example.org>\nS: 530 5.7.0 Auth\nC: AUTH PLAIN " + good + "\nS: 235\nC: MAIL FROM:<alice@example.org>\nS: 250")
		if allowed {
			<-l.sessions[0].closed // that of before STARTTLS
		}
		if last := l.seen[len(l.seen)-1]; !last.TLS || last.Remote.String() != "192.0.2.1:4711" {
			t.Errorf("the node was told TLS %v, %v", last.TLS, last.Remote)
		}
	}
}

func TestWhoseSender(t *testing.T) {
	_, address := run(t, quick(&logins{}), submissionHouse(t))
	c := dial(t, address)
	c.expect("220 ")
	c.logIn("alice@example.org")
	for sender, want := range map[string]string{
		"<alice@example.org>":                 "250 2.1.0",
		"<alice+detail@example.org>":          "250 2.1.0",
		"<sales@example.org>":                 "250 2.1.0",
		"<team@example.org>":                  "250 2.1.0",
		"<>":                                  "250 2.1.0",
		"<älice@example.org> SMTPUTF8":        "250 2.1.0",
		"<alice@example.org> AUTH=<>":         "250 2.1.0",
		"<alice@example.org> AUTH=":           "501 5.5.4",
		"<bob@example.org>":                   "550 5.7.1 <bob@example.org> is not an address of the account",
		"<bob+alice@example.org>":             "550 5.7.1",
		"<nobody@example.org>":                "550 5.7.1",
		"<full@example.org>":                  "250 2.1.0", // who has no room can write nevertheless
		"<fuller@example.org>":                "550 5.7.1",
		"<empty@example.org>":                 "550 5.7.1",
		"<alice@example.com>":                 "550 5.7.1",
		"<äbob@example.org> SMTPUTF8":         `550 5.7.1 <\u00e4bob@example.org> is not`,
		"<slow@example.org>":                  "451 4.3.0",
		"<alice@example.org> SIZE=9999999999": "552 5.3.4",
	} {
		c.send("MAIL FROM:" + sender + "\r\n")
		if got := c.reply(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", sender, got, want)
		}
		c.dialogue("C: RSET\nS: 250")
	}
}

func TestSubmittedRecipients(t *testing.T) {
	_, address := run(t, quick(&logins{}), submissionHouse(t))
	c := dial(t, address)
	c.expect("220 ")
	c.logIn("alice@example.org")
	c.dialogue(`
		C: MAIL FROM:<alice@example.org>
		S: 250
		C: RCPT TO:<someone@example.com>
		S: 550 5.7.1 Mail to other hosts is not relayed yet
		C: RCPT TO:<nobody@example.org>
		S: 550 5.1.1
		C: RCPT TO:<slow@example.org>
		S: 451 4.3.0
		C: RCPT TO:<bob@example.org>
		S: 250`)
}

// The header of a message is its writer's.
func TestWhoseMessage(t *testing.T) {
	const rest = "Date: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@client.example>\r\n\r\nFrom: bob@example.org\r\n"
	for name, c := range map[string]struct{ header, want string }{
		"own":                   {"From: alice@example.org\r\n", "250 2.0.0"},
		"own, named":            {"From: \"A, of B\" <alice+x@example.org> (home)\r\n", "250 2.0.0"},
		"upper case, folded":    {"FROM:\r\n =?windows-1252?Q?=C4lice?=\r\n\t<alice@example.org>\r\n", "250 2.0.0"},
		"strange charset":       {"From: =?x-unknown?Q?=C4lice?=\r\n <alice@example.org>\r\n", "250 2.0.0"},
		"alias":                 {"From: team@example.org\r\n", "250 2.0.0"},
		"somebody else":         {"From: Alice <bob@example.org>\r\n", "550 5.7.1 <bob@example.org> is not an address of the account"},
		"elsewhere":             {"From: alice@example.com\r\n", "550 5.7.1"},
		"name looks right":      {"From: \"alice@example.org\" <bob@example.org>\r\n", "550 5.7.1"},
		"cannot tell":           {"From: slow@example.org\r\n", "451 4.3.0"},
		"several, all own":      {"From: alice@example.org, Sales <sales@example.org>\r\n", "250 2.0.0"},
		"several, one not":      {"From: alice@example.org, bob@example.org\r\n", "550 5.7.1 <bob@"},
		"several, own sender":   {"From: alice@example.org, bob@example.org\r\nSender: alice@example.org\r\n", "250 2.0.0"},
		"several, other sender": {"Sender: bob@example.org\r\nFrom: alice@example.org, sales@example.org\r\n", "550 5.7.1 <bob@"},
		"one, other sender":     {"Sender: bob@example.org\r\nFrom: alice@example.org\r\n", "550 5.7.1 <bob@"},
		"one, own sender":       {"Sender: alice@example.org\r\nFrom: bob@example.org\r\n", "550 5.7.1 <bob@"},
		"group":                 {"From: we: alice@example.org, sales@example.org;\r\n", "250 2.0.0"},
		"group, one not":        {"From: we: alice@example.org, bob@example.org;\r\n", "550 5.7.1 <bob@"},
		"twice":                 {"From: alice@example.org\r\nFrom: bob@example.org\r\n", "550 5.6.0 More than one From field"},
		"twice, spaced":         {"From : bob@example.org\r\nFrom: alice@example.org\r\n", "550 5.6.0 More than one From field"},
		"two senders":           {"Sender: alice@example.org, sales@example.org\r\nFrom: alice@example.org\r\n", "550 5.6.0"},
		"none":                  {"", "550 5.6.0 No From field"},
		"empty":                 {"From:\r\n", "550 5.6.0 Malformed From field"},
		"nobody":                {"From: undisclosed:;\r\n", "550 5.6.0 Malformed From field"},
		"no domain":             {"From: alice\r\n", "550 5.6.0 Malformed From field"},
		"not a field":           {"alice@example.org\r\nFrom: alice@example.org\r\n", "550 5.6.0 Malformed header"},
		"bare CR":               {"Subject: x\rFrom: bob@example.org\r\nFrom: alice@example.org\r\n", "550 5.6.0 Malformed header"},
		"CR CR LF":              {"Subject: x\r\r\nFrom: alice@example.org\r\n", "550 5.6.0 Malformed header"},
		"NUL":                   {"From: alice@example.org\r\nSubject: \x00\r\n", "550 5.6.0 Malformed header"},
		"only a body":           {"\r\nFrom: alice@example.org\r\n", "550 5.6.0 No From field"},
		"bare LF":               {"Subject: x\nFrom: alice@example.org\r\n", "250 2.0.0"},
		"far down":              {strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 100) + "From: bob@example.org\r\n", "550 5.7.1"},
		"too far down":          {"From: alice@example.org\r\n" + strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 150), "552 5.3.4"},
		"too many":              {"From: alice@example.org" + strings.Repeat(", alice@example.org", 100) + "\r\n", "550 5.6.0"},
		"loop":                  {"From: alice@example.org\r\n" + strings.Repeat("Received: x\r\n", 101), "554 5.4.6"},
	} {
		t.Run(name, func(t *testing.T) {
			h := submissionHouse(t)
			_, address := run(t, quick(&logins{}), h)
			cl := dial(t, address)
			cl.expect("220 ")
			cl.logIn("alice@example.org")
			text := c.header + rest
			for _, by := range []string{"DATA", "BDAT"} {
				cl.dialogue("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.org>\nS: 250")
				if by == "DATA" {
					cl.dialogue("C: DATA\nS: 354")
					cl.send(text + ".\r\n")
				} else {
					cl.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
				}
				if got := cl.reply(); !strings.HasPrefix(got, c.want) {
					t.Errorf("%s: %s, want %s", by, got, c.want)
				}
			}
			cl.dialogue("C: NOOP\nS: 250 2.0.0 Ok")
			if strings.HasPrefix(c.want, "250") {
				text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
				h.wantBodies(t, "bob@example.org", text, text)
			} else {
				h.wantBodies(t, "bob@example.org")
			}
		})
	}
}

// What a header lacks is put in front of it (RFC 6409, 8.2 and 8.3), and a mail program's connection shows in the trace line.
func TestSubmittedMessage(t *testing.T) {
	h := submissionHouse(t)
	serverTLS, clientTLS := tlsConfigs(t)
	cfg := quick(&logins{})
	cfg.TLSConfig = serverTLS
	s, starttls := run(t, cfg, h)
	implicit := listenBy(t, s.ServeTLS, asItIs)
	const date, id = "Date: Fri, 27 Nov 2026 10:00:00 +0000\r\n", "message-id: <1@client.example>\r\n"
	const from = "From: alice@example.org\r\n"
	dateLine, idLine := `Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n`, `Message-ID: <[0-9a-f]+\.[0-9a-f]{16}@mx\.example\.org>\r\n`
	for header, added := range map[string]string{from + date + id: "", from + date: idLine, id + from: dateLine, from: dateLine + idLine} {
		for _, how := range []string{"STARTTLS", "implicit"} {
			text := header + "\r\nBody.\r\n"
			if err := submit(how, starttls, implicit, clientTLS, text); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			for _, account := range []string{"bob@example.org", "alice@example.org"} {
				got := take(t, h, account)
				want := regexp.MustCompile(`^Return-Path: <alice@example.org>\r\nDelivered-To: ` + account + `\r\nReceived: from localhost \(\[127\.0\.0\.1\]\)` +
					`\r\n\tby mx.example.org with (?:ESMTP|UTF8SMTP)SA id [0-9a-f]{16}\r\n\t\(TLS 1.3 [^\r]+\)\r\n\tfor [^\r]+;\r\n\t[^\r]+\r\n` + added + regexp.QuoteMeta(text) + `$`)
				if len(got) != 1 || !want.MatchString(got[0]) {
					t.Errorf("%s: %q has %q", how, account, got)
				}
			}
		}
	}
}

// submit sends alice's message to bob and to herself by the standard library's client.
func submit(how, starttls, implicit string, clientTLS *tls.Config, text string) error {
	address := starttls
	if how == "implicit" {
		address = implicit
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if how == "implicit" {
		conn = tls.Client(conn, clientTLS)
	}
	c, err := netsmtp.NewClient(conn, "mx.example.org")
	if err != nil {
		return err
	}
	if how == "STARTTLS" {
		if err := c.StartTLS(clientTLS); err != nil {
			return err
		}
	}
	if err := c.Auth(netsmtp.PlainAuth("", "alice@example.org", testPassword, "mx.example.org")); err != nil {
		return err
	}
	if err := errors.Join(c.Mail("alice@example.org"), c.Rcpt("bob@example.org"), c.Rcpt("alice@example.org")); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	_, err = w.Write([]byte(text))
	return errors.Join(err, w.Close(), c.Quit())
}

// Guessing gets slower with each wrong password, and ends.
func TestFailedLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Logins: &logins{}, FailureDelay: time.Second, AllowPlaintextAuth: true, Hostname: "mx"}, nil)
		c := pipe(t, s, "192.0.2.1:1000")
		c.expect("220 ")
		c.dialogue("C: EHLO a\nS: 250-")
		for n, attempt := range []string{plain("", "alice@example.org", "wrong"), plain("", "nobody", ""), plain("bob", "alice@example.org", testPassword)} {
			begun := time.Now()
			c.dialogue("C: AUTH PLAIN " + attempt + "\nS: 535 5.7.8")
			if took := time.Since(begun); took != time.Duration(n+1)*time.Second {
				t.Errorf("answer %d came after %v", n+1, took)
			}
		}
		c.expect("421 4.7.0")
		c.expectEnd()
		s.Shutdown(t.Context())
	})
}

// Who does not log in, does not stay.
func TestAuthTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logins{}
		s := New(Config{Logins: l, AuthTimeout: time.Minute, AllowPlaintextAuth: true, Hostname: "mx"}, nil)
		begun := time.Now()
		c := pipe(t, s, "192.0.2.1:1000")
		c.expect("220 ")
		c.dialogue("C: EHLO a\nS: 250-")
		time.Sleep(50 * time.Second)
		c.dialogue("C: NOOP\nS: 250\nC: AUTH PLAIN\nS: 334 ")
		c.expect("421 4.4.2")
		c.expectEnd()
		if took := time.Since(begun); took != time.Minute {
			t.Errorf("ended after %v", took)
		}
		c = pipe(t, s, "192.0.2.1:1000")
		c.expect("220 ")
		c.logIn("alice@example.org")
		time.Sleep(4 * time.Minute)
		c.dialogue("C: NOOP\nS: 250\nC: QUIT\nS: 221")
		c.expectEnd()
		s.Shutdown(t.Context())
	})
}

// When the node ends the session, the connection ends, be it in the midst of a message.
func TestSessionEnds(t *testing.T) {
	h := submissionHouse(t)
	l := &logins{}
	_, address := run(t, quick(l), h)
	const transaction = "C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.org>\nS: 250\n"
	for name, script := range map[string]string{"idle": "", "transaction": transaction, "message": transaction + "C: DATA\nS: 354\nC: From: alice@example.org"} {
		c := dial(t, address)
		c.expect("220 ")
		c.logIn("alice@example.org")
		if script != "" {
			c.dialogue(script)
		}
		session := l.last()
		close(session.done)
		c.expect("421 4.7.0")
		c.expectEnd()
		<-session.closed
		h.wantBodies(t, "bob@example.org")
		t.Log(name)
	}
}

// A session that ends while the server is busy, and not waiting for the client, ends the connection before anything more is read or
// delivered.
func TestSessionEndsMeanwhile(t *testing.T) {
	h := submissionHouse(t)
	synctest.Test(t, func(t *testing.T) {
		server, cl := net.Pipe()
		defer cl.Close()
		c := newConn(New(quick(&logins{}), h), pipeConn{server, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
		defer server.Close()
		begun := time.Now()
		c.expel()
		if err := c.more(begun); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
	conn := &scriptedConn{}
	c := newConn(New(quick(&logins{}), h), conn)
	c.helo, c.extended = "client.example", true
	exchange, err := c.saslClient().Begin(t.Context(), "PLAIN")
	if err == nil {
		err = exchange.Run([]byte("\x00alice@example.org\x00"+testPassword), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.logIn(exchange)
	c.do(command{"MAIL", "FROM:<alice@example.org>"})
	c.do(command{"RCPT", "TO:<bob@example.org>"})
	c.expel()
	c.do(command{"BDAT", "0 LAST"})
	c.flush()
	c.end()
	if got := conn.out.String(); !strings.Contains(got, "\r\n421 4.7.0") || !c.closing {
		t.Errorf("%q, closing %v", got, c.closing)
	}
	h.wantBodies(t, "bob@example.org")
}

// A log tells who did what, and no password.
func TestSubmissionLog(t *testing.T) {
	var log bytes.Buffer
	cfg := quick(&logins{})
	cfg.Logger, cfg.Hostname = slog.New(slog.NewTextHandler(&log, nil)), "mx.example.org"
	h := submissionHouse(t)
	s := New(cfg, h)
	address := listenBy(t, s.Serve, asItIs)
	c := dial(t, address)
	c.expect("220 ")
	c.dialogue("C: EHLO a\nS: 250-\nC: AUTH PLAIN " + plain("", "alice@example.org", "hunter2") + "\nS: 535\n" +
		"C: AUTH LOGIN " + encoded("alice@example.org") + "\nS: 334\nC: " + encoded("hunter2") + "\nS: 535\n" +
		"C: AUTH PLAIN !" + plain("", "alice@example.org", "hunter2") + "\nS: 501")
	c.logIn("alice@example.org")
	c.dialogue("C: MAIL FROM:<bob@example.org>\nS: 550\nC: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.org>\nS: 250\nC: DATA\nS: 354")
	c.send("From: bob@example.org\r\n\r\n.\r\nQUIT\r\n")
	c.expect("550 5.7.1", "221 ")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"hunter2", testPassword, encoded("hunter2"), plain("", "alice@example.org", "hunter2"), plain("", "alice@example.org", testPassword)} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log tells %q:\n%s", secret, log.String())
		}
	}
	for _, line := range []string{`msg="login refused"`, "msg=login", `msg="sender refused"`, `msg="message refused"`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no %s in\n%s", line, log.String())
		}
	}
}

// What a client has said to log in does not stay in the buffers that the next one's message is read into.
func TestResponsesAreForgotten(t *testing.T) {
	secret := encoded("alice@example.org\x00hunter2 hunter2 hunter2")
	for _, script := range []string{
		"EHLO a\r\nAUTH PLAIN " + secret + "\r\n",
		"EHLO a\r\nAUTH PLAIN\r\n" + secret + "\r\n",
		"EHLO a\r\nAUTH PLAIN\r\n" + secret,
		"EHLO a\r\nAUTH LOGIN\r\n" + secret + "\r\n" + secret + "\r\nNOOP\r\n",
		"EHLO a\r\nAUTH CRAM-MD5 " + secret + "\r\nNOOP\r\n",
		"AUTH PLAIN " + secret + "\r\nNOOP\r\n",
	} {
		for _, step := range []int{1, 7, 1000} {
			cfg := quick(&logins{})
			cfg.AllowPlaintextAuth = true
			s := New(cfg, nil)
			c := newConn(s, &scriptedConn{script: []byte(script), step: step})
			pooled := new([largeInput]byte)
			inputPool.Put(pooled)
			buffers := [][]byte{c.in.small}
			c.serve(false)
			if c.in.pooled != nil {
				buffers = append(buffers, c.in.pooled[:])
			}
			buffers = append(buffers, pooled[:])
			if slices.ContainsFunc(buffers, func(b []byte) bool { return bytes.Contains(b, []byte(secret[10:40])) }) {
				t.Errorf("step %d: %q stays", step, script)
			}
		}
	}
}
