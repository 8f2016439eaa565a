package daemon

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mailraft/fs/seal"
)

// sweeper gives memory back to the machine after passwords were checked: each derivation fills 64 MiB, which the collector would
// otherwise keep for minutes. And it has the collector overwrite what a locked account has left on the heap (harden.Overwrite).
type sweeper struct {
	derivations, locks *time.Timer
	locking            atomic.Bool // locks runs
}

const (
	// sweepAfter is how long nobody must have logged in.
	sweepAfter = 3 * time.Second
	// sweepAbove is how much heap a sweep is worth.
	sweepAbove = 64 << 20
	// overwriteAfter is how long after a lock what it left is overwritten: with it, what other accounts leave meanwhile.
	overwriteAfter = 5 * time.Second
)

func newSweeper() *sweeper {
	s := &sweeper{derivations: time.AfterFunc(time.Hour, sweep)}
	s.locks = time.AfterFunc(time.Hour, s.overwrite)
	s.derivations.Stop()
	s.locks.Stop()
	return s
}

// derived is called after each derivation.
func (s *sweeper) derived() { s.derivations.Reset(sweepAfter) }

// locked is called after each lock.
func (s *sweeper) locked(uint64) {
	if s.locking.CompareAndSwap(false, true) {
		s.locks.Reset(overwriteAfter)
	}
}

func (s *sweeper) stop() error {
	s.derivations.Stop()
	s.locks.Stop()
	return nil
}

func sweep() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapSys-m.HeapReleased > sweepAbove {
		debug.FreeOSMemory()
	}
}

// overwrite has the collector find what nobody uses. What lies in a pool (sync.Pool) it leaves alone twice.
func (s *sweeper) overwrite() {
	s.locking.Store(false)
	seal.Forget()
	for range 3 {
		runtime.GC()
	}
}
