package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// MemTableSize is the octets that a group's state takes in before it flushes them. Pebble counts them against its cache.
const MemTableSize = 16 << 20

// openState opens the Pebble store of the replica's state.
func (g *Group) openState(dir string) (*pebble.DB, error) {
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
		FS:                          vfs.Default,
	}
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
	defer g.done.Done()
	entries := g.applied.Load()
	for {
		select {
		case <-g.checkpoint:
		case <-g.stop:
			return
		}
		octets, now := g.pending.Swap(0), g.applied.Load()
		trailing := uint64(trailingBytes) * max(now-entries, 1) / uint64(max(octets, 1))
		entries = now
		c := g.raft.ReloadableConfig()
		c.TrailingLogs = min(max(trailing, minTrailing), maxTrailing)
		if err := g.raft.ReloadConfig(c); err != nil {
			g.log.Error("setting how much of the log to keep", "error", err)
		}
		start := time.Now()
		err := g.raft.Snapshot().Error()
		switch {
		case err == nil:
			g.log.Debug("checkpoint", "octets", octets, "took", time.Since(start))
		case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
		default:
			g.log.Error("checkpoint failed; the log grows until one succeeds", "error", err)
		}
	}
}
