package nodeapi

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

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

// world is a store with the service on a real socket, and a client of it.
type world struct {
	store   *raftstore.Store
	ring    *keyring.Keyring
	gate    *slot.Gate
	access  *access.Control
	service *Server
	server  *grpc.Server
	client  *Client
	socket  string
	left    func() // called after each turn at the gate
}

const root = "/mnt/mail"

// newWorld lets in those users; by default this one.
func newWorld(t *testing.T, users ...uint32) *world {
	t.Helper()
	if users == nil {
		users = []uint32{uint32(os.Getuid())}
	}
	return newWorldOn(t, openStore(t, raftstore.Config{NodeID: "n1"}), users...)
}

func openStore(t *testing.T, cfg raftstore.Config) *raftstore.Store {
	t.Helper()
	cfg.Shards, cfg.Logger = 2, slog.New(slog.DiscardHandler)
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "store")
	}
	store, err := raftstore.Open(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// reader is the user id that logins unlock accounts for.
const reader = 4242

// wantReader checks that the account is readable for that user alone.
func (w *world) wantReader(t *testing.T, what string, a *raftpb.Account) {
	t.Helper()
	for _, uid := range []uint32{0, reader, reader + 1} {
		if _, readable := w.ring.Readable(uint64(a.Number), uid); readable != (uid == reader) {
			t.Errorf("%s: readable for user %d: %v", what, uid, readable)
		}
	}
}

func newWorldOn(t *testing.T, store *raftstore.Store, users ...uint32) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := &world{store: store, socket: filepath.Join(t.TempDir(), "node.sock"), left: func() {}}
	w.gate = slot.NewGate(2)
	w.gate.OnLeave(func() { w.left() })
	w.ring = keyring.New(keyring.Config{Gate: w.gate})
	t.Cleanup(func() { w.ring.Close() })
	w.access = access.New(w.store, w.ring, slot.MinIterations, log)
	t.Cleanup(func() { w.access.Close() })
	logins, err := login.New(w.access, throttle.New(store.Directory(), log), w.gate, log, reader)
	if err != nil {
		t.Fatal(err)
	}
	w.service = NewServer(Node{Store: w.store, Access: w.access, Logins: logins, Logger: log})
	listener, err := peercred.Listen(w.socket, 0o660, -1, log, users...)
	if err != nil {
		t.Fatal(err)
	}
	w.server = grpc.NewServer(Options()...)
	w.service.Register(w.server)
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(listener) }()
	t.Cleanup(func() {
		w.server.Stop()
		w.service.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	if w.client, err = NewClient(w.socket, root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.client.Close() })
	return w
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// cheap parameters: what is tested here is not how long a derivation takes.
var cheap = slot.Params{Passes: 1, Memory: 64, Threads: 1}

// account makes alice@example.org or the like, whose password is "secret".
func (w *world) account(t *testing.T, local string, quotaFiles uint64) *raftpb.Account {
	t.Helper()
	return w.accountWith(t, local, "secret", quotaFiles)
}

func (w *world) accountWith(t *testing.T, local, password string, quotaFiles uint64) *raftpb.Account {
	t.Helper()
	return addAccount(t, w.store, local, "example.org", password, quotaFiles)
}

func addAccount(t *testing.T, store *raftstore.Store, local, domain, password string, quotaFiles uint64) *raftpb.Account {
	t.Helper()
	d := store.Directory()
	if _, err := d.Domain(domain); err != nil {
		if err := d.AddDomain(within(t), domain); err != nil {
			t.Fatal(err)
		}
	}
	made, err := d.AddAccounts(within(t), []raftstore.NewAccount{{
		LocalPart: local, Domain: domain, QuotaFiles: quotaFiles,
		Keys: func(number uint32) (string, []*raftpb.Slot, error) { return keys(number, 1, password) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	return made[0]
}

// keys makes a key pair for an account, in one slot.
func keys(account, number uint32, password string) (string, []*raftpb.Slot, error) {
	id, err := seal.GenerateIdentity(seal.X25519)
	if err != nil {
		return "", nil, err
	}
	s, err := slot.Wrap(id, []byte(password), cheap, slot.Binding{Account: uint64(account), Slot: uint64(number), Kind: slot.Password})
	if err != nil {
		return "", nil, err
	}
	return id.Recipient().String(), []*raftpb.Slot{{Id: number, Kind: "password", Record: s.Marshal()}}, nil
}
