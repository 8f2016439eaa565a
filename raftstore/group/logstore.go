package group

import (
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// logStore is the log and the stable store as Raft sees them. What a leader stores is written while the followers are sent it already (Ongaro's
// thesis, 10.2.1), so that a commit takes the time of one fsync and not of two, one after the other.
//
// Raft takes the leader's entries for stored before they are, and so may count this replica to a quorum too early. Three things make up for that:
//
//   - Whatever is committed by such a count is neither applied here (awaitStored) nor told to the followers (holdBack) before it is stored.
//     So what anybody is told of is on a quorum's disks.
//   - A replica that leads no more may find entries of its own in what the next leader sends, and say that it has them. Whoever follows
//     another leader takes up a term first, or has granted it its vote in one: no term is stored before the entries are (SetUint64).
//   - All else that a leader stores, it stores first, and all before it. What the terms before have left is committed with the entry that
//     begins a term, whoever has stored what was left: without that on a quorum's disks another leader may put something else there. And the
//     next change of the configuration may begin when the last is committed.
//
// A second write waits for the first, so that what is proposed meanwhile shares an fsync.
type logStore struct {
	*wal.WAL
	g     *Group
	leads func() bool                     // Group's; a test looks at what goes on meanwhile
	write func(entries []*raft.Log) error // WAL's; a test has it take its time

	mu      sync.Mutex // held for an assignment, and to see who leads
	writing *logWrite  // nil: all is stored
}

// logWrite is a write of entries that Raft takes for stored.
type logWrite struct {
	entries []*raft.Log
	done    chan struct{}
	err     error // when it is done
}

func (w *logWrite) first() uint64 { return w.entries[0].Index }

func (w *logWrite) last() uint64 { return w.entries[len(w.entries)-1].Index }

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (l *logStore) StoreLogs(entries []*raft.Log) error {
	if err := l.settle(); err != nil {
		return err
	}
	w := l.begin(entries)
	if w == nil {
		err := l.WAL.StoreLogs(entries)
		if err == nil {
			l.remember(entries)
		}
		l.g.hints.look()
		return err
	}
	l.remember(entries)
	go func() {
		defer close(w.done)
		if w.err = l.write(entries); w.err != nil {
			l.g.fail(w.err) // Raft counts on them
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writing = nil
	}()
	return nil
}

// begin notes a write that Raft does not wait for; nil: it has to. Raft may learn of another leader in a goroutine of its own, which makes it
// a follower and then stores the term: that one waits for this write, or this replica leads no more here.
func (l *logStore) begin(entries []*raft.Log) *logWrite {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.mayGoOn(entries) {
		return nil
	}
	l.writing = &logWrite{entries: entries, done: make(chan struct{})}
	return l.writing
}

// mayGoOn tells whether Raft may go on before the entries are stored.
func (l *logStore) mayGoOn(entries []*raft.Log) bool {
	if l.g.cfg.Peers == nil || slices.ContainsFunc(entries, func(e *raft.Log) bool { return e.Type != raft.LogCommand }) {
		return false
	}
	select {
	case <-l.g.started:
		return l.leads() && !l.g.Sole()
	default:
		return false
	}
}

// remember keeps entries in memory: a follower is sent them soon, or they are applied here. The only voter has in memory what it applies.
func (l *logStore) remember(entries []*raft.Log) {
	if l.g.cfg.Peers != nil {
		l.g.recent.forget(l.g.applied.Load())
		l.g.recent.stored(entries)
	}
}

func (l *logStore) underWay() *logWrite {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writing
}

// settle waits until all that Raft takes for stored is.
func (l *logStore) settle() error {
	w := l.underWay()
	if w == nil {
		return nil
	}
	<-w.done
	return w.err
}

// awaitStored waits until an entry that is committed is stored here.
func (l *logStore) awaitStored(index uint64) error {
	w := l.underWay()
	if w == nil || index < w.first() {
		return nil
	}
	<-w.done
	return w.err
}

// holdBack keeps from followers that more is committed than is stored here.
func (t *transport) holdBack(req *raft.AppendEntriesRequest) {
	if stored := t.g.logs.storedUpTo(); req.LeaderCommitIndex > stored { // else it is left alone: Raft sends each heartbeat with the same request
		req.LeaderCommitIndex = stored
	}
}

// storedUpTo is an index up to which all that Raft takes for stored is.
func (l *logStore) storedUpTo() uint64 {
	if w := l.underWay(); w != nil {
		return w.first() - 1
	}
	return math.MaxUint64
}

// GetLog implements raft.LogStore.
func (l *logStore) GetLog(index uint64, to *raft.Log) error {
	if l.g.recent.get(index, to) {
		return nil
	}
	if w := l.underWay(); w != nil && index >= w.first() && index <= w.last() {
		*to = *w.entries[index-w.first()]
		return nil
	}
	return l.WAL.GetLog(index, to)
}

// FirstIndex implements raft.LogStore.
func (l *logStore) FirstIndex() (uint64, error) {
	if err := l.settle(); err != nil {
		return 0, err
	}
	return l.WAL.FirstIndex()
}

// LastIndex implements raft.LogStore.
func (l *logStore) LastIndex() (uint64, error) {
	if w := l.underWay(); w != nil {
		return w.last(), nil
	}
	return l.WAL.LastIndex()
}

// DeleteRange implements raft.LogStore.
func (l *logStore) DeleteRange(first, last uint64) error {
	if err := l.settle(); err != nil {
		return err
	}
	l.g.recent.forgetAll() // before: what is deleted must not be found
	return l.WAL.DeleteRange(first, last)
}

// Set implements raft.StableStore.
func (l *logStore) Set(key, value []byte) error {
	if err := l.settle(); err != nil {
		return err
	}
	return l.WAL.Set(key, value)
}

// SetUint64 implements raft.StableStore.
func (l *logStore) SetUint64(key []byte, value uint64) error {
	if l.settle() != nil { // so this replica is broken, and ends
		runtime.Goexit() // Raft would end the program, not just its goroutine
	}
	return l.WAL.SetUint64(key, value)
}
