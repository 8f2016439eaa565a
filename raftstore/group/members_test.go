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
	// Raft's leader tells it once, and stops: what is lost then is not sent again, and it hears nothing.
	for tries := 0; f.IsMember(); tries++ {
		if tries == 5 {
			t.Fatal("the removed one does not hear of it")
		}
		if err := g.AddVoter(f.cfg.NodeID); err != nil {
			t.Fatal(err)
		}
		if err := f.ReadIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.RemoveServer(f.cfg.NodeID); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(2 * time.Second); f.IsMember() && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		}
	}
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

// When the voter whose turn it is lacks entries, and so is elected by nobody, another one is elected soon all the same.
func TestTheFirstToStandLacksEntries(t *testing.T) {
	c := newCluster(t, 3)
	c.heartbeat = 10 * time.Second // so that nobody stands for election by itself
	for i := range 3 {
		c.start(i)
	}
	if err := c.groups[0].standForElection(); err != nil {
		t.Fatal(err)
	}
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	c.transports[0].Disconnect(c.servers[1].Address)
	mustPropose(t, g, put(1, 2, 2, 1, nil))
	dead := g.cfg.NodeID
	c.stop(0)
	begun := time.Now()
	for _, f := range c.groups[1:] {
		f.PeerDown(dead, func(node string) bool { return node != dead })
	}
	awaitThat(t, "the one that has all entries to lead", c.groups[2].Leads)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}
