package throttle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"mailraft/raftstore"
)

// node is a throttle whose clock stands still until a login waits.
type node struct {
	*Throttle
	clock  time.Time
	waited time.Duration // of the last login
	told   chan struct{} // has an element after a note
}

// telling is a directory that says when a note has come.
type telling struct {
	Directory
	told chan struct{}
}

func (d telling) NoteFailures(ctx context.Context, key []byte, failures uint32, until time.Time) error {
	err := d.Directory.NoteFailures(ctx, key, failures, until)
	select {
	case d.told <- struct{}{}:
	default:
	}
	return err
}

// cluster is nodes over one directory, a real one.
func cluster(t *testing.T, n int) []*node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	log := slog.New(slog.DiscardHandler)
	store, err := raftstore.Open(ctx, raftstore.Config{Dir: filepath.Join(t.TempDir(), "store"), NodeID: "n1", Shards: 1, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	nodes, told := make([]*node, n), make(chan struct{}, 1)
	for i := range nodes {
		x := &node{Throttle: New(telling{store.Directory(), told}, log), clock: time.Now(), told: told}
		x.now = func() time.Time { return x.clock }
		x.sleep = func(_ context.Context, d time.Duration) error {
			x.waited = d
			x.clock = x.clock.Add(d)
			return nil
		}
		nodes[i] = x
	}
	return nodes
}

// try enters, and answers how long that took.
func (n *node) try(t *testing.T, network, account string) (*Attempt, time.Duration, error) {
	t.Helper()
	n.waited = 0
	a, err := n.Enter(t.Context(), network, account)
	if err != nil && !errors.Is(err, ErrTooMany) {
		t.Fatal(err)
	}
	return a, n.waited, err
}

func (n *node) fail(t *testing.T, times int, network, account string) {
	t.Helper()
	for range times {
		a, _, err := n.try(t, network, account)
		if err != nil {
			n.clock = n.clock.Add(networkDelay)
			if a, _, err = n.try(t, network, account); err != nil {
				t.Fatal(err)
			}
		}
		a.Failed()
	}
}

// wantWait makes sure how long the next login waits; less than 0: that it is refused untried.
func (n *node) wantWait(t *testing.T, what, network, account string, want time.Duration) {
	t.Helper()
	_, waited, err := n.try(t, network, account)
	if (err != nil) != (want < 0) || want >= 0 && waited != want {
		t.Errorf("%s: waits %v, %v; want %v", what, waited, err, want)
	}
}

// Delays of an account grow, are bounded, and are over after a while.
func TestDelaysGrow(t *testing.T) {
	n := cluster(t, 1)[0]
	want := []time.Duration{0, 0, 0, 0, 0, 1, 2, 4, 8, 8, 8}
	for i, seconds := range want {
		a, waited, err := n.try(t, fmt.Sprint("network ", i), "alice") // each from another network
		if err != nil || waited != seconds*time.Second {
			t.Errorf("try %d waits %v, %v; want %v", i, waited, err, seconds*time.Second)
		}
		a.Failed()
	}
	n.wantWait(t, "another account", "network x", "bob", 0)
	failed, delayed := n.Counts()
	if failed != 11 || delayed != 6 {
		t.Errorf("%d failed, %d were delayed", failed, delayed)
	}
	n.fail(t, 6, "", "bob")
	n.wantWait(t, "one that was mistyped", "", "bob", 2*time.Second)
	n.clock = n.clock.Add(forget + time.Second)
	n.wantWait(t, "an hour later", "", "bob", 0)
}

// Who tries one account after the other from one network is refused untried, but for one in a while.
func TestANetworkIsSlowedDown(t *testing.T) {
	n := cluster(t, 1)[0]
	tried, refused := 0, 0
	begin := n.clock
	for i := range 1000 {
		a, _, err := n.try(t, "network", fmt.Sprint("account ", i))
		if err != nil {
			refused++
			n.clock = n.clock.Add(time.Second)
			continue
		}
		tried++
		a.Failed()
	}
	minutes := int(n.clock.Sub(begin) / time.Minute)
	if tried > minutes+12 || refused < 900 {
		t.Errorf("%d were tried in %d minutes, %d refused", tried, minutes, refused)
	}
	n.wantWait(t, "another network", "another", "alice", 0)
}

// An owner is not locked out, whatever strangers do.
func TestOwnersAreNotLockedOut(t *testing.T) {
	n := cluster(t, 1)[0]
	home, _, err := n.try(t, "home", "alice")
	if err != nil {
		t.Fatal(err)
	}
	home.Succeeded()
	for i := range 300 {
		n.fail(t, 1, fmt.Sprint("botnet ", i), "alice")
	}
	n.fail(t, 30, "home", "bob") // a neighbour's guesses
	n.wantWait(t, "the owner at home", "home", "alice", 0)
	n.wantWait(t, "the owner abroad", "hotel", "alice", accountDelay)
	n.wantWait(t, "somebody else abroad", "hotel", "carol", 0)
	n.fail(t, trust, "home", "alice")
	if _, waited, err := n.try(t, "home", "alice"); waited == 0 && err == nil {
		t.Error("who has logged in once guesses for ever")
	}
}

// A program that tries its old password for ever does not shut its neighbours out.
func TestNeighboursOfAnOldPassword(t *testing.T) {
	n := cluster(t, 1)[0]
	n.fail(t, 500, "office", "phone")
	n.clock = n.clock.Add(networkDelay)
	n.wantWait(t, "a neighbour", "office", "alice", 0)
	for i := range 8 {
		n.clock = n.clock.Add(networkDelay)
		a, _, err := n.try(t, "office", fmt.Sprint("colleague ", i))
		if err != nil {
			t.Fatal(err)
		}
		a.Succeeded()
	}
	n.clock = n.clock.Add(networkDelay)
	n.eventually(t, "many who log in make up for it", func() bool {
		n.try(t, "office", "bob")
		_, waited, err := n.try(t, "office", "carol")
		return waited == 0 && err == nil
	})
}

// eventually waits for what comes of notes, which come in their own time.
func (n *node) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	for !is() {
		select {
		case <-n.told:
		case <-late:
			t.Fatal("not so: ", what)
		}
	}
}

// What comes from this machine itself is many people's: accounts alone are slowed down.
func TestThisMachineIsNoNetwork(t *testing.T) {
	n := cluster(t, 1)[0]
	for i := range 100 {
		n.fail(t, 1, "", fmt.Sprint("account ", i))
	}
	n.wantWait(t, "another account", "", "alice", 0)
	n.fail(t, 8, "", "bob")
	n.wantWait(t, "one that was guessed at", "", "bob", 8*time.Second)
}

// A storm at one node slows down what comes to the others.
func TestNodesTellEachOther(t *testing.T) {
	nodes := cluster(t, 2)
	nodes[0].fail(t, shareFrom, "network", "alice")
	for _, a := range []struct{ network, account string }{{"elsewhere", "alice"}, {"network", "bob"}} {
		nodes[1].eventually(t, fmt.Sprintf("%+v is slowed down at the other node", a), func() bool {
			nodes[1].try(t, a.network, a.account)
			_, waited, err := nodes[1].try(t, a.network, a.account)
			return waited > 0 || err != nil
		})
	}
	nodes[1].wantWait(t, "who has nothing to do with it", "elsewhere", "carol", 0)
}

// lonely is a directory that can't say what all nodes have: an older node is there yet, or no quorum.
type lonely struct{ Directory }

func (lonely) Secret(context.Context, string) ([]byte, error) { return nil, errors.New("not yet") }

// Where the directory can't help, logins go on, and are counted for this node; what it says later is taken.
func TestWithoutTheDirectory(t *testing.T) {
	n := cluster(t, 1)[0]
	real := n.directory
	n.directory = lonely{real}
	n.fail(t, 6, "network", "alice")
	n.wantWait(t, "after six", "elsewhere", "alice", 2*time.Second)
	n.directory = real
	n.clock = n.clock.Add(askEvery + time.Second)
	a, _, err := n.try(t, "elsewhere", "alice")
	if err != nil || !a.shared {
		t.Errorf("the directory is not asked again: %+v, %v", a, err)
	}
}

// Who has one account does not get rid of his network's delays by it, however often it is let in and refused.
func TestOneAccountDoesNotPayForGuesses(t *testing.T) {
	n := cluster(t, 1)[0]
	begin, guesses := n.clock, 0
	for range 50 {
		eve, _, err := n.try(t, "network", "eve")
		if err != nil {
			n.clock = n.clock.Add(time.Second)
			continue
		}
		eve.Succeeded()
		for range trust { // at once
			a, _, err := n.try(t, "network", "eve")
			if err != nil {
				break
			}
			a.Failed()
		}
		for i := range 10 {
			a, _, err := n.try(t, "network", fmt.Sprint("victim ", guesses, i))
			if err != nil {
				n.clock = n.clock.Add(time.Second)
				continue
			}
			a.Failed()
			guesses++
		}
	}
	if minutes := int(n.clock.Sub(begin) / time.Minute); guesses > minutes+30 {
		t.Errorf("%d guesses in %d minutes", guesses, minutes)
	}
}
