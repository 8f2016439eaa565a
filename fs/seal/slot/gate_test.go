package slot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
)

func TestGateTurns(t *testing.T) {
	g := slot.NewGate(3)
	var inside, most atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				leave, err := g.Enter(t.Context(), "", quick)
				if err != nil {
					t.Error(err)
					return
				}
				now := inside.Add(1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				inside.Add(-1)
				leave()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 {
		t.Fatalf("%d at once, 3 granted", most.Load())
	}
	// A record of 128 MiB takes two turns.
	leave, err := g.Enter(t.Context(), "", slot.Params{Passes: 1, Memory: 128 << 10, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	last, err := g.Enter(t.Context(), "", quick)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Unwrap(ctx, "", wrap(t, newIdentity(t, seal.X25519), "pw", 1, 1), 1, []byte("pw")); !errors.Is(err, context.Canceled) {
		t.Fatalf("waiting with a cancelled context: %v", err)
	}
	leave()
	last()
}

// TestGateIsBusy: it is told when the first derivation begins and when the last has ended, not in between.
func TestGateIsBusy(t *testing.T) {
	g := slot.NewGate(2)
	var told []bool
	g.OnBusy(func(busy bool) { told = append(told, busy) })
	enter := func() func() {
		t.Helper()
		leave, err := g.Enter(t.Context(), "", quick)
		if err != nil {
			t.Fatal(err)
		}
		return leave
	}
	for range 2 {
		one, other := enter(), enter()
		one()
		one = enter()
		other()
		one()
	}
	if want := []bool{true, false, true, false}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// queue has those parties wait at a gate that is closed, in that order, and returns in which order they got in.
func queue(t *testing.T, parties ...string) []string {
	t.Helper()
	g := slot.NewGate(1)
	open, err := g.Enter(t.Context(), "first", quick)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	for _, from := range parties {
		wg.Go(func() {
			leave, err := g.Enter(t.Context(), from, quick)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, from)
			mu.Unlock()
			leave()
		})
		synctest.Wait() // until it waits
	}
	open()
	wg.Wait()
	return order
}

// One that has many derivations waiting keeps the others from theirs for one each, not for all of them.
func TestGatePartiesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := queue(t, "a", "a", "a", "a", "b", "c", "a", "c", "")
		want := []string{"a", "b", "c", "", "a", "c", "a", "a", "a"}
		if !slices.Equal(got, want) {
			t.Errorf("the turns were %q, want %q", got, want)
		}
	})
}

func TestGateIsBusyForOnePartyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := slot.NewGate(1)
		open, err := g.Enter(t.Context(), "a", quick)
		if err != nil {
			t.Fatal(err)
		}
		impatient, giveUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		enter := func(ctx context.Context, from string, want error) {
			wg.Go(func() {
				leave, err := g.Enter(ctx, from, quick)
				if !errors.Is(err, want) {
					t.Errorf("%q: %v, want %v", from, err, want)
				}
				if err == nil {
					leave()
				}
			})
			synctest.Wait()
		}
		for range slot.MaxWaiting - 1 {
			enter(t.Context(), "a", nil)
		}
		enter(impatient, "a", context.Canceled)
		enter(t.Context(), "a", slot.ErrBusy)
		enter(t.Context(), "b", nil)
		for range 2 * slot.MaxWaiting { // the node's own
			enter(t.Context(), "", nil)
		}
		giveUp()
		synctest.Wait()
		enter(t.Context(), "a", nil) // in the place that was given up
		enter(t.Context(), "a", slot.ErrBusy)
		open()
		wg.Wait()
	})
}

// One that waits for more memory than there is does not keep others waiting once it has given up.
func TestGateGivingUpLetsOthersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := slot.NewGate(2)
		leave, err := g.Enter(t.Context(), "a", quick)
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			if _, err := g.Enter(ctx, "b", slot.Params{Passes: 1, Memory: 128 << 10, Threads: 1}); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		in := make(chan struct{})
		wg.Go(func() {
			leave, err := g.Enter(t.Context(), "c", quick)
			if err != nil {
				t.Error(err)
				return
			}
			close(in)
			leave()
		})
		synctest.Wait()
		select {
		case <-in:
			t.Error("one that needs less overtook one that needs more")
		default:
		}
		cancel()
		<-in
	})
}

// Many parties at once that enter, leave and give up, for the race detector; in the end all turns are there again.
func TestGateRaces(t *testing.T) {
	g := slot.NewGate(3)
	var left atomic.Int64
	g.OnLeave(func() { left.Add(1) })
	var entered atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if j%3 == 0 {
					go cancel()
				}
				p := quick
				p.Memory = 64 << 10 * uint32(1+j%3)
				if leave, err := g.Enter(ctx, fmt.Sprint(i%4), p); err == nil {
					entered.Add(1)
					leave()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if left.Load() < entered.Load() {
		t.Errorf("%d turns, %d ends of them", entered.Load(), left.Load())
	}
	all, err := g.Enter(t.Context(), "", slot.Params{Passes: 1, Memory: 192 << 10, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	all()
}
