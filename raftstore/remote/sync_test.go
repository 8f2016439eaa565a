package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mailraft/raftstore/tree"
)

// While connections break and one replica lags: what is cached when ReadIndex or Heard has returned is what was there when it was called.
func TestWhatIsCachedIsHeardOf(t *testing.T) {
	s, first, second := newStorm(t, 3)
	s.c = newClient(t, t.TempDir(), to(second, first), s.k.applied)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() { s.lookUp(rand.New(rand.NewPCG(5, uint64(r))), stop) })
	}
	compared, breaks := 0, 0
	for begin := time.Now(); time.Since(begin) < 2*time.Second && !t.Failed(); {
		for range 1 + s.rng.IntN(3) {
			s.change()
		}
		switch s.rng.IntN(50) {
		case 0:
			first.cut()
			breaks++
		case 1:
			second.cut()
			breaks++
		case 2:
			s.c.Leave()
		}
		var err error
		if s.rng.IntN(2) == 0 {
			err = s.c.ReadIndex(t.Context())
		} else {
			err = s.c.Heard(t.Context(), s.index)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s.c.Index() < s.index {
			t.Errorf("later reads show %d, it was %d", s.c.Index(), s.index)
		}
		compared += s.compare()
	}
	close(stop)
	readers.Wait()
	s.end()
	t.Logf("%d commands, %d breaks, %d times replaced; %d names compared", s.index, breaks, s.k.replaced.Load(), compared)
	if s.failed.Load() > 0 || breaks == 0 || compared < 1000 {
		t.Error("reads failed, or nothing broke, or was compared")
	}
}

// A replica that can't learn what was acknowledged says so, and what is watched there is watched on; who asks at once asks once.
func TestASyncThatFails(t *testing.T) {
	a := newLocal(t)
	a.apply(1, makeAccount(1))
	first := newNode(t, "first", map[uint32]Replica{1: a})
	k := newKernel(t)
	c := newClient(t, t.TempDir(), to(first), k.applied)
	if err := c.Watch(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.cutOff = errors.New("no quorum")
	a.mu.Unlock()
	if err := c.ReadIndex(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("without a quorum: %v", err)
	}
	a.mu.Lock()
	a.cutOff, a.reads = nil, 0
	a.mu.Unlock()
	if k.replaced.Load() > 0 {
		t.Error("what is watched was said to be replaced")
	}
	var asking sync.WaitGroup
	for range 100 {
		asking.Go(func() {
			if err := c.ReadIndex(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reads == 0 || a.reads > 60 {
		t.Errorf("100 questions at once were asked as %d", a.reads)
	}
}

// What is to be heard of is waited for, within the caller's time.
func TestHeardWaits(t *testing.T) {
	a := newLocal(t)
	a.apply(1, makeAccount(1))
	a.apply(2, reserve(1))
	first := newNode(t, "first", map[uint32]Replica{1: a})
	k := newKernel(t)
	c := newClient(t, t.TempDir(), to(first), k.applied)
	if err := c.Watch(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Heard(ctx, 3); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("what is not applied: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Heard(t.Context(), 3) }()
	a.apply(3, create(tree.MakeIno(1, 2), tree.MakeIno(1, 10), "m", modeFile, nil))
	if err := <-done; err != nil || k.count(1) != 1 {
		t.Errorf("%d events, %v", k.count(1), err)
	}
}

// What an account may have changed is emitted before a sync is answered, also while it ceases to be watched.
func TestASweepIsHeardOf(t *testing.T) {
	a := newLocal(t)
	a.apply(1, makeAccount(1))
	a.apply(2, reserve(1))
	first := newNode(t, "first", map[uint32]Replica{1: a})
	emitting, goOn := make(chan struct{}), make(chan struct{})
	var emitted atomic.Bool
	c := newClient(t, t.TempDir(), to(first), func(ev *tree.Event) {
		if ev.Replaced && !emitted.Load() {
			close(emitting)
			<-goOn
			emitted.Store(true)
		}
	})
	if err := c.Watch(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		err := c.Heard(t.Context(), 3)
		if !emitted.Load() {
			err = errors.Join(err, errors.New("it was answered before what may have changed was emitted"))
		}
		answered <- err
	}()
	soon(t, "the sync has been sent", func() bool {
		if !c.watch.sending.TryLock() {
			return false
		}
		defer c.watch.sending.Unlock()
		c.watch.mu.RLock()
		defer c.watch.mu.RUnlock()
		return len(c.watch.stream.syncs) == 1
	})
	var swept sync.WaitGroup
	swept.Go(func() { c.watch.sweepOnce(time.Now().Add(time.Hour)) })
	<-emitting
	a.apply(3, create(tree.MakeIno(1, 2), tree.MakeIno(1, 10), "m", modeFile, nil))
	select {
	case err := <-answered:
		t.Error(err)
	case <-time.After(50 * time.Millisecond): // time enough to answer wrongly
	}
	close(goOn)
	swept.Wait()
	if !t.Failed() {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

// A replica may go at the moment at which whoever watches it does.
func TestAReplicaGoesWithItsWatcher(t *testing.T) {
	for range 40 {
		a := newLocal(t)
		a.apply(1, makeAccount(1))
		first := newNode(t, "first", map[uint32]Replica{1: a})
		c := newClient(t, t.TempDir(), to(first), ignore)
		if err := c.Watch(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(c.Leave)
		both.Go(func() { close(a.done) })
		both.Wait()
		c.Close()
		first.server.Stop() // when the handler has ended
	}
}
