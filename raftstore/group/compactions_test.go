package group

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// compacting stands for a state with compactions that wait: some of which may run at once.
type compacting struct {
	allowed, waiting atomic.Int64
	asked            atomic.Int64
	granted          chan pebble.CompactionGrantHandle
}

func (s *compacting) GetAllowedWithoutPermission() int { return int(s.allowed.Load()) }

func (s *compacting) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	s.asked.Add(1)
	return s.waiting.Load() > 0, pebble.WaitingCompaction{}
}

func (s *compacting) Schedule(h pebble.CompactionGrantHandle) bool {
	s.waiting.Add(-1)
	s.granted <- h
	return true
}

// TestCompactionsWait shows that a compaction that has to wait runs when another has ended, and when more are allowed, of which nobody
// tells; and that nothing is looked at while none waits.
func TestCompactionsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := &compacting{granted: make(chan pebble.CompactionGrantHandle, 10)}
		state.allowed.Store(1)
		c := newCompactions()
		c.Register(2, state)
		ok, first := c.TrySchedule()
		if !ok {
			t.Fatal("the first was refused")
		}
		state.waiting.Store(2)
		if ok, _ := c.TrySchedule(); ok {
			t.Fatal("two run where one may")
		}
		time.Sleep(time.Hour)
		if n := len(state.granted); n != 0 || state.asked.Load() != 0 {
			t.Fatalf("%d run besides the one that may", n)
		}
		first.Done()
		synctest.Wait()
		if n := len(state.granted); n != 1 {
			t.Fatalf("%d began when one had ended", n)
		}
		state.allowed.Store(2)
		time.Sleep(2 * lookEvery)
		if n := len(state.granted); n != 2 {
			t.Fatalf("%d began in all, when one more was allowed", n)
		}
		(<-state.granted).Done()
		(<-state.granted).Done()
		synctest.Wait()
		asked := state.asked.Load()
		time.Sleep(time.Hour)
		if c.watching || state.asked.Load() != asked {
			t.Error("it looks although none waits")
		}
		// And it begins anew.
		state.allowed.Store(0)
		state.waiting.Store(1)
		if ok, _ := c.TrySchedule(); ok {
			t.Fatal("one runs where none may")
		}
		state.allowed.Store(1)
		time.Sleep(2 * lookEvery)
		if n := len(state.granted); n != 1 {
			t.Fatalf("%d began after that", n)
		}
		c.Unregister()
		if ok, _ := c.TrySchedule(); ok {
			t.Error("one runs when the state is closed")
		}
	})
}
