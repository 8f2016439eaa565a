package remote

import (
	"context"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// TestMain has few random trees looked at: each of them is asked some thousands of questions.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		flag.Set("rapid.checks", "3")
	}
	goleak.VerifyTestMain(m)
}

// failing is what a test and a property have in common.
type failing interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// local is a replica of a shard: a tree over a store in memory. Commands are applied by one goroutine at a time.
type local struct {
	t     failing
	tree  *tree.Tree
	store *machine.Store
	db    *pebble.DB
	done  chan struct{}

	mu      sync.Mutex
	applied uint64
	told    uint64
	risen   chan struct{} // closed when told rises
	cutOff  error         // what ReadIndex fails with
	leader  *local        // whom ReadIndex asks; nil: itself
	reads   int           // calls of ReadIndex
}

func newLocal(t failing) *local {
	t.Helper()
	l := &local{t: t, done: make(chan struct{}), risen: make(chan struct{})}
	var err error
	l.db, err = pebble.Open("", &pebble.Options{FS: vfs.NewMem(), DisableWAL: true, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	l.store = machine.NewStore(l.db)
	l.tree = tree.New(l.store)
	t.Cleanup(func() {
		if err := l.store.Close(); err != nil {
			t.Fatalf("close the store: %v", err)
		}
	})
	return l
}

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// apply applies a command, in the order of a group: visible, counted, told.
func (l *local) apply(index uint64, cmd *raftpb.Command) tree.Result {
	b := l.db.NewIndexedBatch()
	defer b.Close()
	r, err := l.tree.Apply(b, index, cmd)
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err != nil {
		l.t.Fatalf("apply %v: %v", cmd, err)
	}
	l.mu.Lock()
	l.applied = index
	l.mu.Unlock()
	l.tree.Committed()
	l.mu.Lock()
	l.told = index
	close(l.risen)
	l.risen = make(chan struct{})
	l.mu.Unlock()
	return r
}

func (l *local) View() tree.Reader                              { return l.tree.View() }
func (l *local) Subscribe(fn func(*tree.Event)) (cancel func()) { return l.tree.Subscribe(fn) }
func (l *local) Done() <-chan struct{}                          { return l.done }

func (l *local) Release() {}

func (l *local) Told() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

func (l *local) ReadIndex(ctx context.Context) error {
	l.mu.Lock()
	l.reads++
	err, leader := l.cutOff, l
	if l.leader != nil {
		leader = l.leader
	}
	l.mu.Unlock()
	index := leader.Applied()
	if err != nil {
		return err
	}
	return l.WaitApplied(ctx, index)
}

func (l *local) Applied() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.applied
}

func (l *local) WaitApplied(ctx context.Context, index uint64) error {
	for {
		l.mu.Lock()
		told, risen := l.told, l.risen
		l.mu.Unlock()
		if told >= index {
			return nil
		}
		select {
		case <-risen:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// node is a server of replicas on the loopback, and the way to it.
type node struct {
	name   string
	server *grpc.Server
	conn   *grpc.ClientConn
	served chan error

	mu    sync.Mutex
	conns []net.Conn
}

// breakable is a listener that remembers the connections of its node.
type breakable struct {
	net.Listener
	n *node
}

// Accept implements net.Listener.
func (b breakable) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err == nil {
		b.n.mu.Lock()
		b.n.conns = append(b.n.conns, c)
		b.n.mu.Unlock()
	}
	return c, err
}

// cut breaks all connections to the node.
func (n *node) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
}

func (n *node) stop() {
	n.server.Stop()
	<-n.served
}

func newNode(t failing, name string, shards map[uint32]Replica) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	n := &node{name: name, server: grpc.NewServer(), served: make(chan error, 1)}
	NewServer(func(id uint32) (Replica, error) {
		if r := shards[id]; r != nil {
			return r, nil
		}
		return nil, fmt.Errorf("shard %d is elsewhere", id)
	}).Register(n.server)
	go func() { n.served <- n.server.Serve(breakable{l, n}) }()
	n.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: time.Millisecond},
			MinConnectTimeout: 10 * time.Second,
		}))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() {
		n.conn.Close()
		n.server.Stop()
	})
	return n
}

// to dials the first of the nodes that has not failed, else the first.
func to(nodes ...*node) Dial {
	return func(_ context.Context, failed []string) (*grpc.ClientConn, string, error) {
		for _, n := range nodes {
			if !slices.Contains(failed, n.name) {
				return n.conn, n.name, nil
			}
		}
		n := nodes[len(failed)%len(nodes)]
		return n.conn, n.name, nil
	}
}

func newClient(t failing, dir string, dial Dial, emit func(*tree.Event)) *Client {
	t.Helper()
	cache, err := NewCache(filepath.Join(dir, "contents"), 1<<20, 8<<20)
	if err != nil {
		t.Fatalf("cache: %v", err)
	}
	c := New(1, dial, cache, emit)
	t.Cleanup(func() {
		c.Close()
		cache.Close()
	})
	return c
}

func ignore(*tree.Event) {}

// Commands.

func makeAccount(a tree.Account) *raftpb.Command {
	return &raftpb.Command{Now: 1e18, Op: &raftpb.Command_CreateAccount{CreateAccount: &raftpb.CreateAccount{Account: uint32(a), Uid: 1, Gid: 1}}}
}

func reserve(a tree.Account) *raftpb.Command {
	return &raftpb.Command{Now: 1e18, Op: &raftpb.Command_ReserveInodes{
		ReserveInodes: &raftpb.ReserveInodes{Account: uint32(a), Count: tree.MaxReserve},
	}}
}

func create(dir, i tree.Ino, name string, mode uint32, content []byte) *raftpb.Command {
	c := &raftpb.Create{Parent: uint64(dir), Name: []byte(name), Inode: uint64(i), Mode: mode, Uid: 1, Gid: 1}
	if len(content) > 0 {
		c.Content = &raftpb.Content{Id: uint64(i), Size: uint64(len(content)), SealedSize: uint64(len(content)), Inline: content}
	}
	if mode == modeLink {
		c.Target = []byte("target")
	}
	return &raftpb.Command{Now: 1e18, Op: &raftpb.Command_Create{Create: c}}
}

func unlink(dir tree.Ino, name string, isDir bool) *raftpb.Command {
	return &raftpb.Command{Now: 2e18, Op: &raftpb.Command_Unlink{
		Unlink: &raftpb.Unlink{Parent: uint64(dir), Name: []byte(name), Directory: isDir},
	}}
}

func rename(from tree.Ino, old string, to tree.Ino, name string) *raftpb.Command {
	return &raftpb.Command{Now: 2e18, Op: &raftpb.Command_Rename{Rename: &raftpb.Rename{
		OldParent: uint64(from), OldName: []byte(old), NewParent: uint64(to), NewName: []byte(name),
	}}}
}

const (
	modeFile = 0o100600
	modeDir  = 0o040700
	modeLink = 0o120777
)

// soon waits for what comes by itself.
func soon(t failing, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}
