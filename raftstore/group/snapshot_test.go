package group

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// A checkpoint of a follower's own, during which a snapshot comes from the leader, is given up: it must not take back the note of what
// its state is about to be, nor mark the new state with what the old one had.
func TestAnOwnSnapshotOvertakenByTheLeaders(t *testing.T) {
	c := startCluster(t, 3)
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
	stream, err := f.snapshots.store(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := received.Write(stream); err != nil {
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

// What a crash left of a snapshot's unpacking, before it was the first one of the replica, does not stay.
func TestWhatACrashLeftIsCleared(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	c.stop(0)
	left := []string{filepath.Join(g.cfg.Dir, statePrefix+"123"), filepath.Join(g.cfg.Dir, checkpointPrefix+"456")}
	for _, dir := range left {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c.start(0)
	for _, dir := range left {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: %v", filepath.Base(dir), err)
		}
	}
	if r := mustPropose(t, c.leader(), put(1, 1, 1, 1, nil)); r.Value != 1 {
		t.Errorf("the state is gone: %+v", r)
	}
}
