package nodeapi

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailraft/proxy"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

var (
	alice   = proxy.Mailbox{Account: "alice@example.org", Home: root + "/2/example.org/alice"}
	fullBox = proxy.Mailbox{Account: "full@example.org", Home: root + "/1/example.org/full"}
)

func TestLookUp(t *testing.T) {
	w := newWorld(t)
	w.account(t, "alice", 0)
	full := w.account(t, "full", 1)
	w.deliver(t, full, "one")
	if err := w.store.Directory().AddAlias(within(t), "all@example.org", []string{"alice@example.org", "full@example.org"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address, detail string
		want            []proxy.Mailbox
		err             error
	}{
		{address: "alice@example.org", want: []proxy.Mailbox{alice}},
		{address: "Alice+Lists@EXAMPLE.org", detail: "lists", want: []proxy.Mailbox{alice}},
		{address: "all@example.org", want: []proxy.Mailbox{alice, fullBox}, err: proxy.ErrOverQuota}, // one of them takes nothing more, so the sender keeps it
		{address: "full+x@example.org", detail: "x", want: []proxy.Mailbox{fullBox}, err: proxy.ErrOverQuota},
		{address: "bob@example.org", err: proxy.ErrNoSuchUser},
		{address: "../alice@example.org", err: proxy.ErrNoSuchUser},
		{address: "no address", err: proxy.ErrNoSuchUser},
		{address: "alice@example.net", err: proxy.ErrNoSuchDomain},
	} {
		got, detail, err := w.client.LookUp(within(t), c.address)
		if d := cmp.Diff(c.want, got); !errors.Is(err, c.err) || d != "" || detail != c.detail {
			t.Errorf("%s: detail %q, %v\n%s", c.address, detail, err, d)
		}
	}
	w.server.Stop()
	if _, _, err := w.client.LookUp(within(t), "alice@example.org"); !errors.Is(err, proxy.ErrTemporary) {
		t.Error("without a node:", err)
	}
}

// Wherever a postmaster is written to, one domain's is enough.
func TestLookUpPostmaster(t *testing.T) {
	w := newWorld(t)
	w.account(t, "alice", 0)
	dir := w.store.Directory()
	for _, domain := range []string{"example.com", "example.net"} {
		if err := dir.AddDomain(within(t), domain); err != nil {
			t.Fatal(err)
		}
	}
	addresses := []string{"postmaster", "Postmaster", "POSTMASTER@example.com", "postmaster@example.net", "postmaster@example.org"}
	want := func(err error, mailboxes ...proxy.Mailbox) {
		t.Helper()
		for _, address := range addresses {
			if got, _, e := w.client.LookUp(within(t), address); !errors.Is(e, err) || !cmp.Equal(got, mailboxes) {
				t.Errorf("%s: %v, %v", address, got, e)
			}
		}
		if _, _, err := w.client.LookUp(within(t), "postmaster@elsewhere.example"); !errors.Is(err, proxy.ErrNoSuchDomain) {
			t.Error(err)
		}
	}
	want(proxy.ErrNoSuchUser)
	if err := dir.AddAlias(within(t), "postmaster@example.net", []string{"alice@example.org"}); err != nil {
		t.Fatal(err)
	}
	want(nil, alice)
	w.account(t, "postmaster", 0) // a domain's own comes first
	if got, _, err := w.client.LookUp(within(t), "postmaster@example.org"); err != nil || len(got) != 1 || got[0].Account != "postmaster@example.org" {
		t.Errorf("%v, %v", got, err)
	}
}

func credentials(user, password string) proxy.Credentials {
	return proxy.Credentials{Username: user, Password: password, Protocol: "imap", Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}, TLS: true}
}

func TestASessionKeepsTheAccountUnlocked(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	ctx, cancel := context.WithCancel(within(t))
	s, err := w.client.Login(ctx, credentials("ALICE@example.org", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	cancel() // bounds the login, not the session
	if s.Mailbox() != alice {
		t.Errorf("%+v", s.Mailbox())
	}
	if !w.unlocked(a) {
		t.Error("locked during the session")
	}
	w.wantReader(t, "by password", a)
	again, err := w.client.Login(within(t), credentials("alice@example.org", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if !w.unlocked(a) {
		t.Error("the end of one session ended the other")
	}
	locked := w.locks()
	again.Close()
	<-locked
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestASessionEndsWithItsProxyAndWithTheLock(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	other, err := NewClient(w.socket, root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := other.Login(within(t), credentials("alice@example.org", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	locked := w.locks()
	other.Close() // as the kernel does when the process dies
	<-s.Done()
	<-locked

	s, err = w.client.Login(within(t), credentials("alice@example.org", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	w.ring.Lock(uint64(a.Number))
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Error("the session does not know that the account is locked")
	}
	s.Close()
}

func TestLoginRefused(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	for _, c := range [][2]string{{"alice@example.org", "Secret"}, {"alice@example.org", ""}, {"bob@example.org", "secret"}, {"alice@nowhere.example", "secret"}, {"alice", "secret"}, {"", ""}} {
		if _, err := w.client.Login(within(t), credentials(c[0], c[1])); !errors.Is(err, proxy.ErrAuthentication) {
			t.Errorf("%q: %v", c, err)
		}
	}
	if w.unlocked(a) {
		t.Error("unlocked")
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.client.Login(canceled, credentials("alice@example.org", "secret")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestPasswordsAreCharacters logs in with another spelling of the same characters.
func TestPasswordsAreCharacters(t *testing.T) {
	w := newWorld(t)
	w.accountWith(t, "alice", "caf\u00e9", 0)
	s, err := w.client.Login(within(t), credentials("alice@example.org", "cafe\u0301"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestWatch(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	other := w.account(t, "bob", 0)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	changes, err := w.client.Watch(ctx, "alice@example.org")
	if err != nil {
		t.Fatal(err)
	}
	w.deliver(t, other, "not hers")
	w.deliver(t, a, "one")
	if c := <-changes; c.Folder != "" || c.ModSeq == 0 || c.Folders {
		t.Errorf("%+v", c)
	}

	// What comes while nobody reads is merged, and the last of it is not lost.
	for i := range 200 {
		w.deliver(t, a, "m"+strings.Repeat("x", i))
	}
	sh, err := w.store.Shard(tree.Account(a.Number))
	if err != nil {
		t.Fatal(err)
	}
	home, err := sh.View().Inode(tree.RootIno(tree.Account(a.Number)))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for c := range changes {
		if seen++; c.ModSeq == uint64(home.HighestModSeq) {
			break
		}
	}
	if seen > 200 {
		t.Errorf("%d changes of 200 deliveries", seen)
	}

	w.mkdir(t, a, ".Sent")
	for c := range changes {
		if c.Folders {
			break
		}
	}
	// Whoever watches an account whose state was replaced looks again.
	for _, ev := range []tree.Event{{Replaced: true, Shard: a.Shard}, {Replaced: true, Shard: a.Shard, Account: tree.Account(a.Number)}} {
		w.service.feed.applied(&tree.Event{Replaced: true, Shard: other.Shard, Account: tree.Account(other.Number)})
		w.service.feed.applied(&ev)
		if c := <-changes; !c.Folders {
			t.Errorf("%+v", c)
		}
	}
	cancel()
	for range changes {
	}

	if _, err := w.client.Watch(within(t), "nobody@example.org"); !errors.Is(err, proxy.ErrNoSuchUser) {
		t.Error(err)
	}
}

func (w *world) unlocked(a *raftpb.Account) bool {
	_, ok := w.ring.Identity(uint64(a.Number))
	return ok
}

// locks is closed when the next account is locked.
func (w *world) locks() <-chan struct{} {
	locked := make(chan struct{})
	var once sync.Once
	w.ring.OnLock(func(uint64) { once.Do(func() { close(locked) }) })
	return locked
}

// deliver puts an empty message in the account's INBOX.
func (w *world) deliver(t *testing.T, a *raftpb.Account, name string) {
	t.Helper()
	account := tree.Account(a.Number)
	w.create(t, a, tree.MakeIno(account, 2), name, syscall.S_IFREG|0o600)
}

func (w *world) mkdir(t *testing.T, a *raftpb.Account, name string) {
	t.Helper()
	w.create(t, a, tree.RootIno(tree.Account(a.Number)), name, syscall.S_IFDIR|0o700)
}

func (w *world) create(t *testing.T, a *raftpb.Account, parent tree.Ino, name string, mode uint32) {
	t.Helper()
	account := tree.Account(a.Number)
	p := w.store.NewProposer()
	ino, err := p.ReserveIno(within(t), account)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Propose(within(t), &raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(parent), Name: []byte(name), Inode: uint64(ino), Mode: mode,
	}}})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestOtherUsersAreRefused connects as another user, whom the socket's permissions would let in.
func TestOtherUsersAreRefused(t *testing.T) {
	if os.Getenv("NODEAPI_SOCKET") != "" {
		c, err := NewClient(os.Getenv("NODEAPI_SOCKET"), root)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _, err = c.LookUp(within(t), "alice@example.org")
		t.Log("answer:", err)
		return
	}
	w := newWorld(t, 5000)
	w.account(t, "alice", 0)
	if err := os.Chmod(w.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	for dir := w.socket; dir != "/tmp" && dir != "/"; {
		dir = dir[:strings.LastIndexByte(dir, '/')]
		if dir == "" || dir == os.TempDir() {
			break
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	as := func(uid uint32) string {
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestOtherUsersAreRefused$", "-test.v")
		cmd.Env = append(os.Environ(), "NODEAPI_SOCKET="+w.socket)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := as(5000); !strings.Contains(out, "answer: <nil>") {
		t.Error("the proxies' user:", out)
	}
	if out := as(5001); !strings.Contains(out, "temporary failure") {
		t.Error("another user:", out)
	}
	if _, _, err := w.client.LookUp(within(t), "alice@example.org"); !errors.Is(err, proxy.ErrTemporary) {
		t.Error("root:", err)
	}
}
