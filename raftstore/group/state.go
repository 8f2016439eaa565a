package group

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"mailraft/raftstore/machine"
)

// MemTableSize is the octets that a group's state takes in before it flushes them. Pebble counts them against its cache.
const MemTableSize = 16 << 20

// openState opens the Pebble store of the replica's state.
func (g *Group) openState(dir string) (*pebble.DB, error) {
	retry := new(backoff)
	o := &pebble.Options{
		Cache:                       g.cfg.Cache,
		DisableWAL:                  true, // the Raft log is it
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                MemTableSize,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               128 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      pebbleLogger{g.log},
		FS:                          stateFS{vfs.Default, retry},
		EventListener:               g.stateEvents(retry),
	}
	o.Experimental.CompactionScheduler = newCompactions()
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 8 << 10
		// Nearly all octets are sealed contents, which do not compress.
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", dir, err)
	}
	return db, nil
}

// Of the log, entries before the last checkpoint are kept for followers that lag: this many octets, but at least minTrailing
// entries.
const (
	trailingBytes = 32 << 20
	minTrailing   = 64
	maxTrailing   = 16384
)

// runCheckpoints has the state flushed and the log truncated whenever enough of it was applied, until the group is closed.
func (g *Group) runCheckpoints() {
	entries := g.snapshots.noted()
	g.pending.Add(g.loggedSince(entries))
	if g.pending.Load() > g.cfg.CheckpointBytes {
		g.wantCheckpoint()
	}
	var retry backoff
	for {
		select {
		case <-g.checkpoint:
		case <-g.stop:
			return
		}
		octets, now := g.pending.Swap(0), g.applied.Load()
		trailing := uint64(trailingBytes) * max(now-entries, 1) / uint64(max(octets, 1))
		entries = now
		g.reload(func(c *raft.ReloadableConfig) { c.TrailingLogs = min(max(trailing, minTrailing), maxTrailing) })
		start := time.Now()
		err := g.raft.Snapshot().Error()
		switch {
		case err == nil:
			retry.succeeded()
			g.log.Debug("checkpoint", "octets", octets, "took", time.Since(start))
		case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown), g.closing():
		default:
			wait := retry.failed()
			g.log.Error("checkpoint failed; the log grows until one succeeds", "error", err, "again in", wait)
			g.pending.Add(octets)
			select {
			case <-time.After(wait):
			case <-g.stop:
				return
			}
			g.wantCheckpoint()
		}
	}
}

// loggedSince is about how many octets of log the state has applied since it was flushed, in an earlier run: one that is started again and again
// would never drop any else.
func (g *Group) loggedSince(flushed uint64) int64 {
	first, ferr := g.wal.FirstIndex()
	last, lerr := g.wal.LastIndex()
	segments, gerr := filepath.Glob(filepath.Join(g.cfg.Dir, "wal", "*.wal"))
	applied := min(g.applied.Load(), last)
	flushed = max(flushed, first)
	if ferr != nil || lerr != nil || gerr != nil || len(segments) == 0 || applied <= flushed {
		return 0
	}
	written := float64(len(segments)-1) * float64(g.cfg.SegmentSize) // the last one is not full
	return int64(written * float64(applied-flushed) / float64(last-first+1))
}

// wantCheckpoint has runCheckpoints make one.
func (g *Group) wantCheckpoint() {
	select {
	case g.checkpoint <- struct{}{}:
	default: // it will
	}
}

// stateEvents has Pebble tell of what went wrong behind the scenes. That an octet on the disk has changed is the reader's to hear, who
// gets an error; Pebble's own listener would end the program.
func (g *Group) stateEvents(retry *backoff) *pebble.EventListener {
	succeeded := func(err error) {
		if err == nil {
			retry.succeeded()
		}
	}
	return &pebble.EventListener{
		BackgroundError: func(err error) { // called with DB.mu held
			g.log.Error("writing the state failed; it is tried again", "error", err, "in", retry.failed())
		},
		FlushEnd:      func(i pebble.FlushInfo) { succeeded(i.Err) },
		CompactionEnd: func(i pebble.CompactionInfo) { succeeded(i.Err) },
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			g.log.Error("the state on disk is damaged", "path", i.Path, "error", i.Details)
		},
	}
}

// stateFS keeps Pebble from trying again at once, for ever, what has failed: the next table that it makes waits. No other place will
// do: where Pebble makes a table it holds no lock, and where it tells of a failure it holds the one that everybody needs.
type stateFS struct {
	vfs.FS
	retry *backoff
}

// Create implements vfs.FS.
func (f stateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if filepath.Ext(name) == ".sst" {
		f.retry.wait()
	}
	return f.FS.Create(name, category)
}

// Unwrap implements vfs.FS.
func (f stateFS) Unwrap() vfs.FS { return f.FS }

// backoff spaces what is tried again: with each failure in a row twice as far.
type backoff struct {
	mu    sync.Mutex // held for a few assignments
	pause time.Duration
	until time.Time
}

func (b *backoff) failed() time.Duration {
	const first, most = 10 * time.Millisecond, 2 * time.Second
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = min(max(2*b.pause, first), most)
	b.until = time.Now().Add(b.pause)
	return b.pause
}

func (b *backoff) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause, b.until = 0, time.Time{}
}

func (b *backoff) wait() {
	b.mu.Lock()
	left := time.Until(b.until)
	b.mu.Unlock()
	time.Sleep(left)
}

// flush has what was applied so far on disk. On a full disk that does not end before the replica is closed: ErrClosed.
func (g *Group) flush(h *machine.Handle) error {
	flushed, err := h.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-g.stop:
		return ErrClosed
	}
}
