package group

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// followers are the replicas that run and are not g.
func (c *cluster) followers(g *Group) (list []*Group) {
	for _, o := range c.groups {
		if o != nil && o != g {
			list = append(list, o)
		}
	}
	return list
}

// What is proposed on a follower shows there when it has been answered, and on the others once they ask.
func TestProposingAndReadingOnFollowers(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	fs := c.followers(g)
	for i := range 50 {
		a, b := fs[i%2], fs[(i+1)%2]
		r := mustPropose(t, a, put(1, uint64(i+1), uint64(i+1), uint32(i), nil))
		if r.Value != 1 || len(contents(t, a)) != i+1 {
			t.Fatalf("%d: %+v, %d keys", i, r, len(contents(t, a)))
		}
		for _, reader := range []*Group{b, g} {
			if err := reader.ReadIndex(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := len(contents(t, reader)); n != i+1 {
				t.Fatalf("%d keys of %d on %s", n, i+1, reader.cfg.NodeID)
			}
		}
	}
}

// The leader dies while many propose on the others: each proposal is applied once.
func TestTheLeaderDiesUnderForwardedProposals(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	fs := c.followers(g)
	dead := c.index(g)
	var proposers sync.WaitGroup
	const each = 100
	for w := range 16 {
		proposers.Go(func() {
			for i := range each {
				r, err := fs[w%2].Propose(t.Context(), put(uint64(w+1), uint64(i+1), uint64(i+1), uint32(w*each+i), nil))
				if err != nil || r.Value != 1 {
					t.Errorf("proposer %d, %d: %+v, %v", w, i, r, err)
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // any moment will do
	c.stop(dead)
	proposers.Wait()
	for _, f := range fs {
		if err := f.ReadIndex(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(contents(t, f)); n != 16*each {
			t.Errorf("%d keys", n)
		}
	}
}

func (c *cluster) index(g *Group) int {
	for i, o := range c.groups {
		if o == g {
			return i
		}
	}
	return -1
}

// A leader that this node can't reach is none, until it can.
func TestALeaderOutOfReach(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	f := c.followers(g)[0]
	mustPropose(t, f, put(1, 1, 1, 1, nil))
	c.links.setCut(g.cfg.NodeID, f.cfg.NodeID, true)
	failures(t, f, 2, leaderPatience+2*time.Second)
	c.links.setCut(g.cfg.NodeID, f.cfg.NodeID, false)
	awaitThat(t, "the leader to be found again", func() bool { _, usable, _, _ := f.role.now(); return usable })
	mustPropose(t, f, put(2, 1, 1, 1, nil))
}

// Two of three die: the third says so soon, and goes on when one is back.
func TestAFollowerWithoutAQuorum(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	f := c.followers(g)[0]
	mustPropose(t, f, put(1, 1, 1, 1, nil))
	for _, o := range []*Group{g, c.followers(g)[1]} {
		c.stop(c.index(o))
	}
	failures(t, f, 2, leaderPatience+2*time.Second)
	for i := range 3 {
		if c.groups[i] == nil {
			c.start(i)
		}
	}
	awaitThat(t, "a leader", func() bool { _, usable, _, _ := f.role.now(); return usable })
	mustPropose(t, f, put(2, 1, 1, 1, nil))
}

// A forwarded proposal that got no answer is out of the way after a barrier, though it arrives at the leader only later.
func TestABarrierHoldsUpWhatIsOnItsWay(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	f := c.followers(g)[0]
	mustPropose(t, f, put(1, 1, 1, 1, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	late := put(1, 2, 1, 2, nil)
	c.hold.Lock()
	_, err := f.Propose(ctx, late)
	c.hold.Unlock()
	if err == nil {
		t.Fatal("answered")
	}
	never := put(1, 3, 1, 3, nil)
	f.doubts.add(never) // this one is in the network still
	if err := f.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(contents(t, f))
	mustPropose(t, g, never)
	mustPropose(t, g, late)
	if err := f.ReadIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := fmt.Sprint(contents(t, f)); now != before {
		t.Errorf("applied after the barrier: %s, was %s", now, before)
	}
	if n := len(f.doubts.all()); n != 0 {
		t.Errorf("%d in doubt", n)
	}
}

// An answer that a follower gave before the question is none, nor that of a replica without a vote.
func TestOldAnswersAreNoQuorum(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	if err := g.ReadIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	term, conf := g.raft.CurrentTerm(), g.raft.GetConfiguration().Configuration()
	self := conf.Servers[c.index(g)].ID
	a := new(acks)
	old := a.now()
	round, end := a.begin()
	defer end()
	for _, s := range conf.Servers {
		a.note(s.ID, term, old)
	}
	if ok, _ := a.quorum(conf, self, term, round); ok {
		t.Error("old answers counted")
	}
	other := conf.Servers[c.other(g)].ID
	a.note(other, term-1, a.now())
	if ok, _ := a.quorum(conf, self, term, round); ok {
		t.Error("an answer of another term counted")
	}
	silent := conf.Clone()
	for i := range silent.Servers {
		if silent.Servers[i].ID == other {
			silent.Servers[i].Suffrage = 1
		}
	}
	a.note(other, term, a.now())
	if ok, _ := a.quorum(silent, self, term, round); ok {
		t.Error("an answer without a vote counted")
	}
	if ok, _ := a.quorum(conf, self, term, round); !ok {
		t.Error("a quorum did not count")
	}
}

// What was forwarded is done when it is applied here: the leader's answer need not have come.
func TestAForwardedProposalEndsWhenItIsApplied(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	c.links.answers = make(chan struct{})
	defer close(c.links.answers)
	f := c.followers(g)[0]
	for seq := uint64(2); seq < 5; seq++ {
		if r := mustPropose(t, f, put(1, seq, 1, 1, nil)); r.Value != seq || f.passed.now() < r.Index {
			t.Errorf("%+v, and the follower is at %d", r, f.passed.now())
		}
	}
	if len(f.forwarded.waiting) > 0 {
		t.Errorf("%d are waited for yet", len(f.forwarded.waiting))
	}
}
