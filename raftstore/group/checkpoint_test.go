package group

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// wire counts what goes out of checkpoints, and breaks transfers.
type wire struct {
	mu     sync.Mutex
	sent   int
	breaks []int // after how many octets each of the next transfers breaks
	broke  chan struct{}
	hangs  chan struct{} // not nil: a transfer does not break, but hangs until this is closed
}

func (w *wire) throttle(r io.Reader) io.Reader {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := -1
	if len(w.breaks) > 0 {
		left, w.breaks = w.breaks[0], w.breaks[1:]
	}
	return &wired{w, r, left}
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}

type wired struct {
	w    *wire
	r    io.Reader
	left int // until it breaks; negative: it does not
}

var errCut = errors.New("the connection was cut")

func (r *wired) Read(p []byte) (int, error) {
	if r.left == 0 {
		select {
		case r.w.broke <- struct{}{}:
		default:
		}
		if r.w.hangs != nil {
			<-r.w.hangs
		}
		return 0, errCut
	}
	if r.left > 0 {
		p = p[:min(len(p), r.left)]
	}
	n, err := r.r.Read(p)
	if r.left > 0 {
		r.left -= n
	}
	r.w.mu.Lock()
	r.w.sent += n
	r.w.mu.Unlock()
	return n, err
}

// farBehind makes a cluster of three of which one replica, which is stopped, needs a checkpoint of some files.
func farBehind(t *testing.T, w *wire) (c *cluster, g *Group, away int) {
	t.Helper()
	c = newCluster(t, 3)
	c.throttle = w.throttle
	for i := range 3 {
		c.start(i)
	}
	g = c.leader()
	away = c.other(g)
	mustPropose(t, g, put(1, 1, 1, 1, []byte("before")))
	c.stop(away)
	var up atomic.Bool
	for _, x := range c.groups {
		if x != nil {
			x.PeerDown(string(c.servers[away].ID), func(string) bool { return up.Load() })
		}
	}
	defer up.Store(true) // from then on it is tried, without the pauses of one that was away for long
	data := make([]byte, 512<<10)
	for i := range 32 { // a file has two MiB and more
		mustPropose(t, g, put(2, uint64(i+1), uint64(i+1), uint32(i+10), data))
		if i%4 > 0 {
			continue
		}
		if err := g.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range c.groups {
		if x == nil {
			continue
		}
		rc := x.raft.ReloadableConfig()
		rc.TrailingLogs = 1
		if err := x.raft.ReloadConfig(rc); err != nil {
			t.Fatal(err)
		}
	}
	mustPropose(t, g, put(1, 2, 2, 2, []byte("after")))
	for _, x := range c.groups {
		if x != nil {
			awaitApplied(t, x, g.applied.Load())
			if err := x.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	awaitThat(t, "the leader's files to stay as they are", func() bool {
		h := g.store.Acquire()
		defer h.Release()
		m := h.Metrics()
		return m.Compact.NumInProgress == 0 && m.Flush.NumInProgress == 0
	})
	return c, g, away
}

func sameContents(t *testing.T, g, of *Group) {
	t.Helper()
	want, got := contents(t, of), contents(t, g)
	if len(got) != len(want) {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("key %x differs", k)
		}
	}
}

// A transfer that breaks goes on where it stopped, also when the replica was stopped meanwhile.
func TestABrokenTransferGoesOn(t *testing.T) {
	w := &wire{broke: make(chan struct{}, 1)}
	c, g, away := farBehind(t, w)
	whole, err := g.newCheckpoint()
	if err != nil {
		t.Fatal(err)
	}
	size := int(whole.size())
	largest := int64(0)
	for _, f := range whole.files {
		largest = max(largest, f.size)
	}
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.breaks = []int{size / 2, size / 4, size / 6}
	w.mu.Unlock()
	back := c.start(away)
	<-w.broke
	c.stop(away)
	if files, err := kept(filepath.Join(back.snapshots.dir, receivingFolder)); err != nil || len(files) < 2 {
		t.Errorf("%d files are kept: %v", len(files), err)
	}
	back = c.start(away)
	awaitApplied(t, back, g.applied.Load())
	sameContents(t, back, g)
	t.Logf("%d octets were sent of a checkpoint of %d, the largest file has %d", w.count(), size, largest)
	if n := w.count(); n < size || n > size+3*int(largest)+size/10 { // one file is sent again for each break
		t.Errorf("%d octets were sent of a checkpoint of %d", n, size)
	}
	awaitThat(t, "nothing to be left of the transfer", func() bool {
		left, err := filepath.Glob(filepath.Join(back.snapshots.dir, "rece*"))
		return err == nil && len(left) == 0
	})
}

// A leader that hangs while it sends a checkpoint does not keep the receiver from electing another, which sends the rest.
func TestASenderThatHangsIsReplaced(t *testing.T) {
	w := &wire{broke: make(chan struct{}, 1), hangs: make(chan struct{})}
	c, g, away := farBehind(t, w)
	defer close(w.hangs) // before the groups are closed
	w.mu.Lock()
	w.breaks = []int{4 << 20}
	w.mu.Unlock()
	back := c.start(away)
	<-w.broke
	for i := range c.groups { // the leader is heard no more, and hears nothing
		if c.groups[i] == g {
			c.links.add(string(c.servers[i].ID), nil)
			c.transports[i].DisconnectAll()
			for j, other := range c.transports {
				if j != i {
					other.Disconnect(c.servers[i].Address)
				}
			}
		}
	}
	for _, x := range c.groups {
		if x != g {
			x.PeerDown(g.cfg.NodeID, func(node string) bool { return node != g.cfg.NodeID })
		}
	}
	next := c.groups[3-away-slices.Index(c.groups, g)]
	awaitThat(t, "another to lead", next.Leads)
	awaitApplied(t, back, next.applied.Load())
	sameContents(t, back, next)
}

// What is kept of another checkpoint is taken for what it is: files of the same name that hold something else are sent.
func TestWhatIsKeptIsCompared(t *testing.T) {
	w := &wire{broke: make(chan struct{}, 1)}
	c, g, away := farBehind(t, w)
	sample, err := g.newCheckpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer sample.Close()
	receiving := filepath.Join(c.dir, string(c.servers[away].ID), "snapshots", receivingFolder)
	if err := os.MkdirAll(receiving, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range sample.files { // as if another leader had sent them
		other := keptFile{name: f.name(), sum: Sum{1}}
		if err := os.WriteFile(other.path(receiving), bytes.Repeat([]byte("x"), int(f.size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	back := c.start(away)
	awaitApplied(t, back, g.applied.Load())
	sameContents(t, back, g)
}

// A stream that leaves out what is not there is refused.
func TestWhatIsLeftOutMustBeThere(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, bytes.Repeat([]byte("x"), 1000)))
	at := func() *checkpoint {
		t.Helper()
		p, err := g.newCheckpoint()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	dir := t.TempDir()
	if _, err := receive(at(), dir); err != nil {
		t.Fatal(err)
	}
	have, err := kept(dir)
	if err != nil {
		t.Fatal(err)
	}
	short := at()
	if err := short.leaveOut(have); err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(short)
	if err != nil || int64(len(stream)) != short.size() || len(stream) > 1000 {
		t.Fatalf("%d octets of %d: %v", len(stream), short.size(), err)
	}
	if files, err := receive(bytes.NewReader(stream), dir); err != nil || len(files) != len(short.files) {
		t.Errorf("%d files of %d: %v", len(files), len(short.files), err)
	}
	if _, err := receive(bytes.NewReader(stream), t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in another folder: %v", err)
	}
}

// A replica's own snapshot takes away what came in part from a leader.
func TestAnOwnSnapshotClearsWhatCameInPart(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	g.snapshots.arriving(1)
	if _, err := g.snapshots.store(strings.NewReader(streamMagic)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	receiving := filepath.Join(g.snapshots.dir, receivingFolder)
	if err := g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(receiving); err != nil {
		t.Errorf("while it comes: %v", err)
	}
	g.snapshots.arriving(-1)
	mustPropose(t, g, put(1, 2, 2, 1, nil))
	if err := g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(receiving); !os.IsNotExist(err) {
		t.Errorf("after it was given up: %v", err)
	}
}
