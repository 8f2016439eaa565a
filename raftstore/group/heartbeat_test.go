package group

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// together are the Heartbeats of a test's replica.
type together struct {
	c     *cluster
	node  string
	sent  *atomic.Int64
	waits time.Duration
}

func (h together) Send(now <-chan struct{}, node, _ string, term uint64, committed Hint) (uint64, bool, error) {
	select {
	case <-time.After(h.waits):
	case <-now:
		return 0, false, ErrAlone
	}
	g := h.c.links.to(h.node, node)
	if g == nil {
		return 0, false, ErrNoLeader
	}
	h.sent.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return g.Heartbeat(ctx, h.node, term, committed)
}

// A group whose heartbeats go together with others' keeps its leader, and a reader does not wait for them.
func TestHeartbeatsGoTogether(t *testing.T) {
	c := newCluster(t, 3)
	var sent atomic.Int64
	c.heartbeats = func(node string) Heartbeats { return together{c, node, &sent, 100 * time.Millisecond} }
	c.heartbeat = time.Second
	for i := range 3 {
		c.start(i)
	}
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	term, begun := g.raft.CurrentTerm(), time.Now()
	for range 50 {
		if err := g.ReadIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > 2500*time.Millisecond {
		t.Errorf("50 readers took %v: each waited for heartbeats that wait for others", took)
	}
	reads := sent.Load()
	awaitThat(t, "heartbeats for longer than an election takes", func() bool { return sent.Load() > reads+30 })
	if now := g.raft.CurrentTerm(); now != term || !g.Leads() {
		t.Errorf("term %d, then %d", term, now)
	}
	// A follower in a later term deposes a leader by its answer.
	f := c.followers(g)[0]
	var stood time.Time
	awaitThat(t, "a later term", func() bool {
		if time.Since(stood) > time.Second { // it may have thought just then that it has to wait
			stood = time.Now()
			if err := f.standForElection(); err != nil {
				t.Fatal(err)
			}
		}
		return g.raft.CurrentTerm() > term
	})
	mustPropose(t, c.leader(), put(1, 2, 2, 1, nil))
}

// A follower to which no hint comes hears by the heartbeats what is committed, and not by commitTimeout alone.
func TestHeartbeatsSayWhatIsCommitted(t *testing.T) {
	c := newCluster(t, 3)
	var sent atomic.Int64
	c.heartbeats = func(node string) Heartbeats { return together{c, node, &sent, 10 * time.Millisecond} }
	c.links.hints = func(_, _ string, _ Hint) bool { return true }
	for i := range 3 {
		c.start(i)
	}
	g := c.leader()
	best := time.Hour
	for seq := range uint64(10) {
		index := mustPropose(t, g, put(1, seq+1, seq, 1, nil)).Index
		begun := time.Now()
		for _, f := range c.followers(g) {
			awaitApplied(t, f, index)
		}
		best = min(best, time.Since(begun))
	}
	if best > commitTimeout/2 {
		t.Errorf("it took %v at least", best)
	}
}
