package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/durable"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Config says what a group is and where it lies.
type Config struct {
	Name        string // "directory", "shard-1": for logs
	Dir         string // its folder, made if it is not there
	NodeID      string // this replica's name in the group
	Transport   raft.Transport
	Bootstrap   []raft.Server // the first voters, when the group is new, the same on each of them; none: it must be there
	NewMachine  func(*machine.Store) machine.Machine
	Cache       *pebble.Cache // shared by the groups of a node
	SegmentSize int           // octets of a log segment, preallocated
	// CheckpointBytes of log applied have the state flushed and the log before it dropped.
	CheckpointBytes int64
	// Election is the heartbeat and election timeout. A group of one voter waits once for it, at start.
	Election time.Duration
	Peers    Peers // the replicas on other nodes; nil: there are none
	// Heartbeats has this replica's heartbeats go together with other groups'; nil: each goes alone.
	Heartbeats Heartbeats
	// Throttle slows down what is sent to a replica that is far behind; nil: it is sent as fast as it can be.
	Throttle func(io.Reader) io.Reader
	// Joining says that the replica may be empty: it waits to be added by the group's leader.
	Joining bool
	// LeastTerm is the term that an empty replica begins in: that of the one which this node had before.
	LeastTerm uint64
	Logger    *slog.Logger
}

// Group is this node's replica of one Raft group.
type Group struct {
	cfg     Config
	log     *slog.Logger
	store   *machine.Store
	machine machine.Machine
	wal     *wal.WAL
	logs    *logStore // what Raft has in place of wal
	logFS   *logFS
	raft    *raft.Raft
	started chan struct{} // closed when raft is there
	endRaft func() error  // waits for it to end, however often it is called
	fsm     *fsm

	snapshots *snapshotStore
	stateAt   string // the state's folder

	role        *role
	waiting     waiting
	asking      rounds // of this replica, at its leader
	verifying   rounds // of this replica as the leader, at its voters
	acks        acks
	replication replication
	marks       marks
	hints       hints
	recent      recentLog
	doubts      doubts
	forwarded   forwarded
	transport   *transport
	applied     atomic.Uint64 // index of the last applied command
	passed      watermark     // of all entries
	readTerm    atomic.Uint64 // the last term in which this replica led, and knew what is committed
	member      atomic.Bool   // this replica has seen itself in the group's configuration
	caughtUp    chan struct{} // closed when this replica is joining no more
	reloading   sync.Mutex    // held to change the configuration of Raft
	broken      atomic.Pointer[error]
	failed      chan struct{} // closed when broken is set
	pending     atomic.Int64  // octets applied since the last checkpoint
	checkpoint  chan struct{}
	stop        chan struct{}
	life        context.Context // ends when the replica is closed
	die         context.CancelFunc
	done        sync.WaitGroup
	handing     sync.WaitGroup // messages to Raft
}

// Open opens the replica, or makes it. It goes on with what its disk holds; whether the group has a leader is for WaitLeader.
func Open(cfg Config) (_ *Group, err error) {
	if err := durable.MkdirAll(filepath.Join(cfg.Dir, "wal")); err != nil {
		return nil, err
	}
	g := &Group{
		cfg:        cfg,
		log:        cfg.Logger.With("group", cfg.Name),
		checkpoint: make(chan struct{}, 1),
		stop:       make(chan struct{}),
		role:       newRole(cfg.Election),
		started:    make(chan struct{}),
		failed:     make(chan struct{}),
		caughtUp:   make(chan struct{}),
	}
	g.life, g.die = context.WithCancel(context.Background())
	g.hints.init()
	g.transport = newTransport(g, cfg.Transport)
	defer func() {
		if err != nil {
			g.die()
		}
	}()
	g.endRaft = sync.OnceValue(func() error { return g.raft.Shutdown().Error() })
	g.snapshots = &snapshotStore{g: g, dir: filepath.Join(cfg.Dir, "snapshots")}
	if err := g.snapshots.open(); err != nil {
		return nil, err
	}
	dir, err := g.stateDir()
	if err != nil {
		return nil, err
	}
	g.stateAt = dir
	db, err := g.openState(dir)
	if err != nil {
		return nil, err
	}
	g.store = machine.NewStore(db)
	defer func() {
		if err != nil {
			g.store.Close()
		}
	}()
	g.machine = cfg.NewMachine(g.store)
	if g.fsm, err = newFSM(g); err != nil {
		return nil, err
	}
	hlog := raftLogger(g.log)
	logDir := filepath.Join(cfg.Dir, "wal")
	if err := recoverLog(logDir); err != nil {
		return nil, fmt.Errorf("recover Raft log %w", err)
	}
	g.logFS = newLogFS()
	g.wal, err = wal.Open(logDir, wal.WithSegmentSize(cfg.SegmentSize), wal.WithLogger(hlog), wal.WithSegmentFiler(segment.NewFiler(logDir, g.logFS)))
	if err != nil {
		return nil, fmt.Errorf("open Raft log %s: %w", logDir, err)
	}
	g.logs = &logStore{WAL: g.wal, g: g, leads: g.Leads, write: g.wal.StoreLogs}
	if err := g.startRaft(hlog); err != nil {
		g.wal.Close()
		g.logFS.wait()
		return nil, err
	}
	g.done.Go(g.runCheckpoints)
	g.done.Go(g.watchRole)
	g.done.Go(g.probeLeader)
	g.done.Go(g.handIn)
	g.done.Go(g.tellOthers)
	if g.IsJoining() {
		g.done.Go(g.endJoining)
	}
	return g, nil
}

// matchLog makes sure that log and state are of one another: the state has what was dropped from the log, and nothing that the
// log does not have.
func (g *Group) matchLog() error {
	last, err := g.wal.LastIndex()
	if err != nil {
		return err
	}
	applied, noted := g.applied.Load(), g.snapshots.noted()
	had := max(applied, noted)
	switch sole := len(g.raft.GetConfiguration().Configuration().Servers) == 1; {
	case sole && last < had: // with more voters the state may be a snapshot of another's, newer than the log here
		return fmt.Errorf("group %s: %w: it ends at index %d, the state has applied %d", g.cfg.Name, ErrLogDamaged, last, had)
	case g.fsm.flushed < noted:
		return fmt.Errorf("group %s: its state in %s is older than its log begins: %w", g.cfg.Name, g.cfg.Dir, ErrMissing)
	}
	return nil
}

func (g *Group) startRaft(hlog *hclogAdapter) error {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.cfg.NodeID)
	c.Logger = hlog
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = g.cfg.Election, g.cfg.Election, g.cfg.Election
	c.CommitTimeout = commitTimeout
	c.MaxAppendEntries = maxBatch
	c.BatchApplyCh = true
	c.SnapshotInterval = 24 * time.Hour // runCheckpoints counts octets instead of entries
	c.SnapshotThreshold = 1 << 62
	c.TrailingLogs = minTrailing
	c.NoSnapshotRestoreOnStart = true // the state is durable itself
	c.NoLegacyTelemetry = true
	has, err := raft.HasExistingState(g.wal, g.wal, g.snapshots)
	if err != nil {
		return err
	}
	if last, err := g.wal.LastIndex(); err != nil {
		return err
	} else if has && last == 0 && len(g.cfg.Bootstrap) > 0 && g.snapshots.last == nil {
		// A bootstrap stores its term, and then the configuration. It was cut short between them: it begins again.
		if err := g.wal.SetUint64([]byte("CurrentTerm"), 0); err != nil {
			return err
		}
		has = false
	}
	if err := g.checkTerm(); err != nil {
		return err
	}
	if err := g.beginJoining(!has && g.cfg.Joining); err != nil {
		return err
	}
	if g.IsJoining() {
		c.HeartbeatTimeout, c.ElectionTimeout = neverElected, neverElected
	}
	switch {
	case has, g.cfg.Joining:
	case len(g.cfg.Bootstrap) == 0:
		return fmt.Errorf("group %s: %s has neither log nor state: %w", g.cfg.Name, g.cfg.Dir, ErrMissing)
	default:
		err := raft.BootstrapCluster(c, g.wal, g.wal, g.snapshots, g.transport, raft.Configuration{Servers: g.cfg.Bootstrap})
		if err != nil {
			return fmt.Errorf("bootstrap group %s: %w", g.cfg.Name, err)
		}
	}
	if g.raft, err = raft.NewRaft(c, g.fsm, g.logs, g.logs, g.snapshots, g.transport); err != nil {
		return err
	}
	close(g.started)
	err = errors.Join(g.checkMember(), g.matchLog())
	if err == nil && g.Sole() && !g.IsJoining() { // there is nobody to wait for
		err = g.standForElection()
	}
	if err != nil {
		err = errors.Join(err, g.endRaft())
	}
	return err
}

// checkTerm makes sure that the log is there which a snapshot was taken of: it has the term and the vote too, and whoever forgets
// those may vote twice. Raft would make it anew.
func (g *Group) checkTerm() error {
	if g.snapshots.last == nil {
		return nil
	}
	term, err := g.wal.GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return err
	}
	if term < g.snapshots.last.Term {
		return fmt.Errorf("group %s: the log in %s is not the one of its state: %w", g.cfg.Name, g.cfg.Dir, ErrMissing)
	}
	return nil
}

// checkMember makes sure that the replica on the disk is this node's.
func (g *Group) checkMember() error {
	if g.cfg.Joining || g.IsMember() {
		return nil
	}
	var members []string
	for _, m := range g.Members() {
		members = append(members, m.Node)
	}
	return fmt.Errorf("group %s in %s is of node %s, this is node %s: %w", g.cfg.Name, g.cfg.Dir, strings.Join(members, ", "), g.cfg.NodeID, ErrNotMember)
}

// commitTimeout is how often a leader tells followers what is committed when there is nothing else to send. They have been told by a hint, and by
// heartbeats. It is also when a leader tries again what failed, before the follower was known to be down.
const commitTimeout = 500 * time.Millisecond

// maxBatch is how many entries go to the disk, to a follower or to the state machine at once. Entries hold up to a MiB.
const maxBatch = 32

// queueTime is how long Close lets Raft take what was proposed: it does so at once, but for what waits for a quorum.
const queueTime = 100 * time.Millisecond

// closeWait is how long Close waits for Raft to end, and then for the state to be flushed.
const closeWait = 10 * time.Second

// AfterClose has fn called when the replica has been closed, and nothing is read from it any more.
func (g *Group) AfterClose(fn func()) { g.store.AfterClose(fn) }

// Close flushes the state and ends the replica.
func (g *Group) Close() error {
	close(g.stop)
	g.die()
	ended := make(chan error, 1)
	go func() {
		select { // Raft never answers what is in its queue when it ends
		case <-g.waiting.none():
		case <-g.failed:
		case <-time.After(queueTime):
		}
		err := g.endRaft()
		_ = g.logs.settle() // what it says has broken the replica
		g.done.Wait()
		g.handing.Wait()
		ended <- err
	}()
	var err error
	select {
	case err = <-ended:
	case <-time.After(closeWait): // its disk hangs; what it still uses can't be closed
		var stacks strings.Builder
		pprof.Lookup("goroutine").WriteTo(&stacks, 1) // functions, without what they were called with
		g.log.Error("a replica does not end", "goroutines", stacks.String())
		return fmt.Errorf("replica of group %s in %s does not end", g.cfg.Name, g.cfg.Dir)
	}
	h := g.store.Acquire()
	if g.Err() == nil {
		// So that the next start has nothing to apply again. On a full disk it never ends, and nothing is lost without it.
		if flushed, ferr := h.AsyncFlush(); ferr == nil {
			select {
			case <-flushed:
			case <-time.After(closeWait):
				g.log.Warn("closing without having flushed the state; the next start applies it again from the log")
			}
		}
	}
	err = errors.Join(err, h.Release(), g.wal.Close(), g.store.Close())
	g.logFS.wait()
	return err
}

// closing tells whether the replica is being closed.
func (g *Group) closing() bool {
	select {
	case <-g.stop:
		return true
	default:
		return false
	}
}

// ErrMissing says that a group that was made once is not on the disk any more.
var ErrMissing = errors.New("group is missing")

// ErrNotMember says that the replica on the disk belongs to another node.
var ErrNotMember = errors.New("not this node's replica")

// ErrBroken says that the replica's state can't be read or written any more.
var ErrBroken = errors.New("replica is broken")

// ErrRemoved says that the replica is no member of its group any more.
var ErrRemoved = fmt.Errorf("replica was removed from its group: %w", syscall.EIO)

// ErrClosed says that the replica is being closed.
var ErrClosed = fmt.Errorf("replica is closed: %w", syscall.EIO)

// ErrNoLeader says that the group has had no leader that this node can reach for a while, or one that commits nothing; of what is asked of
// the leader alone, that this node is not it.
var ErrNoLeader = fmt.Errorf("group has no leader that can be reached: %w", syscall.EIO)

// ErrUncertain says that the leader was lost before it told whether the command was committed.
var ErrUncertain = fmt.Errorf("leader lost while committing: %w", syscall.EIO)

// WaitLeader waits until this replica leads its group and has applied all that was committed before.
func (g *Group) WaitLeader(ctx context.Context) error {
	for {
		err := g.lead(ctx)
		if err == nil {
			err = g.await(ctx, g.barrier(ctx).Error)
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ErrUncertain) && !errors.Is(err, ErrNoLeader): // else it was lost at once, or has a long log to apply
			return fmt.Errorf("group %s has no leader here: %w", g.cfg.Name, err)
		}
		g.pause(ctx)
	}
}

// WaitTerm waits until this replica leads its group in another term than the one given, and has applied all that was committed before;
// it answers the term.
func (g *Group) WaitTerm(ctx context.Context, not uint64) (uint64, error) {
	for {
		_, _, _, changed := g.role.now()
		term := g.raft.CurrentTerm()
		if err := g.WaitLeader(ctx); err != nil {
			return 0, err
		}
		if term != g.raft.CurrentTerm() {
			continue // another has led since
		}
		if term != not {
			return term, nil
		}
		select {
		case <-changed:
		case <-g.stop:
			return 0, ErrClosed
		case <-ctx.Done():
			return 0, g.explain(ctx.Err())
		}
	}
}

// Err is what broke the replica: its state can't be read or written any more. Nil while all is well.
func (g *Group) Err() error {
	if err := g.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// fail has the replica stop: it takes part in nothing any more, so that another leads the group if this one did.
func (g *Group) fail(err error) {
	err = fmt.Errorf("%w: group %s in %s: %w", ErrBroken, g.cfg.Name, g.cfg.Dir, err)
	if g.broken.CompareAndSwap(nil, &err) {
		close(g.failed)
		g.log.Error("replica stops serving", "error", err)
		go func() { // Raft's own goroutines come here, which it waits for
			<-g.started
			if err := g.endRaft(); err != nil {
				g.log.Error("ending the broken replica's part", "error", err)
			}
		}()
	}
}

// Status is a replica's state for people.
type Status struct {
	Name    string
	Role    string // "Leader", "Follower", ...
	Leader  string // the leader's node
	Voters  []string
	Term    uint64
	Commit  uint64 // index
	Applied uint64 // index
	First   uint64 // index of the first entry still in the log
	Stored  uint64 // octets on disk, of the state
	Err     error
}

// Status tells how the replica is.
func (g *Group) Status() Status {
	s := Status{
		Name: g.cfg.Name, Role: g.raft.State().String(), Leader: g.Leader(), Term: g.raft.CurrentTerm(),
		Commit: g.raft.CommitIndex(), Applied: g.raft.AppliedIndex(), Err: g.Err(),
	}
	for _, m := range g.Members() {
		if m.Voter {
			s.Voters = append(s.Voters, m.Node)
		}
	}
	s.First, _ = g.wal.FirstIndex()
	h := g.store.Acquire()
	defer h.Release()
	s.Stored = h.Metrics().DiskSpaceUsage()
	return s
}

// Name is the group's name.
func (g *Group) Name() string { return g.cfg.Name }

// CheckLog reads every entry of the log, whose checksums are looked at thereby, and answers what is wrong with it.
func (g *Group) CheckLog() error {
	first, err := g.wal.FirstIndex()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	last, err := g.wal.LastIndex()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	var entry raft.Log
	for i := first; i <= last && last > 0; i++ {
		err := g.wal.GetLog(i, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			if now, _ := g.wal.FirstIndex(); now > i { // truncated meanwhile
				i = now - 1
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("log entry %d: %w", i, err)
		}
		var cmd raftpb.Command
		if entry.Type == raft.LogCommand {
			if err := proto.Unmarshal(entry.Data, &cmd); err != nil {
				return fmt.Errorf("log entry %d: %w", i, err)
			}
		}
	}
	return nil
}
