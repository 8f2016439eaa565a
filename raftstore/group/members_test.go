package group

import (
	"testing"
	"time"
)

// One that was removed from the group, and has heard of that, does not raise the term of the others by elections that it can't win.
func TestARemovedReplicaStandsForNoElection(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	f := c.followers(g)[0]
	if err := g.RemoveServer(f.cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	awaitThat(t, "the removed one to hear of it", func() bool { return !f.IsMember() })
	term := f.Term()
	f.PeerDown(g.cfg.NodeID, func(string) bool { return false })
	for end := time.Now().Add(stagger); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if now := f.Term(); now != term {
			t.Fatalf("its term went from %d to %d", term, now)
		}
	}
}

// What a replica says is committed is handed in as its leader's: one that does not lead must not give it to be handed in.
func TestAHintIsALeaders(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	f := c.followers(g)[0]
	if err := f.ReadIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := g.hint(); h.EntryTerm == 0 || h.Term != g.Term() {
		t.Errorf("the leader's hint: %+v", h)
	}
	if h := f.hint(); h.EntryTerm != 0 {
		t.Errorf("a follower's hint: %+v", h)
	}
}
