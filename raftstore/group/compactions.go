package group

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// compactions lets as many compactions of a state run at once as its options allow. Pebble's own scheduler looks ten times a second whether
// one waits, in each state, and so wakes an idle node for nothing more often than all else does. This one looks only while one waits.
type compactions struct {
	db   pebble.DBForCompaction
	look chan struct{} // one may run now that waits
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex // held for a few assignments
	running  int
	refused  uint64 // counts those that have to wait
	watching bool   // watch runs
	closed   bool
}

func newCompactions() *compactions {
	return &compactions{look: make(chan struct{}, 1), stop: make(chan struct{})}
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) { c.db = db }

// Unregister implements pebble.CompactionScheduler: no call to the state is under way when it returns, and none follows.
func (c *compactions) Unregister() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	close(c.stop)
	c.done.Wait()
}

// TrySchedule implements pebble.CompactionScheduler. What it refuses runs as soon as it may.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return false, nil
	case c.running < c.db.GetAllowedWithoutPermission():
		c.running++
		return true, c
	}
	c.refused++
	if !c.watching {
		c.watching = true
		c.done.Go(c.watch)
	}
	return false, nil
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (c *compactions) UpdateGetAllowedWithoutPermission() { signal(c.look) }

// Done implements pebble.CompactionGrantHandle: one has ended.
func (c *compactions) Done() {
	c.mu.Lock()
	c.running--
	c.mu.Unlock()
	signal(c.look)
}

// Started, MeasureCPU and CumulativeStats implement pebble.CompactionGrantHandle: nothing here depends on them.
func (c *compactions) Started()                                          {}
func (c *compactions) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (c *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// lookEvery is for what nobody tells of: that more may run, as the state lags behind.
const lookEvery = 100 * time.Millisecond

// watch runs while a compaction waits.
func (c *compactions) watch() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for c.grant() {
		select {
		case <-c.look:
		case <-tick.C:
		case <-c.stop:
			return
		}
	}
}

// grant has run what waits and may; false: none waits, and watch has ended. The state's methods may take its locks, under which it calls
// TrySchedule: so c.mu is not held for them, but for the one that takes none.
func (c *compactions) grant() bool {
	for {
		c.mu.Lock()
		if c.closed || c.running >= c.db.GetAllowedWithoutPermission() {
			defer c.mu.Unlock()
			return !c.closed
		}
		c.running++
		refused := c.refused
		c.mu.Unlock()
		waits, _ := c.db.GetWaitingCompaction()
		if waits && c.db.Schedule(c) {
			continue
		}
		c.mu.Lock()
		c.running--
		if !waits && c.refused == refused {
			c.watching = false
			c.mu.Unlock()
			return false
		}
		c.mu.Unlock()
		if waits {
			return true // it does not take what it waits for: later
		}
	}
}
