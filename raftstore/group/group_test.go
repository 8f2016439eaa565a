package group

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"go.uber.org/goleak"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Raft never answers what is in its queue when it ends, as it does when its disk fails: whoever waits for that waits for ever.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/hashicorp/raft.(*deferError).Error"))
}

// register is the smallest machine there is: PutPiece writes its data under a key, and counts how often it did.
type register struct {
	store *machine.Store
	hold  *sync.Mutex // nothing is applied while it is held

	replaced atomic.Int64 // how often the store was
}

func (r *register) Apply(b *pebble.Batch, index uint64, cmd *raftpb.Command) (machine.Result, error) {
	r.hold.Lock()
	defer r.hold.Unlock()
	p := cmd.GetPutPiece()
	if p == nil {
		return machine.Result{Errno: syscall.EOPNOTSUPP, Index: index}, nil
	}
	k := binary.BigEndian.AppendUint32([]byte("a"), p.Number)
	count := uint64(1)
	if v, c, err := b.Get(k); err == nil {
		count = binary.BigEndian.Uint64(v) + 1
		c.Close()
	}
	b.Set(k, append(binary.BigEndian.AppendUint64(nil, count), p.Data...), nil)
	return machine.Result{Value: count, Index: index}, nil
}

func (r *register) Committed() {}
func (r *register) Replaced()  { r.replaced.Add(1) }

func put(session, seq, floor uint64, number uint32, data []byte) *raftpb.Command {
	return &raftpb.Command{
		Version: machine.Version, Request: &raftpb.Request{Session: session, Sequence: seq, Floor: floor},
		Op: &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{Number: number, Data: data}},
	}
}

// cluster is a group of replicas in this process, connected by Raft's own in-memory transport.
type cluster struct {
	t          testing.TB
	dir        string
	servers    []raft.Server
	transports []*raft.InmemTransport
	groups     []*Group
	checkpoint int64
	joining    bool // the replicas that are made wait to be added
	links      links
	heartbeat  time.Duration // Config.Election; 0: 300 ms
	hold       sync.Mutex    // held: no replica applies anything
	throttle   func(io.Reader) io.Reader
	heartbeats func(node string) Heartbeats
	errors     atomic.Int64 // that were logged
}

// logHandler counts the errors that are logged.
type logHandler struct {
	slog.Handler
	errors *atomic.Int64
}

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		h.errors.Add(1)
	}
	return h.Handler.Handle(ctx, r)
}

func (h logHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(a), h.errors}
}

func newCluster(t testing.TB, n int) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), checkpoint: 1 << 30}
	for i := range n {
		id := fmt.Sprintf("n%d", i)
		c.servers = append(c.servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	c.transports, c.groups = make([]*raft.InmemTransport, n), make([]*Group, n)
	t.Cleanup(func() {
		for i := range c.groups {
			c.stop(i)
		}
	})
	return c
}

// startCluster makes a group of n replicas and starts them all.
func startCluster(t testing.TB, n int) *cluster {
	c := newCluster(t, n)
	for i := range n {
		c.start(i)
	}
	return c
}

func (c *cluster) start(i int) *Group {
	c.t.Helper()
	g, err := c.open(i)
	if err != nil {
		c.t.Fatal(err)
	}
	return g
}

func (c *cluster) open(i int) (*Group, error) {
	_, tr := raft.NewInmemTransportWithTimeout(c.servers[i].Address, time.Second)
	c.transports[i] = tr
	for j, other := range c.transports {
		if other != nil && j != i {
			tr.Connect(c.servers[j].Address, other)
			other.Connect(c.servers[i].Address, tr)
		}
	}
	bootstrap := c.servers
	if c.joining {
		bootstrap = nil
	}
	var beats Heartbeats
	if c.heartbeats != nil {
		beats = c.heartbeats(string(c.servers[i].ID))
	}
	g, err := Open(Config{
		Heartbeats: beats, Name: "test", Dir: filepath.Join(c.dir, string(c.servers[i].ID)), NodeID: string(c.servers[i].ID), Transport: tr, Bootstrap: bootstrap, Joining: c.joining,
		NewMachine: func(s *machine.Store) machine.Machine { return &register{store: s, hold: &c.hold} }, SegmentSize: 1 << 20, CheckpointBytes: c.checkpoint,
		Election: cmp.Or(c.heartbeat, 300*time.Millisecond), Peers: peers{c, string(c.servers[i].ID)}, Throttle: c.throttle, Logger: slog.New(logHandler{slog.NewTextHandler(c.t.Output(), nil), &c.errors}),
	})
	if err == nil {
		c.groups[i] = g
		c.links.add(string(c.servers[i].ID), g)
	}
	return g, err
}

func (c *cluster) stop(i int) {
	if g := c.groups[i]; g != nil {
		c.links.add(string(c.servers[i].ID), nil)
		for j, other := range c.transports {
			if j != i && other != nil {
				other.Disconnect(c.servers[i].Address)
			}
		}
		if err := g.Close(); err != nil {
			c.t.Error(err)
		}
		c.groups[i], c.transports[i] = nil, nil
	}
}

// leader waits for one.
func (c *cluster) leader() *Group {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	found := make(chan *Group, len(c.groups))
	for _, g := range c.groups {
		if g != nil {
			go func() {
				if g.WaitLeader(ctx) == nil {
					found <- g
				} else {
					found <- nil
				}
			}()
		}
	}
	for range c.groups {
		if g := <-found; g != nil {
			return g
		}
	}
	c.t.Fatal("no leader")
	return nil
}

// other is one that is not g.
func (c *cluster) other(g *Group) int {
	return slices.IndexFunc(c.groups, func(o *Group) bool { return o != g })
}

func mustPropose(t testing.TB, g *Group, cmd *raftpb.Command) machine.Result {
	t.Helper()
	r, err := g.Propose(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// contents are all the machine's keys of a replica.
func contents(t testing.TB, g *Group) map[string]string {
	h := g.store.Acquire()
	defer h.Release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: []byte{machine.PrefixMachine}})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	m := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		m[string(it.Key())] = string(it.Value())
	}
	return m
}

func TestARequestIsAppliedOnce(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	if r := mustPropose(t, g, put(7, 1, 1, 5, nil)); r.Value != 1 {
		t.Fatalf("first: %+v", r)
	}
	for range 2 { // again, and again after a restart
		if r := mustPropose(t, g, put(7, 1, 1, 5, nil)); r.Value != 1 {
			t.Fatalf("same request: %+v", r)
		}
		c.stop(0)
		c.start(0)
		g = c.leader()
	}
	if r := mustPropose(t, g, put(7, 2, 2, 5, nil)); r.Value != 2 {
		t.Fatalf("next request: %+v", r)
	}
	if r := mustPropose(t, g, put(7, 1, 1, 5, nil)); r.Errno != syscall.ESTALE {
		t.Fatalf("request below the floor: %+v", r)
	}
	c.stop(0)
	c.start(0)
	g = c.leader()
	if r := mustPropose(t, g, put(7, 1, 1, 5, nil)); r.Errno != syscall.ESTALE {
		t.Fatalf("request below the floor, after a restart: %+v", r)
	}
	if r := mustPropose(t, g, put(8, 1, 1, 5, nil)); r.Value != 3 {
		t.Fatalf("other session: %+v", r)
	}
}

// A request that was overtaken by later ones is still applied: the floor is what its proposer says, not what is stored.
func TestAnOvertakenRequestIsApplied(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	mustPropose(t, g, put(7, 3, 1, 1, nil))
	mustPropose(t, g, put(7, 4, 1, 1, nil))
	c.stop(0)
	c.start(0)
	g = c.leader()
	if r := mustPropose(t, g, put(7, 2, 1, 1, nil)); r.Value != 3 {
		t.Fatalf("%+v", r)
	}
	mustPropose(t, g, put(7, 5, 5, 1, nil))
	if n := len(g.fsm.requests.sessions[7].results); n != 1 {
		t.Errorf("%d results kept", n)
	}
}

func TestACommandOfANewerVersionIsNotApplied(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	cmd := put(1, 1, 1, 1, nil)
	cmd.Version = machine.Version + 1
	if _, err := g.Propose(t.Context(), cmd); err == nil {
		t.Fatal("applied")
	}
	if _, err := g.Propose(t.Context(), put(1, 2, 1, 1, nil)); err == nil {
		t.Fatal("a replica that could not apply an entry goes on")
	}
}

// A follower that was away while the log was truncated gets a checkpoint, and has the same state; readers of its old state go on.
func TestAFollowerGetsACheckpoint(t *testing.T) {
	c := newCluster(t, 3)
	c.checkpoint = 256 << 10
	for i := range 3 {
		c.start(i)
	}
	g := c.leader()
	away := c.other(g)
	mustPropose(t, g, put(1, 1, 1, 1, []byte("before")))
	behind := c.groups[away]
	old := behind.store.Acquire() // a reader that stays through it all
	c.stop(away)
	old.Release()

	data := bytes.Repeat([]byte("x"), 8<<10)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 60 {
				mustPropose(t, g, put(uint64(10+w), uint64(i+1), uint64(i+1), uint32(100+w*1000+i), data))
			}
		}()
	}
	wg.Wait()
	// The log must be cut where the follower left, or nothing is shown here.
	rc := g.raft.ReloadableConfig()
	rc.TrailingLogs = 1
	if err := g.raft.ReloadConfig(rc); err != nil {
		t.Fatal(err)
	}
	if err := g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if g.Status().First < 100 {
		t.Fatalf("log begins at %d", g.Status().First)
	}
	back := c.start(away)
	mustPropose(t, g, put(1, 2, 2, 2, []byte("after")))
	want := contents(t, g)
	awaitApplied(t, back, g.applied.Load())
	if got := contents(t, back); len(got) != len(want) {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
	awaitThat(t, "the state before to be gone", func() bool {
		states, err := filepath.Glob(filepath.Join(back.cfg.Dir, statePrefix+"*"))
		return err == nil && len(states) == 1
	})
	if n := back.machine.(*register).replaced.Load(); n != 1 {
		t.Errorf("told %d times that its store was replaced", n)
	}
	// It is durable there, and can be the leader's own from now on.
	c.stop(away)
	back = c.start(away)
	awaitApplied(t, back, g.applied.Load())
	for k, v := range want {
		if contents(t, back)[k] != v {
			t.Fatalf("key %x differs", k)
		}
	}
}

// awaitApplied waits until the replica has applied the index.
func awaitApplied(t testing.TB, g *Group, index uint64) {
	t.Helper()
	awaitThat(t, fmt.Sprintf("entry %d to be applied", index), func() bool { return g.applied.Load() >= index })
}

// awaitThat waits until what is true.
func awaitThat(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestADamagedStreamIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, bytes.Repeat([]byte("x"), 100_000)))
	r, err := g.newCheckpoint()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(r)
	if err != nil || int64(len(stream)) != r.size() {
		t.Fatalf("%d octets of %d: %v", len(stream), r.size(), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if files, err := receive(bytes.NewReader(stream), t.TempDir()); err != nil || len(files) != len(r.files) {
		t.Fatal(files, err)
	}
	for at := 0; at < len(stream); at += 1 + len(stream)/97 {
		bad := bytes.Clone(stream)
		bad[at] ^= 0x40
		if _, err := receive(bytes.NewReader(bad), t.TempDir()); err == nil {
			t.Errorf("octet %d of %d turned: not seen", at, len(stream))
		}
		if _, err := receive(bytes.NewReader(stream[:at]), t.TempDir()); err == nil {
			t.Errorf("cut at octet %d: not seen", at)
		}
	}
	if m, _ := filepath.Glob(filepath.Join(g.cfg.Dir, checkpointPrefix+"*")); len(m) > 0 {
		t.Errorf("left behind: %v", m)
	}
}

// A crash between a snapshot's arrival and its installation: the next start installs it.
func TestAReceivedSnapshotIsInstalledAtStart(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, []byte("before")))
	away := c.other(g)
	c.stop(away)
	mustPropose(t, g, put(1, 2, 2, 1, []byte("in the snapshot")))
	if err := g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	meta, r, err := g.snapshots.Open(g.snapshots.last.ID)
	if err != nil {
		t.Fatal(err)
	}
	coming := t.TempDir()
	files, err := receive(r, coming)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	want := contents(t, g)
	for i := range 3 {
		c.stop(i)
	}

	snaps := filepath.Join(c.dir, string(c.servers[away].ID), "snapshots")
	if err := linkKept(coming, filepath.Join(snaps, receivedFolder), files); err != nil {
		t.Fatal(err)
	}
	if err := writeNote(filepath.Join(snaps, receivedNote), meta); err != nil {
		t.Fatal(err)
	}
	g = c.start(away) // alone, so that all it has is from its disk
	for k, v := range want {
		if contents(t, g)[k] != v {
			t.Errorf("key %x differs", k)
		}
	}
	if _, known := g.fsm.requests.find(&raftpb.Request{Session: 1, Sequence: 2}); !known {
		t.Errorf("the snapshot's requests are not known")
	}
	if _, err := os.Stat(filepath.Join(snaps, receivedFolder)); !os.IsNotExist(err) {
		t.Errorf("received files: %v", err)
	}
}

// A log that is gone, or is an older one, is told, and not made anew.
func TestALogThatIsNotTheStatesIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(log, older string) error
		want  error
	}{
		"gone":    {func(log, _ string) error { return os.RemoveAll(log) }, ErrMissing},
		"emptied": {func(log, _ string) error { return errors.Join(os.RemoveAll(log), os.Mkdir(log, 0o700)) }, ErrMissing},
		"older":   {func(log, older string) error { return errors.Join(os.RemoveAll(log), os.CopyFS(log, os.DirFS(older))) }, ErrMissing},
		"cut short": {func(log, older string) error {
			if err := errors.Join(os.RemoveAll(log), os.CopyFS(log, os.DirFS(older))); err != nil {
				return err
			}
			w, err := wal.Open(log, wal.WithSegmentSize(1<<20))
			if err != nil {
				return err
			}
			return errors.Join(w.SetUint64([]byte("CurrentTerm"), 99), w.Close())
		}, ErrLogDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 1)
			cl.start(0)
			mustPropose(t, cl.leader(), put(1, 1, 1, 1, nil))
			cl.stop(0)
			log, older := filepath.Join(cl.dir, "n0", "wal"), filepath.Join(cl.dir, "older")
			if err := os.CopyFS(older, os.DirFS(log)); err != nil {
				t.Fatal(err)
			}
			cl.start(0)
			g := cl.leader()
			mustPropose(t, g, put(1, 2, 2, 2, nil))
			if err := g.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
			cl.stop(0)
			if err := c.spoil(log, older); err != nil {
				t.Fatal(err)
			}
			for range 2 { // what the first try has made must not pass for the log
				if _, err := cl.open(0); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			}
		})
	}
}

// A crash after a batch filled its segment, before that was noted in the log's metadata: the log goes on in a new segment.
func TestACrashAtTheEndOfASegment(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	dir := filepath.Join(c.dir, "n0", "wal")
	data := bytes.Repeat([]byte("x"), 100<<10)
	seq := uint64(0)
	next := func() {
		seq++
		mustPropose(t, g, put(1, seq, seq, uint32(seq), data))
	}
	segments := func() int {
		m, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err != nil {
			t.Fatal(err)
		}
		return len(m)
	}
	// Metadata from before a segment was sealed, beside segments from after it.
	meta, err := os.ReadFile(filepath.Join(dir, "wal-meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	for segments() == 1 {
		next()
	}
	c.stop(0)
	if err := os.WriteFile(filepath.Join(dir, "wal-meta.db"), meta, 0o600); err != nil {
		t.Fatal(err)
	}
	newest, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(newest) < 2 {
		t.Fatal(newest, err)
	}
	for _, path := range newest[1:] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	// What the new segment held is lost with it here, so the state must not know of it either.
	if err := os.RemoveAll(filepath.Join(c.dir, "n0", firstState)); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	g = c.leader()
	sealed := g.applied.Load()
	if sealed < 9 {
		t.Errorf("applied %d entries of the sealed segment", sealed)
	}
	seq += 100
	next()
	c.stop(0)
	c.start(0)
	g = c.leader()
	if g.applied.Load() <= sealed {
		t.Error("what came after is lost")
	}
}

// A batch that was torn by a power cut, at any octet, is as if it had never been; one that is damaged before others is told.
func TestATornBatch(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	for i := range 5 {
		mustPropose(t, g, put(1, uint64(i+1), uint64(i+1), uint32(i), bytes.Repeat([]byte{byte(i)}, 300)))
	}
	c.stop(0)
	dir := filepath.Join(c.dir, "n0", "wal")
	paths, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	whole, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	all, err := readSegment(paths[0])
	if err != nil || all.torn || all.entries < 5 {
		t.Fatalf("%+v, %v", all, err)
	}
	for at := all.end - 1; at > all.end-320; at -= 7 { // the last batch is longer
		if err := os.WriteFile(paths[0], append(bytes.Clone(whole[:at]), make([]byte, int64(len(whole))-at)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := recoverLog(dir); err != nil {
			t.Fatalf("cut at %d of %d: %v", at, all.end, err)
		}
		b, err := readSegment(paths[0])
		if err != nil || b.torn || b.entries != all.entries-1 {
			t.Fatalf("cut at %d of %d: %+v, %v", at, all.end, b, err)
		}
	}
	for at := int64(0); at < all.end-400; at += 53 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		if err := os.WriteFile(paths[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := recoverLog(dir); errors.Is(err, ErrLogDamaged) {
			continue
		}
		// The spare octets of a commit frame's head mean nothing, and no checksum has them.
		if b, err := readSegment(paths[0]); err != nil || b.entries != all.entries {
			t.Errorf("octet %d of %d turned: %v, %+v", at, all.end, err, b)
		}
	}
}

// What Pebble had not flushed is applied again from the log: here the state is thrown back to an earlier copy.
func TestTheLogIsReplayed(t *testing.T) {
	c := newCluster(t, 1)
	c.start(0)
	g := c.leader()
	for i := range 100 {
		mustPropose(t, g, put(1, uint64(i+1), uint64(i+1), uint32(i), []byte("v")))
	}
	want := contents(t, g)
	c.stop(0)
	if err := os.RemoveAll(filepath.Join(c.dir, "n0", firstState)); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	g = c.leader()
	if got := contents(t, g); len(got) != len(want) {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
}

// Nobody waits for longer than the context says, or than the replica is open: here for a state machine that hangs, as on a disk that
// does.
func TestWaitingEnds(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	mustPropose(t, g, put(1, 1, 1, 1, nil))
	c.hold.Lock()
	held := true
	release := func() {
		if held {
			c.hold.Unlock()
		}
		held = false
	}
	t.Cleanup(release)
	waits := map[string]func(context.Context) error{
		"propose": func(ctx context.Context) error {
			_, err := g.Propose(ctx, put(1, 2, 2, 1, nil))
			return err
		},
		"barrier":     g.Barrier,
		"read index":  g.ReadIndex,
		"wait leader": g.WaitLeader,
		"change":      func(context.Context) error { return g.DemoteVoter(c.followers(g)[0].cfg.NodeID) },
	}
	for _, name := range []string{"propose", "barrier", "read index", "wait leader"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- waits[name](ctx) }()
		select {
		case err := <-ended:
			if !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: still waiting", name)
		}
		cancel()
	}
	ended := make(chan error, len(waits))
	for _, wait := range waits {
		go func() { ended <- wait(context.Background()) }()
	}
	close(g.stop)
	for range waits {
		select {
		case err := <-ended:
			if !errors.Is(err, ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("closed: still waiting")
		}
	}
	release()
	g.done.Wait()
	g.stop = make(chan struct{}) // for Close
	mustPropose(t, g, put(1, 3, 2, 1, nil))
}
