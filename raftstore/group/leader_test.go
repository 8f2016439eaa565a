package group

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// failures proposes, and has it fail: the first within most, the next ones, and listings, at once.
func failures(t *testing.T, g *Group, seq uint64, most time.Duration) {
	t.Helper()
	for n, most := range []time.Duration{most, time.Second, time.Second} {
		start := time.Now()
		_, err := g.Propose(context.Background(), put(1, seq, 1, uint32(n), nil))
		if took := time.Since(start); !errors.Is(err, ErrNoLeader) || !errors.Is(err, syscall.EIO) || took > most {
			t.Errorf("proposal %d: %v after %v", n, err, took)
		}
		seq++
	}
	start := time.Now()
	if err, took := g.ReadIndex(context.Background()), time.Since(start); !errors.Is(err, ErrNoLeader) || took > time.Second {
		t.Errorf("listing: %v after %v", err, took)
	}
}

func TestAGroupWithoutALeader(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	for i := range 3 {
		if c.groups[i] != g {
			c.stop(i)
		}
	}
	failures(t, g, 2, leaderPatience+2*time.Second)
	for i := range 3 {
		if c.groups[i] == nil {
			c.start(i)
		}
	}
	g = c.leader()
	mustPropose(t, g, put(2, 1, 1, 1, nil))
	if err := g.ReadIndex(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is proposed while a leader is elected waits for it.
func TestAProposalWaitsForALeader(t *testing.T) {
	c := newCluster(t, 1)
	g := c.start(0) // and not yet elected
	if err := g.ReadIndex(t.Context()); err != nil {
		t.Error(err)
	}
	c.stop(0)
	g = c.start(0)
	if r := mustPropose(t, g, put(1, 1, 1, 1, nil)); r.Value != 1 {
		t.Errorf("%+v", r)
	}
}

// A leader that commits nothing, because its disk hangs, is none.
func TestALeaderThatHangs(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	c.hold.Lock()
	failures(t, g, 2, commitPatience+2*time.Second)
	c.hold.Unlock()
	awaitThat(t, "the proposals under way to end", func() bool { return g.waiting.patience() == commitPatience })
	mustPropose(t, g, put(1, 10, 10, 1, nil))
}

// A leader whose replica is broken gives up its part, and the others go on.
func TestABrokenLeader(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	damage := errors.New("a record that can't be read")
	c.hold.Lock()
	ended := make(chan error)
	go func() {
		_, err := g.Propose(context.Background(), put(1, 2, 1, 1, nil))
		ended <- err
	}()
	awaitThat(t, "a proposal under way", func() bool { return g.waiting.patience() < commitPatience })
	g.fail(damage)
	if err := <-ended; !errors.Is(err, damage) {
		t.Errorf("under way: %v", err)
	}
	c.hold.Unlock()
	if _, err := g.Propose(t.Context(), put(1, 3, 1, 1, nil)); !errors.Is(err, damage) {
		t.Errorf("proposal: %v", err)
	}
	if _, _, err := g.ProposeHere(t.Context(), nil); !errors.Is(err, ErrNoLeader) {
		t.Errorf("proposal of another's: %v", err)
	}
	if err := g.ReadIndex(t.Context()); !errors.Is(err, damage) {
		t.Errorf("listing: %v", err)
	}
	next := c.leader()
	if next == g {
		t.Fatal("the broken one leads")
	}
	mustPropose(t, next, put(2, 1, 1, 1, nil))
}

// Whoever waits for a term hears of each in which this replica leads, once.
func TestWaitTerm(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	first, err := g.WaitTerm(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if term, err := g.WaitTerm(ctx, first); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("term %d again: %d, %v", first, term, err)
	}
	// Leadership goes elsewhere, and comes back.
	other := c.groups[c.other(g)]
	if err := g.raft.LeadershipTransferToServer(raft.ServerID(other.cfg.NodeID), raft.ServerAddress(other.cfg.NodeID)).Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.WaitTerm(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := other.raft.LeadershipTransferToServer(raft.ServerID(g.cfg.NodeID), raft.ServerAddress(g.cfg.NodeID)).Error(); err != nil {
		t.Fatal(err)
	}
	if term, err := g.WaitTerm(t.Context(), first); err != nil || term <= first {
		t.Errorf("next term: %d, %v", term, err)
	}
}
