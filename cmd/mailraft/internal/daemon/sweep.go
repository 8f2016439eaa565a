package daemon

import (
	"runtime"
	"runtime/debug"
	"time"
)

// sweeper gives memory back to the machine after passwords were checked: each derivation fills 64 MiB, which the collector would
// otherwise keep for minutes.
type sweeper struct{ timer *time.Timer }

const (
	// sweepAfter is how long nobody must have logged in.
	sweepAfter = 3 * time.Second
	// sweepAbove is how much heap a sweep is worth.
	sweepAbove = 64 << 20
)

func newSweeper() *sweeper {
	s := &sweeper{time.AfterFunc(time.Hour, sweep)}
	s.timer.Stop()
	return s
}

// derived is called after each derivation.
func (s *sweeper) derived() { s.timer.Reset(sweepAfter) }

func (s *sweeper) stop() error { s.timer.Stop(); return nil }

func sweep() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapSys-m.HeapReleased > sweepAbove {
		debug.FreeOSMemory()
	}
}
