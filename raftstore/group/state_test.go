package group

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// takeState has the state's tables not be made, as on a full disk, until put back is called.
func takeState(t testing.TB, g *Group) (putBack func()) {
	t.Helper()
	at := filepath.Join(g.cfg.Dir, firstState)
	if err := os.Rename(at, at+".away"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(at+".away", at); err != nil {
			t.Error(err)
		}
	}
}

// While the state can't be written, and that is tried more and more seldom, nobody who reads or writes waits for it.
func TestAFailedFlushHoldsNobodyUp(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	putBack := takeState(t, g)
	h := g.store.Acquire()
	defer h.Release()
	flushed, err := h.AsyncFlush()
	if err != nil {
		t.Fatal(err)
	}
	var longest time.Duration
	for begin, seq := time.Now(), uint64(2); time.Since(begin) < 3*time.Second; seq++ {
		start := time.Now()
		h.Metrics()
		mustPropose(t, g, put(1, seq, seq, 1, nil))
		longest = max(longest, time.Since(start))
	}
	if longest > 500*time.Millisecond {
		t.Errorf("waited %v", longest)
	}
	putBack()
	select {
	case <-flushed:
	case <-time.After(20 * time.Second):
		t.Error("not tried again")
	}
}

// A replica whose state can't be flushed ends all the same, and loses nothing.
func TestClosingOnAFullDisk(t *testing.T) {
	c := newCluster(t, 1)
	c.checkpoint = 1
	c.start(0)
	g := c.leader()
	putBack := takeState(t, g)
	mustPropose(t, g, put(1, 1, 1, 1, []byte("x"))) // and a checkpoint begins
	h := g.store.Acquire()
	awaitThat(t, "a checkpoint", func() bool { return h.Metrics().Flush.NumInProgress > 0 })
	if err := h.Release(); err != nil {
		t.Error(err)
	}
	start := time.Now()
	c.stop(0)
	if took := time.Since(start); took > closeWait+10*time.Second {
		t.Errorf("took %v", took)
	}
	putBack()
	c.start(0)
	g = c.leader()
	if r := mustPropose(t, g, put(1, 1, 1, 1, nil)); r.Value != 1 {
		t.Errorf("%+v", r)
	}
}

// A checkpoint that failed is made when it can be, and not only after as much again was applied.
func TestACheckpointIsTriedAgain(t *testing.T) {
	c := newCluster(t, 1)
	c.checkpoint = 1000
	c.start(0)
	g := c.leader()
	if err := os.Rename(g.snapshots.dir, g.snapshots.dir+".away"); err != nil {
		t.Fatal(err)
	}
	mustPropose(t, g, put(1, 1, 1, 1, make([]byte, c.checkpoint)))
	awaitThat(t, "a checkpoint to fail", func() bool { return c.errors.Load() >= 2 }) // Raft tells of it, and then runCheckpoints
	if err := os.Rename(g.snapshots.dir+".away", g.snapshots.dir); err != nil {
		t.Fatal(err)
	}
	awaitThat(t, "a checkpoint", func() bool { return g.snapshots.noted() > 0 })
}

// A replica that is stopped before it would flush its state drops its log all the same, after some starts.
func TestRestartsDoNotGrowTheLog(t *testing.T) {
	c := newCluster(t, 1)
	c.checkpoint = 8 << 20
	for run := range uint64(20) { // 4 MiB each; 32 MiB are kept for others that are behind
		g := c.start(0)
		for i := range uint64(16) {
			mustPropose(t, g, put(1, run*16+i+1, run*16+i, 1, make([]byte, 256<<10)))
		}
		c.stop(0)
	}
	g := c.start(0)
	awaitThat(t, "a log that is shorter than what was proposed", func() bool {
		first, err := g.wal.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		return first > 100
	})
}
