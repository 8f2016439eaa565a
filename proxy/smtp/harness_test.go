package smtp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/proxy"
	"mailraft/proxy/maildir"
)

// house is a directory of mailboxes in a temporary directory, and the Recipients that knows them.
type house struct {
	dir     string
	aliases map[string][]string // address: accounts
	errs    map[string]error    // address: what LookUp answers

	mu     sync.Mutex
	lookUp []string // addresses asked for
}

func newHouse(t testing.TB, accounts ...string) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), aliases: map[string][]string{}, errs: map[string]error{}}
	for _, a := range accounts {
		h.aliases[a] = []string{a}
		if err := maildir.CreateFolder(h.home(a), ""); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *house) home(account string) string { return filepath.Join(h.dir, account) }

func (h *house) LookUp(_ context.Context, address string) ([]proxy.Mailbox, string, error) {
	h.mu.Lock()
	h.lookUp = append(h.lookUp, address)
	h.mu.Unlock()
	wanted := h.errs[address]
	if wanted != nil && !errors.Is(wanted, proxy.ErrOverQuota) {
		return nil, "", wanted
	}
	if strings.EqualFold(address, "postmaster") {
		address = "postmaster@example.org"
	}
	at := strings.LastIndexByte(address, '@')
	if domain := address[at+1:]; domain != "example.org" {
		return nil, "", proxy.ErrNoSuchDomain
	}
	local, detail, _ := strings.Cut(address[:at], "+")
	accounts, ok := h.aliases[local+address[at:]]
	if !ok && wanted == nil {
		return nil, "", proxy.ErrNoSuchUser
	}
	var mailboxes []proxy.Mailbox
	for _, a := range accounts {
		mailboxes = append(mailboxes, proxy.Mailbox{Account: a, Home: h.home(a)})
	}
	return mailboxes, detail, wanted
}

// messages returns what is in a folder's new/, in the order of delivery times.
func (h *house) messages(t testing.TB, account, folder string) []string {
	t.Helper()
	dir := maildir.FolderPath(h.home(account), folder)
	if left, err := os.ReadDir(dir + "/tmp"); err == nil && len(left) > 0 {
		t.Errorf("%s%s/tmp has %v", account, folder, left)
	}
	entries, err := os.ReadDir(dir + "/new")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, "new", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		m := maildir.Message{Name: "new/" + e.Name(), Size: int64(len(text))}
		if size, ok := m.VirtualSize(); ok != strings.HasSuffix(string(text), "\n") || ok && size != int64(len(text)) {
			t.Errorf("%s has %d bytes", e.Name(), len(text))
		}
		texts = append(texts, string(text))
	}
	return texts
}

// bodies returns the messages of a folder without their trace lines, sorted.
func (h *house) bodies(t testing.TB, account, folder string) []string {
	t.Helper()
	var bodies []string
	for _, text := range h.messages(t, account, folder) {
		bodies = append(bodies, withoutTrace(t, text))
	}
	slices.Sort(bodies)
	return bodies
}

var traceLines = regexp.MustCompile(`^Return-Path: <[^\r\n]*>\r\nDelivered-To: [^\r\n]+\r\nReceived: from (?:[^\r\n]|\r\n\t)+\r\n`)

func withoutTrace(t testing.TB, text string) string {
	t.Helper()
	trace := traceLines.FindString(text)
	if trace == "" {
		t.Errorf("no trace lines in front of %.200q", text)
	}
	return text[len(trace):]
}

// wantBodies checks what an account's INBOX has.
func (h *house) wantBodies(t testing.TB, account string, want ...string) {
	t.Helper()
	if got := h.bodies(t, account, ""); !slices.Equal(got, want) {
		t.Errorf("%s has %.300q, want %.300q", account, got, want)
	}
}

// panicLog fails the test when a connection panicked: serve recovers and logs it.
type panicLog struct{ t testing.TB }

func (p panicLog) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "panic") {
		p.t.Errorf("%s", line)
	}
	return len(line), nil
}

// run starts a server on the loopback interface and returns it with its address.
func run(t testing.TB, cfg Config, recipients proxy.Recipients) (*Server, string) {
	t.Helper()
	cfg.Hostname = "mx.example.org"
	cfg.Logger = slog.New(slog.NewTextHandler(panicLog{t}, nil))
	s := New(cfg, recipients)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// client is the other end of a dialogue, on a raw socket.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn)
}

func newClient(t testing.TB, conn net.Conn) *client {
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("sending %.100q: %v", s, err)
	}
}

// reply reads a reply of one or several lines.
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("behind %q: %v", lines, err)
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) < 6 {
			c.t.Fatalf("reply line %q", line)
		}
		lines = append(lines, strings.TrimSuffix(line, "\r\n"))
		if line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// expect reads replies and checks their beginnings.
func (c *client) expect(beginnings ...string) {
	c.t.Helper()
	for _, want := range beginnings {
		if got := c.reply(); !strings.HasPrefix(got, want) {
			c.t.Fatalf("reply %q, want %q", got, want)
		}
	}
}

// expectEnd checks that the server has closed the connection.
func (c *client) expectEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("%q, %v instead of the end", rest, err)
	}
}

// dialogue holds a whole dialogue, written as lines of "C: command" and "S: beginning of a reply".
func (c *client) dialogue(script string) {
	c.t.Helper()
	for line := range strings.Lines(strings.TrimSpace(script)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "C: "); ok {
			c.send(text + "\r\n")
		} else if text, ok := strings.CutPrefix(line, "S: "); ok {
			c.expect(text)
		} else {
			c.t.Fatalf("script line %q", line)
		}
	}
}

// envelope greets and opens a mail transaction, up to the point where DATA or BDAT comes.
func (c *client) envelope(recipients ...string) {
	c.t.Helper()
	c.expect("220 ")
	c.dialogue("C: EHLO client.example\nS: 250-mx.example.org")
	c.send("MAIL FROM:<sender@example.com>\r\n")
	c.expect("250 2.1.0")
	for _, r := range recipients {
		c.send("RCPT TO:<" + r + ">\r\n")
		c.expect("250 2.1.5")
	}
}

var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example.org"}, DNSNames: []string{"mx.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// tlsConfigs returns a server's and a client's configuration that go together.
func tlsConfigs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: roots, ServerName: "mx.example.org"}
}
