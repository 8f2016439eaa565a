package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// members is what all nodes of a test know.
type members struct {
	mu   sync.Mutex
	list map[string]Member
}

func (m *members) Member(node string) (Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.list[node]
	return found, ok
}

func (m *members) set(node string, to Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list[node] = to
}

// cluster is nodes under one authority.
type cluster struct {
	t  *testing.T
	ca *Authority
	*members
}

func newCluster(t *testing.T) *cluster {
	ca, err := NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t, ca, &members{list: map[string]Member{}}}
}

// identity makes one; now is when its certificate was made.
func (c *cluster) identity(node string, now time.Time) *Identity {
	c.t.Helper()
	dir := filepath.Join(c.t.TempDir(), node)
	key, err := NodeKey(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := c.ca.Issue(key.Public(), node, now)
	if err != nil {
		c.t.Fatal(err)
	}
	id, err := CreateIdentity(dir, c.ca.Certificate(), cert)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// start starts a node that serves gRPC, and tells who called.
func (c *cluster) start(id *Identity) (*Transport, <-chan string) {
	c.t.Helper()
	tr, err := Listen(Config{Address: "127.0.0.1:0", Identity: id, Members: c.members, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.t.Fatal(err)
	}
	callers := make(chan string, 100)
	note := grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		name, err := PeerName(ctx)
		if err != nil {
			name = "nobody"
		}
		callers <- name
		return next(ctx, req)
	})
	for _, l := range []net.Listener{tr.GRPCListener(), tr.JoinListener()} {
		s := grpc.NewServer(append(ServerOptions(), note)...)
		grpc_health_v1.RegisterHealthServer(s, health.NewServer())
		go s.Serve(l)
		c.t.Cleanup(s.Stop)
	}
	c.t.Cleanup(func() { tr.Close() })
	c.set(id.Name(), Member{Address: tr.Address(), Key: id.Key()})
	return tr, callers
}

func check(conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func (c *cluster) reach(from *Transport, to string) error {
	conn, err := from.Dial(to)
	if err != nil {
		return err
	}
	return check(conn)
}

func TestNodesCallEachOther(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, callers := c.start(c.identity("b.example", time.Now()))
	if err := c.reach(a, "b.example"); err != nil {
		t.Fatal(err)
	}
	if who := <-callers; who != "a" {
		t.Errorf("the caller is %q", who)
	}
	// A machine that joins knows the authority, and nothing else.
	conn, err := DialJoin(b.Address(), c.ca.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := check(conn); err != nil {
		t.Fatal(err)
	}
	if who := <-callers; who != "nobody" {
		t.Errorf("the machine that joins is %q", who)
	}
	wrong, err := DialJoin(b.Address(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if err := check(wrong); err == nil {
		t.Error("a machine joins a cluster that its token is not for")
	}
}

// TestRefusals has each kind of stranger knock.
func TestRefusals(t *testing.T) {
	c := newCluster(t)
	b, _ := c.start(c.identity("b", time.Now()))
	knock := func(cert *tls.Certificate, proto string, version uint16) {
		config := &tls.Config{InsecureSkipVerify: true, MaxVersion: version}
		if proto != "" {
			config.NextProtos = []string{proto}
		}
		if cert != nil {
			config.Certificates = []tls.Certificate{*cert}
		}
		conn, err := tls.Dial("tcp", b.Address(), config)
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := conn.Write([]byte{1, 'x'}); err == nil {
			io.ReadAll(conn) // it ends when the other side has refused
		}
	}
	removed := c.identity("r", time.Now())
	c.set("r", Member{Key: removed.Key(), Removed: true})
	forged := c.identity("a", time.Now())
	c.set("a", Member{Key: [32]byte{1}})
	other := newCluster(t).identity("a", time.Now())
	for _, k := range []struct {
		reason  Reason
		cert    *tls.Certificate
		proto   string
		version uint16
	}{
		{NoCertificate, nil, protoRPC, 0},
		{Stranger, other.current.Load(), protoRPC, 0},
		{Expired, c.identity("e", time.Now().Add(-certificateLife-time.Minute)).current.Load(), protoRaft, 0},
		{Removed, removed.current.Load(), protoRaft, 0},
		{WrongKey, forged.current.Load(), protoPing, 0},
		{UnknownProtocol, forged.current.Load(), "http/1.1", 0},
		{UnknownProtocol, forged.current.Load(), "", 0},
		{Handshake, forged.current.Load(), protoRPC, tls.VersionTLS12},
	} {
		before := b.Refusals()[k.reason]
		knock(k.cert, k.proto, k.version)
		deadline := time.Now().Add(3 * time.Second)
		for b.Refusals()[k.reason] == before {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not refused: %v", k.reason, b.Refusals())
			}
			time.Sleep(time.Millisecond)
		}
	}
	// One that is not known yet is let in: it may have joined while this node was away.
	a, _ := c.start(c.identity("new", time.Now()))
	c.mu.Lock()
	delete(c.list, "new")
	c.mu.Unlock()
	if err := c.reach(a, "b"); err != nil {
		t.Error(err)
	}
}

// TestARemovedNodeIsDisconnected: what was open ends, and no more is let in.
func TestARemovedNodeIsDisconnected(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	if err := c.reach(a, "b"); err != nil {
		t.Fatal(err)
	}
	m, _ := c.Member("a")
	m.Removed = true
	c.set("a", m)
	b.Disconnect("a")
	deadline := time.Now().Add(5 * time.Second)
	for b.Refusals()[Removed] == 0 {
		if err := c.reach(a, "b"); err == nil {
			t.Fatal("a removed node still calls")
		}
		if time.Now().After(deadline) {
			t.Fatal("it was not refused:", b.Refusals())
		}
	}
}

func TestANodeThatAnswersForAnotherIsRefused(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	c.set("other", Member{Address: b.Address()})
	if err := c.reach(a, "other"); err == nil || a.Refusals()[WrongNode] == 0 {
		t.Errorf("%v, %v", err, a.Refusals())
	}
}

// TestWatch: a node that is gone, and one that is back, are seen.
func TestWatch(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	id := c.identity("b", time.Now())
	b, _ := c.start(id)
	type change struct {
		node string
		up   bool
	}
	changes := make(chan change, 10)
	a.Watch(func(node string, up bool) { changes <- change{node, up} })
	a.SetPeers([]string{"b"})
	expect := func(want change) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Fatalf("saw %v, want %v", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("did not see %v", want)
		}
	}
	expect(change{"b", true})
	begun := time.Now()
	b.Close()
	expect(change{"b", false})
	t.Log("seen dead after", time.Since(begun))
	c.start(id)
	expect(change{"b", true})
	if !a.Up("b") {
		t.Error("it is not up")
	}
}

// TestRaftStreams: a vote is asked for over the port, per group; a group that is not open there answers nothing.
func TestRaftStreams(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	one, err := a.Raft("shard-1", hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer one.(raft.WithClose).Close()
	two, err := b.Raft("shard-1", hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer two.(raft.WithClose).Close()
	if one.LocalAddr() != "a" {
		t.Error("the address is", one.LocalAddr())
	}
	if _, err := a.Raft("shard-1", hclog.NewNullLogger()); err == nil {
		t.Error("a group is opened twice")
	}
	go func() {
		rpc := <-two.Consumer()
		rpc.Respond(&raft.RequestVoteResponse{Term: rpc.Command.(*raft.RequestVoteRequest).Term, Granted: true}, nil)
	}()
	var resp raft.RequestVoteResponse
	if err := one.RequestVote("b", "b", &raft.RequestVoteRequest{Term: 7}, &resp); err != nil || resp.Term != 7 || !resp.Granted {
		t.Error(resp, err)
	}
	none, err := a.Raft("shard-2", hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer none.(raft.WithClose).Close()
	if err := none.RequestVote("b", "b", &raft.RequestVoteRequest{Term: 7}, &resp); err == nil {
		t.Error("a group that is not there answers")
	}
}

// TestRenewal: a node goes on with a new certificate for its key, which is taken before the old one has run out.
func TestRenewal(t *testing.T) {
	c := newCluster(t)
	id := c.identity("a", time.Now().Add(-certificateLife*3/4))
	a, _ := c.start(id)
	c.start(c.identity("b", time.Now()))
	if time.Until(id.RenewAt()) > 0 {
		t.Fatal("it is not time to renew:", id.RenewAt())
	}
	was := id.NotAfter()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	signed := make(chan struct{})
	go func() {
		defer close(done)
		id.KeepValid(ctx, func(_ context.Context, key cryptoPublicKey) ([]byte, error) {
			defer close(signed)
			return c.ca.Issue(key, "a", time.Now())
		}, slog.New(slog.DiscardHandler))
	}()
	<-signed
	for id.NotAfter().Equal(was) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if err := c.reach(a, "b"); err != nil {
		t.Error(err)
	}
	loaded, err := LoadIdentity(id.dir)
	if err != nil || !loaded.NotAfter().Equal(id.NotAfter()) || loaded.Key() != id.Key() {
		t.Error(loaded, err)
	}
	stolen, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := c.ca.Issue(stolen.Public(), "a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Renew(cert); err == nil {
		t.Error("a certificate for another key is taken")
	}
}
