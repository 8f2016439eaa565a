package nodeapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/peercred"
	"mailraft/proxy"
	"mailraft/raftstore"
)

// twoNodes makes a cluster: the store that leads its directory, and one that follows.
func twoNodes(t *testing.T) (leader, follower *raftstore.Store) {
	t.Helper()
	configs := []raftstore.Config{{NodeID: "n1"}, {NodeID: "n2"}}
	var stores []*raftstore.Store
	for _, cfg := range configs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listen, cfg.Dir = l.Addr().String(), filepath.Join(t.TempDir(), "store")
		l.Close()
		if len(stores) > 0 {
			token, err := stores[0].NewToken(within(t), time.Minute)
			if err == nil {
				err = raftstore.Join(within(t), raftstore.JoinConfig{Dir: cfg.Dir, NodeID: cfg.NodeID, Address: cfg.Listen, Token: token})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		stores = append(stores, openStore(t, cfg))
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		groups, err := stores[0].Groups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settled := !slices.ContainsFunc(groups, func(g raftstore.GroupStatus) bool {
			return g.Leader == "" || len(g.Replicas) != 2 || !g.Replicas[0].Voter || !g.Replicas[1].Voter
		})
		switch {
		case settled && groups[0].Leader == "n2":
			return stores[1], stores[0]
		case settled:
			return stores[0], stores[1]
		case time.Now().After(end):
			t.Fatalf("the two nodes do not vote in every group: %+v", groups)
		}
	}
}

// hold keeps a follower's copy of the directory as it is, as if it had not heard what is committed, until release.
func hold(t *testing.T, leader, follower *raftstore.Store, domain string) (release func()) {
	t.Helper()
	held, entered := make(chan struct{}), make(chan struct{})
	enter := sync.OnceFunc(func() { close(entered) })
	cancel := follower.Directory().Subscribe(func(raftstore.DirectoryEvent) {
		enter()
		<-held
	})
	release = sync.OnceFunc(func() {
		close(held)
		cancel()
	})
	t.Cleanup(release)
	if err := leader.Directory().AddDomain(within(t), domain); err != nil {
		t.Fatal(err)
	}
	<-entered // that one has been applied: nothing behind it is
	return release
}

// admin serves the world's store to an administrator.
func (w *world) admin(t *testing.T) *adminapi.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	log := slog.New(slog.DiscardHandler)
	listener, err := peercred.Listen(socket, 0o600, -1, log, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(adminapi.Options()...)
	adminapi.NewServer(adminapi.Node{Store: w.store, Keyring: w.ring, Access: w.access, Gate: w.gate, Logger: log}).Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c, err := adminapi.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// question is what a client or an administrator asks, and what is to be answered.
type question struct {
	name string
	ask  func(ctx context.Context) error
	want error      // of a proxy
	code codes.Code // of an administrator
}

func (q *question) isAnswered(err error) bool {
	if q.want != nil {
		return errors.Is(err, q.want)
	}
	return status.Code(err) == q.code
}

// askAll asks all at once, and says when the first is answered.
func askAll(t *testing.T, questions []question) (answered <-chan struct{}, wait func()) {
	t.Helper()
	first := make(chan struct{})
	once := sync.OnceFunc(func() { close(first) })
	var asking sync.WaitGroup
	for _, q := range questions {
		asking.Go(func() {
			err := q.ask(within(t))
			if !q.isAnswered(err) {
				t.Errorf("%s: %v", q.name, err)
			}
			once()
		})
	}
	return first, asking.Wait
}

func (w *world) lookUp(address, home string) func(context.Context) error {
	return func(ctx context.Context) error {
		found, _, err := w.client.LookUp(ctx, address)
		if err == nil && (len(found) != 1 || found[0].Account != home) {
			err = errors.New("delivers to " + found[0].Account)
		}
		return err
	}
}

func (w *world) login(user, password string) func(context.Context) error {
	return func(ctx context.Context) error {
		s, err := w.client.Login(ctx, credentials(user, password))
		if err == nil {
			s.Close()
		}
		return err
	}
}

func (w *world) watch(account string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := w.client.Watch(ctx, account)
		return err
	}
}

// What was just added on another node is known to a node whose copy of the directory lags behind; and when nobody can tell it, it says
// so, and not that there is no such user.
func TestALaggingDirectoryRefusesNobody(t *testing.T) {
	leader, follower := twoNodes(t)
	w := newWorldOn(t, follower, uint32(os.Getuid()))
	admin := w.admin(t)
	alice := addAccount(t, leader, "alice", "example.org", "secret", 0)
	erin := addAccount(t, leader, "erin", "example.org", "secret", 0)
	addAccount(t, leader, "carol", "example.org", "secret", 0)
	alias := func(address, target string) {
		t.Helper()
		if err := leader.Directory().AddAlias(within(t), address, []string{target}); err != nil {
			t.Fatal(err)
		}
	}
	alias("postmaster@example.org", "alice@example.org")
	if err := follower.Directory().ReadIndex(within(t)); err != nil {
		t.Fatal(err)
	}

	release := hold(t, leader, follower, "first.example")
	addAccount(t, leader, "bob", "new.example", "secret", 0)
	alias("all@example.org", "bob@new.example")
	alias("postmaster@new.example", "bob@new.example")
	alias("to.carol@new.example", "carol@example.org")
	rewrap(t, leader, alice, "secret", "other")
	rewrap(t, leader, erin, "secret", "other")
	if _, err := follower.Directory().Domain("new.example"); !errors.Is(err, raftstore.ErrNoSuchDomain) {
		t.Fatal("the copy does not lag behind, so there is nothing to see here:", err)
	}
	answered, wait := askAll(t, []question{
		{name: "a recipient", ask: w.lookUp("bob@new.example", "bob@new.example")},
		{name: "an alias", ask: w.lookUp("all@example.org", "bob@new.example")},
		{name: "the new domain's postmaster", ask: w.lookUp("postmaster@new.example", "bob@new.example")},
		{name: "nobody", ask: w.lookUp("nobody@example.org", ""), want: proxy.ErrNoSuchUser},
		{name: "a login", ask: w.login("bob@new.example", "secret")},
		{name: "the new password", ask: w.login("alice@example.org", "other")},
		{name: "a wrong password", ask: w.login("alice@example.org", "wrong"), want: proxy.ErrAuthentication},
		{name: "a login as nobody", ask: w.login("nobody@example.org", "secret"), want: proxy.ErrAuthentication},
		{name: "a watch", ask: w.watch("bob@new.example")},
		{name: "a watch of nobody's", ask: w.watch("nobody@example.org"), want: proxy.ErrNoSuchUser},
		{name: "account show", ask: func(ctx context.Context) error {
			_, err := admin.GetAccount(ctx, &adminpb.AccountRequest{Address: "bob@new.example"})
			return err
		}},
		{name: "quota", ask: func(ctx context.Context) error {
			_, err := admin.SetQuota(ctx, &adminpb.SetQuotaRequest{Address: "bob@new.example", Files: 100})
			return err
		}},
		{name: "lock", ask: func(ctx context.Context) error {
			_, err := admin.Lock(ctx, &adminpb.AccountRequest{Address: "bob@new.example"})
			return err
		}},
		{name: "unlock", ask: func(ctx context.Context) error {
			_, err := admin.Unlock(ctx, &adminpb.UnlockRequest{Address: "erin@example.org", Password: []byte("other"), Seconds: 9})
			return err
		}},
		{name: "account passwd", ask: func(ctx context.Context) error {
			_, err := admin.SetPassword(ctx, &adminpb.SetPasswordRequest{Address: "erin@example.org", Old: []byte("other"), New: []byte("other")})
			return err
		}},
		{name: "account remove", code: codes.FailedPrecondition, ask: func(ctx context.Context) error {
			_, err := admin.RemoveAccount(ctx, &adminpb.AccountRequest{Address: "carol@example.org"})
			return err
		}},
		{name: "alias add", ask: func(ctx context.Context) error {
			_, err := admin.AddAlias(ctx, &adminpb.Alias{Address: "second@example.org", Targets: []string{"bob@new.example"}})
			return err
		}},
		{name: "account add", ask: func(ctx context.Context) error {
			stream, err := admin.AddAccounts(ctx)
			if err != nil {
				return err
			}
			err = stream.Send(&adminpb.AddAccountRequest{Address: "frank@new.example", Password: []byte("secret"), Key: "x25519"})
			if err != nil && err != io.EOF {
				return err
			}
			if err := stream.CloseSend(); err != nil {
				return err
			}
			reply, err := stream.Recv()
			if err == nil && reply.Error != "" {
				err = errors.New(reply.Error)
			}
			return err
		}},
	})
	select {
	case <-answered:
		t.Error("something was answered by a copy that lags behind")
	case <-time.After(time.Second): // so long it lags
	}
	release()
	wait()

	hold(t, leader, follower, "second.example")
	addAccount(t, leader, "late", "example.org", "secret", 0)
	begin := time.Now()
	_, wait = askAll(t, []question{
		{name: "a recipient", ask: w.lookUp("late@example.org", ""), want: proxy.ErrTemporary},
		{name: "a domain", ask: w.lookUp("late@nowhere.example", ""), want: proxy.ErrTemporary},
		{name: "a login", ask: w.login("late@example.org", "secret"), want: proxy.ErrTemporary},
		{name: "a wrong password", ask: w.login("alice@example.org", "wrong"), want: proxy.ErrTemporary},
		{name: "a watch", ask: w.watch("late@example.org"), want: proxy.ErrTemporary},
		{name: "lock", code: codes.Unavailable, ask: func(ctx context.Context) error {
			_, err := admin.Lock(ctx, &adminpb.AccountRequest{Address: "late@example.org"})
			return err
		}},
	})
	known, waitKnown := askAll(t, []question{
		{name: "what is known", ask: w.lookUp("alice@example.org", "alice@example.org")},
		{name: "a password that is known", ask: w.login("alice@example.org", "other")},
	})
	<-known
	waitKnown()
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("what the copy has was told after %v", took)
	}
	wait()
}
