package fs

import (
	"time"

	"mailraft/raftstore/tree"
)

// What a program that died has left in a tmp/ goes after maildir(5)'s 36 hours.
const (
	stagedAge  = 36 * time.Hour
	sweepEvery = time.Hour
)

// sweepStaged sweeps from time to time until stop is closed.
func (m *mount) sweepStaged(stop <-chan struct{}) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			m.sweep(now)
		case <-stop:
			return
		}
	}
}

// sweep gives up the staged names of files that nobody has open and that have not changed for long. The time of the last change
// counts, whoever made it, and not that of the last writing: this may be set to the message's own date before it is delivered.
func (m *mount) sweep(now time.Time) {
	before := now.Add(-stagedAge).UnixNano()
	m.dropStaged(func(_ tree.Ino, f *file) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.handles == 0 && f.stat.Ctime < before
	})
}
