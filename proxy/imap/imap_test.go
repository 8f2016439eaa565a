package imap

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
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailraft/proxy"
	"mailraft/proxy/maildir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser     = "alice@example.org"
	testPassword = "correct horse"
)

// world is a server over a plain Maildir++.
type world struct {
	t       testing.TB
	home    string
	keeper  *keeper
	server  *Server
	changes *feed
	logins  *fakeLogins
	address string
	tlsAddr string
	log     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type fakeLogins struct {
	proxy.Logins // no more than Login is asked for
	home         string
	mu           sync.Mutex
	open         []*fakeSession
}

type fakeSession struct {
	mailbox proxy.Mailbox
	done    chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func (s *fakeSession) Mailbox() proxy.Mailbox { return s.mailbox }
func (s *fakeSession) Done() <-chan struct{}  { return s.done }
func (s *fakeSession) Close() error           { s.once.Do(func() { close(s.closed) }); return nil }

func (l *fakeLogins) Login(ctx context.Context, c proxy.Credentials) (proxy.Session, error) {
	switch {
	case c.Username == "broken":
		return nil, proxy.ErrTemporary
	case c.Username != testUser || c.Password != testPassword:
		return nil, proxy.ErrAuthentication
	}
	s := &fakeSession{mailbox: proxy.Mailbox{Account: testUser, Home: l.home}, done: make(chan struct{}), closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, s)
	return s, nil
}

// feed is a change feed that tests write to.
type feed struct {
	mu       sync.Mutex
	watchers map[chan proxy.Change]struct{}
}

func (f *feed) Watch(ctx context.Context, account string) (<-chan proxy.Change, error) {
	ch := make(chan proxy.Change, 64)
	f.mu.Lock()
	f.watchers[ch] = struct{}{}
	f.mu.Unlock()
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		delete(f.watchers, ch)
		f.mu.Unlock()
		close(ch)
	})
	return ch, nil
}

func (f *feed) changed(folder string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch := range f.watchers {
		select {
		case ch <- proxy.Change{Folder: folder}:
		default: // as many are waiting already: merged
		}
	}
}

func newWorld(t testing.TB, configure ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, home: t.TempDir(), keeper: newKeeper(), changes: &feed{watchers: make(map[chan proxy.Change]struct{})}, log: &syncBuffer{}}
	w.logins = &fakeLogins{home: w.home}
	if err := maildir.CreateFolder(w.home, ""); err != nil {
		t.Fatal(err)
	}
	cfg := Config{FailureDelay: time.Millisecond, TLSConfig: testTLS(), Logger: slog.New(slog.NewTextHandler(w.log, nil))}
	for _, f := range configure {
		f(&cfg)
	}
	w.server = New(cfg, w.logins, w.changes)
	w.server.readIndex = w.keeper.read
	w.address = w.listen(w.server.Serve)
	w.tlsAddr = w.listen(w.server.ServeTLS)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if strings.Contains(w.log.String(), "panic") {
			t.Errorf("a panic was logged:\n%s", w.log.String())
		}
	})
	return w
}

func (w *world) listen(serve func(net.Listener) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		if err := serve(l); err != ErrServerClosed {
			w.t.Errorf("serve: %v", err)
		}
	}()
	return l.Addr().String()
}

var testTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

// deliver puts a message into a folder and returns its path.
func (w *world) deliver(folder, text, flags string) string {
	w.t.Helper()
	d, err := maildir.NewDelivery(w.home, folder)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := d.Write([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
	path, err := d.Commit(maildir.Options{Flags: flags, Recent: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) mkdir(folder string) {
	w.t.Helper()
	if err := maildir.CreateFolder(w.home, folder); err != nil {
		w.t.Fatal(err)
	}
}

// onlySession returns the one session that there is.
func (w *world) onlySession() *session {
	w.t.Helper()
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	if len(w.server.conns) != 1 {
		w.t.Fatalf("%d connections", len(w.server.conns))
	}
	for c := range w.server.conns {
		return c.session
	}
	return nil
}

// names lists the files of a folder's cur and new.
func (w *world) names(folder string) []string {
	var names []string
	for _, sub := range []string{"cur", "new"} {
		paths, _ := filepath.Glob(maildir.FolderPath(w.home, folder) + "/" + sub + "/*")
		for _, p := range paths {
			names = append(names, sub+"/"+filepath.Base(p))
		}
	}
	return names
}

func testMessage(n int) string {
	return fmt.Sprintf("From: Bob <bob@example.net>\r\nTo: alice@example.org\r\nSubject: number %d\r\n"+
		"Date: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-ID: <%d@example.net>\r\n\r\nThis is message %d.\r\n", n, n, n)
}

// raw is a client that speaks by hand.
type raw struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	tags int
}

func (w *world) dial() *raw {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	return newRaw(w.t, conn)
}

func newRaw(t testing.TB, conn net.Conn) *raw {
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &raw{t: t, conn: conn, r: bufio.NewReader(conn)}
	t.Cleanup(func() { conn.Close() })
	c.want("* OK [CAPABILITY ")
	return c
}

// login returns a client that has logged in.
func (w *world) login() *raw {
	c := w.dial()
	c.ok(`LOGIN ` + testUser + ` "` + testPassword + `"`)
	return c
}

// selected returns a client that has selected a mailbox.
func (w *world) selected(name string) *raw {
	c := w.login()
	c.ok("SELECT " + name)
	return c
}

func (c *raw) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatal(err)
	}
}

// line reads one line, with the literals in it.
func (c *raw) line() string {
	c.t.Helper()
	var b strings.Builder
	for {
		part, err := c.r.ReadString('\n')
		b.WriteString(part)
		if err != nil {
			c.t.Fatalf("after %q: %v", b.String(), err)
		}
		trimmed := strings.TrimRight(part, "\r\n")
		if i := strings.LastIndexByte(trimmed, '{'); i >= 0 && strings.HasSuffix(trimmed, "}") {
			if n, err := strconv.Atoi(trimmed[i+1 : len(trimmed)-1]); err == nil {
				buf := make([]byte, n)
				if _, err := io.ReadFull(c.r, buf); err != nil {
					c.t.Fatal(err)
				}
				b.Write(buf)
				continue
			}
		}
		return strings.TrimSuffix(b.String(), "\r\n")
	}
}

func (c *raw) want(prefix string) string {
	c.t.Helper()
	line := c.line()
	if !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("got %q, want %q...", line, prefix)
	}
	return line
}

// do sends a command and returns what came untagged, and the tagged answer without its tag.
func (c *raw) do(command string) (untagged []string, answer string) {
	c.t.Helper()
	c.tags++
	tag := fmt.Sprintf("t%d", c.tags)
	c.send(tag + " " + command + "\r\n")
	return c.until(tag)
}

func (c *raw) until(tag string) (untagged []string, answer string) {
	c.t.Helper()
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return untagged, rest
		}
		untagged = append(untagged, line)
	}
}

// ok sends a command that has to succeed.
func (c *raw) ok(command string) []string {
	c.t.Helper()
	untagged, answer := c.do(command)
	if !strings.HasPrefix(answer, "OK") {
		c.t.Fatalf("%s: %s %q", command, answer, untagged)
	}
	return untagged
}

// fails sends a command that has to fail, with an answer that begins so.
func (c *raw) fails(command, want string) {
	c.t.Helper()
	untagged, answer := c.do(command)
	if !strings.HasPrefix(answer, want) {
		c.t.Fatalf("%s: got %q (%q), want %q...", command, answer, untagged, want)
	}
}

// gives sends a command that has to succeed and to give these untagged answers among others, in this order.
func (c *raw) gives(command string, want ...string) {
	c.t.Helper()
	untagged := c.ok(command)
	rest := untagged
	for _, w := range want {
		i := 0
		for i < len(rest) && !strings.Contains(rest[i], w) {
			i++
		}
		if i == len(rest) {
			c.t.Fatalf("%s: no %q in %q", command, w, untagged)
		}
		rest = rest[i+1:]
	}
}

func contains(lines []string, want string) bool {
	for _, l := range lines {
		if strings.Contains(l, want) {
			return true
		}
	}
	return false
}

func (c *raw) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.r); err != nil || len(b) > 0 {
		c.t.Fatalf("connection still open or more came: %q %v", b, err)
	}
}

func mustReadFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
