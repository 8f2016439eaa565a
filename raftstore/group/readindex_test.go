package group

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/raftstore/raftpb"
)

// Reading waits for what is committed, and adds nothing to the log: a listing a second must not be an entry a second on three disks.
func TestReadIndexAppendsNothing(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	if err := errors.Join(g.ReadIndex(t.Context()), g.Barrier(t.Context())); err != nil {
		t.Fatal(err)
	}
	last := g.raft.LastIndex()
	var readers sync.WaitGroup
	for range 16 {
		readers.Go(func() {
			for range 20 {
				if err := g.ReadIndex(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Wait()
	if n := g.raft.LastIndex(); n != last {
		t.Errorf("the log grew from %d to %d", last, n)
	}

	// What is committed, and not applied yet, is waited for: here nobody was told of it.
	c.hold.Lock()
	answered := g.proposeLater(t, put(1, 2, 2, 2, nil))
	defer answered()
	awaitThat(t, "an entry to be committed", func() bool { return g.raft.CommitIndex() > last })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := g.ReadIndex(ctx)
	c.hold.Unlock()
	if err == nil {
		t.Error("read before what is committed was applied")
	}
	if err := g.ReadIndex(t.Context()); err != nil {
		t.Error(err)
	}
	if len(contents(t, g)) != 2 {
		t.Error("what is committed does not show")
	}
	for i := range 3 { // the others learn of the last entry by the next heartbeat
		awaitApplied(t, c.groups[i], g.applied.Load())
	}
}

// proposeLater does not wait for the answer, but answered does.
func (g *Group) proposeLater(t *testing.T, cmd *raftpb.Command) (answered func()) {
	var proposing sync.WaitGroup
	proposing.Go(func() {
		if _, err := g.Propose(context.Background(), cmd); err != nil {
			t.Error(err)
		}
	})
	return proposing.Wait
}

// A leader that is cut off from the others must not answer readers, whom a new one may have overtaken.
func TestALeaderCutOffAnswersNoReader(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	if err := g.ReadIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := raft.ServerAddress(g.cfg.NodeID)
	for i, tr := range c.transports {
		if c.groups[i] == g {
			tr.DisconnectAll()
			c.groups[i] = nil // for leader
			defer func() { c.groups[i] = g }()
		} else {
			tr.Disconnect(old)
		}
	}
	mustPropose(t, c.leader(), put(1, 1, 1, 1, nil))
	if err := g.ReadIndex(t.Context()); !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrUncertain) {
		t.Errorf("read: %v", err)
	}
}

// The last that is committed is a change of the members, which the state does not hold, and a snapshot is taken there: who begins with it
// has seen that all the same.
func TestASnapshotAtAChangeOfTheMembers(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	f := c.followers(g)[0]
	if err := g.DemoteVoter(c.followers(g)[1].cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	if err := f.ReadIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	i := c.index(f)
	c.stop(i)
	f = c.start(i)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := f.ReadIndex(ctx); err != nil {
		t.Error(err)
	}
}

// A leader that is its group's only server has committed what its log holds before it has applied that.
func TestALeaderAloneReadsAllOfItsLog(t *testing.T) {
	c := startCluster(t, 1)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	g.readTerm.Store(0) // as in the moment after it was elected
	c.hold.Lock()
	answered := g.proposeLater(t, put(1, 2, 2, 2, nil)) // it stands for what the log held
	defer answered()
	awaitThat(t, "an entry to be committed", func() bool { return g.raft.CommitIndex() > g.passed.now() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := g.ReadIndex(ctx)
	c.hold.Unlock()
	if err == nil {
		t.Error("read before what is committed was applied")
	}
	if err := g.ReadIndex(t.Context()); err != nil || len(contents(t, g)) != 2 {
		t.Errorf("%v, %d keys", err, len(contents(t, g)))
	}
}
