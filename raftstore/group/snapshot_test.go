package group

import (
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// A checkpoint of a follower's own, during which a snapshot comes from the leader, is given up: it must not take back the note of what
// its state is about to be, nor mark the new state with what the old one had.
func TestAnOwnSnapshotOvertakenByTheLeaders(t *testing.T) {
	c := newCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, []byte("before")))
	behind := c.other(g)
	f := c.groups[behind]
	awaitApplied(t, f, g.applied.Load())
	create := func(meta *raft.SnapshotMeta) raft.SnapshotSink {
		t.Helper()
		k, err := f.snapshots.Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	early := &raft.SnapshotMeta{
		Version: 1, Index: f.applied.Load(), Term: f.raft.CurrentTerm(), Configuration: f.raft.GetConfiguration().Configuration(), ConfigurationIndex: 1,
	}
	flushed := create(early)
	h, err := f.snapshots.mark(early)
	if err != nil {
		t.Fatal(err)
	}
	h.Release()

	mustPropose(t, g, put(1, 2, 2, 1, []byte("in the snapshot")))
	if err := g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	meta, r, err := g.snapshots.Open(g.snapshots.last.ID)
	if err != nil {
		t.Fatal(err)
	}
	received := create(meta)
	if _, err := io.Copy(received, r); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := received.Close(); err != nil {
		t.Fatal(err)
	}
	given := func(when string) {
		t.Helper()
		if flushed.Close() == nil {
			t.Errorf("%s, an older note was written", when)
		}
		if (flusher{f}).Persist(create(early)) == nil {
			t.Errorf("%s, an older snapshot was taken", when)
		}
		if n := f.snapshots.last.Index; n != meta.Index {
			t.Errorf("%s, the last snapshot is at %d, not at %d", when, n, meta.Index)
		}
	}
	given("not installed")
	c.stop(behind)
	f = c.start(behind) // installs it
	given("installed")
	c.stop(behind)
	f = c.start(behind)
	awaitApplied(t, f, g.applied.Load())
	if f.fsm.flushed < meta.Index {
		t.Errorf("the state has been told of %d", f.fsm.flushed)
	}
}
