package group

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/raftstore/machine"
)

// slowDisk has a leader's writes wait until the function that it answers is called, with what they end with.
func slowDisk(t *testing.T, g *Group) (end func(error)) {
	var how error
	ended := make(chan struct{})
	g.logs.write = func(entries []*raft.Log) error {
		if <-ended; how != nil {
			return how
		}
		return g.wal.StoreLogs(entries)
	}
	var once sync.Once
	end = func(err error) {
		once.Do(func() {
			how = err
			close(ended)
		})
	}
	t.Cleanup(func() { end(nil) })
	return end
}

// proposed is a proposal under way.
type proposed struct {
	r   machine.Result
	err error
}

// proposeSlowly has a leader with a slow disk commit a command, and returns when the others have it and Raft counts it as committed.
func proposeSlowly(t *testing.T, c *cluster, g *Group, seq uint64) (index uint64, done <-chan proposed) {
	t.Helper()
	last, err := g.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	index = last + 1
	ended := make(chan proposed, 1)
	go func() {
		r, err := g.Propose(context.Background(), put(1, seq, 1, 7, []byte("slow")))
		ended <- proposed{r, err}
	}()
	awaitThat(t, "the others have what the leader has not stored, and it is committed by Raft's count", func() bool {
		for _, f := range c.followers(g) {
			if last, err := f.logs.LastIndex(); err != nil || last < index {
				return false
			}
		}
		return g.raft.CommitIndex() >= index
	})
	if last, err := g.wal.LastIndex(); err != nil || last >= index {
		t.Fatalf("the leader has stored entry %d: %v", last, err)
	}
	return index, ended
}

// What a leader has not stored, and the others have, is neither acknowledged nor applied anywhere, nor does a term begin before it is.
func TestALeaderStoresWhatItSends(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	end := slowDisk(t, g)
	index, done := proposeSlowly(t, c, g, 2)
	counted := time.Now()
	stored := make(chan error, 1)
	go func() { stored <- g.logs.SetUint64([]byte("a term"), 1) }()
	awaitThat(t, "the leader to have told the others what is committed", func() bool {
		for _, f := range c.followers(g) {
			if f.raft.LastContact().Before(counted.Add(2 * commitTimeout)) {
				return false
			}
		}
		return true
	})
	for _, f := range append(c.followers(g), g) {
		if f.passed.now() >= index {
			t.Errorf("%s has applied what the leader has not stored", f.cfg.NodeID)
		}
		if f != g && f.raft.CommitIndex() >= index {
			t.Errorf("%s was told that it is committed", f.cfg.NodeID)
		}
	}
	select {
	case p := <-done:
		t.Fatalf("acknowledged: %+v", p)
	case err := <-stored:
		t.Fatalf("a term was stored before what the term before brought: %v", err)
	default:
	}
	end(nil)
	if p := <-done; p.err != nil || p.r.Index != index {
		t.Errorf("%+v, want index %d", p, index)
	}
	if err := <-stored; err != nil {
		t.Error(err)
	}
	if w := g.logs.underWay(); w != nil {
		t.Errorf("entries %d to %d are kept in memory though they are stored", w.first(), w.last())
	}
	for _, f := range c.followers(g) {
		awaitThat(t, "the others apply it", func() bool { return f.passed.now() >= index })
	}
}

// A leader that can't store what it has sent is none any more. What it was is settled by the others.
func TestALeaderThatCannotStore(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	end := slowDisk(t, g)
	_, done := proposeSlowly(t, c, g, 2)
	broken := errors.New("a disk that is broken")
	end(broken)
	if p := <-done; !errors.Is(p.err, broken) || !errors.Is(p.err, ErrBroken) {
		t.Errorf("%+v", p)
	}
	next := c.leader()
	if next == g {
		t.Fatal("the broken one leads")
	}
	if err := next.ReadIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := mustPropose(t, next, put(1, 2, 1, 7, []byte("slow"))) // the others have it: it is committed, once
	if again.Value != 1 {
		t.Errorf("%+v", again)
	}
}

// A leader has its term's first entry on its disk before it counts it: what the terms before have left is committed with that. So with a barrier.
func TestATermBeginsOnTheLeadersDisk(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	next := c.followers(g)[0]
	slowDisk(t, next)
	before, err := g.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	server := c.servers[c.index(next)]
	if err := g.raft.LeadershipTransferToServer(server.ID, server.Address).Error(); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		counted := next.raft.CommitIndex()
		if last, err := next.wal.LastIndex(); err != nil || last < counted {
			t.Fatalf("%s: the leader counts entry %d as committed, and has stored %d: %v", what, counted, last, err)
		}
	}
	awaitThat(t, "the next leader's term to begin", func() bool { return next.raft.CommitIndex() > before })
	check("its term's first")
	if err := next.raft.Barrier(time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	check("a barrier")
}

// Raft takes heartbeats in a goroutine of its own. One of another term, that comes just as the leader begins to write, does not overtake it.
func TestATermDoesNotOvertakeAWrite(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	end := slowDisk(t, g)
	stored := make(chan error, 1)
	var once sync.Once
	g.logs.leads = func() bool {
		leads := g.Leads()
		once.Do(func() {
			ended := make(chan struct{})
			go func() {
				stored <- g.logs.SetUint64([]byte("a term"), 1)
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(100 * time.Millisecond): // longer than it takes where nothing holds it up
			}
		})
		return leads
	}
	_, done := proposeSlowly(t, c, g, 2)
	select {
	case err := <-stored:
		t.Errorf("a term was stored before what the term before brought: %v", err)
		stored <- err
	default:
	}
	end(nil)
	if p := <-done; p.err != nil {
		t.Error(p.err)
	}
	if err := <-stored; err != nil {
		t.Error(err)
	}
}
