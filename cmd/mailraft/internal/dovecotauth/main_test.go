package dovecotauth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/login"
	"mailraft/cmd/mailraft/internal/peercred"
	"mailraft/cmd/mailraft/internal/throttle"
	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
)

// world is a store with the account alice@example.org, whose password is "secret", and a server of its logins at a socket.
type world struct {
	t      *testing.T
	ring   *keyring.Keyring
	access *access.Control
	alice  *raftpb.Account
	socket string
	log    *logged
}

// logged is what the server logs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const mounts = "/run/mailraft/shards"

func newWorld(t *testing.T, configure ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, socket: filepath.Join(t.TempDir(), "auth.sock"), log: new(logged)}
	store, err := raftstore.Open(within(t), raftstore.Config{
		Dir: filepath.Join(t.TempDir(), "store"), NodeID: "n1", Shards: 2, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(func() { store.Close() })
	must(t, store.Directory().AddDomain(within(t), "example.org"))
	made, err := store.Directory().AddAccounts(within(t), []raftstore.NewAccount{{LocalPart: "alice", Domain: "example.org", Keys: keys}})
	must(t, err)
	w.alice = made[0]
	gate := slot.NewGate(2)
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.ring = keyring.New(keyring.Config{Gate: gate})
	t.Cleanup(func() { w.ring.Close() })
	w.access = access.New(store, w.ring, slot.MinIterations, log)
	t.Cleanup(func() { w.access.Close() })
	logins, err := login.New(w.access, throttle.New(store.Directory(), log), gate, log)
	must(t, err)
	cfg := Config{Logins: logins, Accounts: w.access, Root: mounts, UID: 5000, GID: 5001, Logger: log, SCRAM: true, FailureDelay: time.Millisecond}
	for _, f := range configure {
		f(&cfg)
	}
	l, err := peercred.Socket(w.socket, 0o600, -1)
	must(t, err)
	server, served := NewServer(cfg), make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if strings.Contains(w.log.String(), "secret") || strings.Contains(w.log.String(), plain("", "alice@example.org", "secret")) {
			t.Error("a password is in the log")
		}
	})
	return w
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keys makes a key pair in two slots, for who sends the password and for who proves it, which are cheap to open.
func keys(account uint32) (string, []*raftpb.Slot, error) {
	id, err := seal.GenerateIdentity(seal.X25519)
	if err != nil {
		return "", nil, err
	}
	cheap := slot.Params{Passes: 1, Memory: 64, Threads: 1}
	s, err := slot.Wrap(id, []byte("secret"), cheap, slot.Binding{Account: uint64(account), Slot: 1, Kind: slot.Password})
	if err != nil {
		return "", nil, err
	}
	proof, err := slot.Wrap(id, []byte("secret"), slot.Params{Passes: slot.MinIterations},
		slot.Binding{Account: uint64(account), Slot: 2, Kind: slot.SCRAM, Salt: make([]byte, len(s.Salt))})
	if err != nil {
		return "", nil, err
	}
	return id.Recipient().String(), []*raftpb.Slot{
		{Id: 1, Kind: slot.Password.String(), Record: s.Marshal()}, {Id: 2, Kind: slot.SCRAM.String(), Record: proof.Marshal()},
	}, nil
}

func (w *world) unlocked() bool {
	_, ok := w.ring.Identity(uint64(w.alice.Number))
	return ok
}

// talk is a connection of a client that writes lines itself.
type talk struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// dial connects, and reads the server's handshake.
func (w *world) dial() *talk {
	w.t.Helper()
	c, err := net.Dial("unix", w.socket)
	must(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return &talk{w.t, c, bufio.NewReader(c)}
}

// greeted is dial with both handshakes done.
func (w *world) greeted() *talk {
	w.t.Helper()
	c := w.dial()
	for c.read() != "DONE" {
	}
	c.say("VERSION\t1\t1\nCPID\t4711")
	return c
}

func (c *talk) say(lines string) {
	c.t.Helper()
	_, err := c.conn.Write([]byte(lines + "\n"))
	must(c.t, err)
}

func (c *talk) read() string {
	c.t.Helper()
	s, err := c.in.ReadString('\n')
	must(c.t, err)
	return strings.TrimSuffix(s, "\n")
}

func (c *talk) want(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		if got := c.read(); got != want {
			c.t.Fatalf("%q, want %q", got, want)
		}
	}
}

// ended checks that the server has ended the connection.
func (c *talk) ended() {
	c.t.Helper()
	if s, err := c.in.ReadString('\n'); err == nil {
		c.t.Fatalf("it goes on: %q", s)
	} else if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		c.t.Fatal("it goes on in silence")
	}
}

func plain(identity, user, password string) string {
	return b64(identity + "\x00" + user + "\x00" + password)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
