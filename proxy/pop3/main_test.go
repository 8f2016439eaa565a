package pop3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailraft/proxy"
	"mailraft/proxy/maildir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logins is a node with one account per home.
type logins struct {
	proxy.Logins // no more than Login is asked for
	mu           sync.Mutex
	homes        map[string]string // by user name; all passwords are "secret pass"
	err          error             // what Login fails with
	seen         []proxy.Credentials
	sessions     []*login
}

type login struct {
	mailbox proxy.Mailbox
	done    chan struct{}
	closed  chan struct{}
}

const testPassword = "secret pass"

func (l *logins) Login(_ context.Context, c proxy.Credentials) (proxy.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, c)
	home, ok := l.homes[c.Username]
	switch {
	case l.err != nil:
		return nil, l.err
	case !ok || c.Password != testPassword:
		return nil, proxy.ErrAuthentication
	}
	s := &login{
		mailbox: proxy.Mailbox{Account: c.Username, Home: home},
		done:    make(chan struct{}),
		closed:  make(chan struct{}),
	}
	l.sessions = append(l.sessions, s)
	return s, nil
}

func (l *logins) last() *login {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[len(l.sessions)-1]
}

func (s *login) Mailbox() proxy.Mailbox { return s.mailbox }
func (s *login) Done() <-chan struct{}  { return s.done }
func (s *login) Close() error           { close(s.closed); return nil }

// drop is a maildir on disk whose index the test writes, as the mount would.
type drop struct {
	t     testing.TB
	home  string
	index maildir.Index
}

func newDrop(t testing.TB) *drop {
	d := &drop{t: t, home: t.TempDir(), index: maildir.Index{UIDValidity: 1764000000, UIDNext: 1}}
	for _, sub := range []string{"tmp", "new", "cur"} {
		d.must(os.Mkdir(filepath.Join(d.home, sub), 0o700))
	}
	d.writeIndex()
	return d
}

func (d *drop) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// add puts a message in, with its sizes in its name if it is one of our own deliveries.
func (d *drop) add(text string, own bool) {
	d.t.Helper()
	uid := d.index.UIDNext
	name := fmt.Sprintf("new/1764000000.M%dP1.test", uid)
	if own && (text == "" || strings.HasSuffix(text, "\n")) {
		name += fmt.Sprintf(",S=%d,W=%d", len(text), len(crlf(text)))
	}
	d.must(os.WriteFile(filepath.Join(d.home, name), []byte(text), 0o600))
	d.index.UIDNext++
	d.index.HighestModSeq++
	d.index.Messages = append(d.index.Messages, maildir.Message{
		UID: uid, ModSeq: d.index.HighestModSeq, Size: int64(len(text)), Date: time.Unix(1764000000, 0), Name: name,
	})
	d.writeIndex()
}

// rename moves message i (from 0) within the folder, as an IMAP server does.
func (d *drop) rename(i int, to string) {
	d.t.Helper()
	m := &d.index.Messages[i]
	d.must(os.Rename(filepath.Join(d.home, m.Name), filepath.Join(d.home, to)))
	d.index.HighestModSeq++
	m.Name, m.ModSeq = to, d.index.HighestModSeq
	d.writeIndex()
}

// remove removes message i (from 0), as an IMAP server does.
func (d *drop) remove(i int) {
	d.t.Helper()
	d.must(os.Remove(filepath.Join(d.home, d.index.Messages[i].Name)))
	d.index.Messages = append(d.index.Messages[:i:i], d.index.Messages[i+1:]...)
	d.writeIndex()
}

func (d *drop) writeIndex() {
	d.t.Helper()
	d.index.Count = len(d.index.Messages)
	text, _ := d.index.AppendText(nil)
	tmp := filepath.Join(d.home, "tmp", "index")
	d.must(os.WriteFile(tmp, text, 0o600))
	d.must(os.Rename(tmp, filepath.Join(d.home, maildir.IndexName)))
}

// files returns how many messages there are on disk.
func (d *drop) files() int {
	d.t.Helper()
	names, err := filepath.Glob(filepath.Join(d.home, "[nc][eu][wr]", "*"))
	d.must(err)
	return len(names)
}

// flags returns the lock files.
func (d *drop) flags() []string {
	d.t.Helper()
	names, err := filepath.Glob(filepath.Join(d.home, lockPrefix+"*"))
	d.must(err)
	return names
}

// crlf is what CRLF line ends mean, in the plainest way.
func crlf(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if text[i] == '\n' && (i == 0 || text[i-1] != '\r') {
			b.WriteByte('\r')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// host is a running server with one account, "alice@example.org".
type host struct {
	t      testing.TB
	srv    *Server
	logins *logins
	plain  string // address of the STLS listener
	tls    string // address of the TLS listener
	log    *syncBuffer
	ended  []chan error // what each listener ended with
}

const alice = "alice@example.org"

// serve starts a server for d. prepare may change it before it runs.
func serve(t testing.TB, cfg Config, d *drop, prepare ...func(*Server)) *host {
	t.Helper()
	h := &host{t: t, logins: &logins{homes: map[string]string{alice: d.home}}, log: &syncBuffer{}}
	cfg.Hostname = "mail.example.org"
	cfg.TLSConfig = serverTLS()
	cfg.Logger = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if cfg.FailureDelay == 0 {
		cfg.FailureDelay = time.Millisecond
	}
	h.srv = New(cfg, h.logins)
	for _, p := range prepare {
		p(h.srv)
	}
	h.plain = h.listen(h.srv.Serve, func(l net.Listener) net.Listener { return l })
	h.tls = h.listen(h.srv.ServeTLS, func(l net.Listener) net.Listener { return l })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.srv.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		for _, ended := range h.ended {
			if err := <-ended; !errors.Is(err, ErrServerClosed) {
				t.Errorf("a listener ended with %v", err)
			}
		}
	})
	return h
}

// listen serves a loopback port, wrapped.
func (h *host) listen(serve func(net.Listener) error, wrap func(net.Listener) net.Listener) string {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(wrap(l)) }()
	h.ended = append(h.ended, ended)
	return l.Addr().String()
}

// client is a raw dialogue.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func (h *host) dial() *client { return dial(h.t, h.plain) }

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, nc: nc, r: bufio.NewReader(nc)}
}

// login dials and logs in.
func (h *host) login() *client {
	h.t.Helper()
	c := h.dial()
	c.expect("+OK mail.example.org POP3 server ready")
	c.do("USER "+alice, "+OK")
	c.do("PASS "+testPassword, "+OK maildrop ready")
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("reading an answer: %v (had %q)", err, line)
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		c.t.Fatalf("answer %q does not end in CRLF", line)
	}
	return text
}

// expect reads a line that begins as given.
func (c *client) expect(prefix string) string {
	c.t.Helper()
	line := c.line()
	if !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("answer %q, want %q", line, prefix)
	}
	return line
}

// do sends a command and expects an answer that begins as given.
func (c *client) do(command, prefix string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	return c.expect(prefix)
}

// multi sends a command and returns what comes behind +OK, un-stuffed, with the CRLFs.
func (c *client) multi(command string) string {
	c.t.Helper()
	c.do(command, "+OK")
	return c.body()
}

func (c *client) body() string {
	c.t.Helper()
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if line == ".\r\n" {
			return b.String()
		}
		if line[0] == '.' {
			if line[1] != '.' {
				c.t.Fatalf("line %q is not dot-stuffed", line)
			}
			line = line[1:]
		}
		b.WriteString(line)
	}
}

// expectEOF expects the server to close the connection, without another word.
func (c *client) expectEOF() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if err != nil && !isReset(err) {
		c.t.Fatalf("waiting for the end: %v", err)
	}
	if len(rest) > 0 {
		c.t.Fatalf("before the end came %q", rest)
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// startTLS turns the client's side into TLS.
func (c *client) startTLS() *client {
	c.t.Helper()
	tc := tls.Client(c.nc, clientTLS())
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return &client{t: c.t, nc: tc, r: bufio.NewReader(tc)}
}

// certificate is self-signed, for "mail.example.org", and lives as long as the tests.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mail.example.org"},
		DNSNames:     []string{"mail.example.org", "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{certificate()}} }

func clientTLS() *tls.Config {
	leaf, err := x509.ParseCertificate(certificate().Certificate[0])
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{RootCAs: roots, ServerName: "mail.example.org"}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// strangers makes connections look as if they came from elsewhere.
type strangers struct {
	net.Listener
	ip string
}

func (l strangers) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stranger{nc, l.ip}, nil
}

type stranger struct {
	net.Conn
	ip string
}

func (s stranger) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(s.ip), Port: 4711} }
