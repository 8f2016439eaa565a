package group

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A group that cannot commit must say so soon, and then at once: the kernel holds a lock of the whole mount while a rename waits. For
// so long what is asked of it waits for a leader, and for one that commits: a disk may be slow without being broken.
const (
	leaderPatience = 3 * time.Second
	commitPatience = 10 * time.Second
	forever        = time.Duration(math.MaxInt64)
)

// role is whether this replica leads its group: nothing is forwarded to another that does, so for who asks here there is none then.
type role struct {
	mu      sync.Mutex // held for a few assignments
	leads   bool
	since   time.Time
	changed chan struct{} // closed at the next change
}

func newRole() *role { return &role{since: time.Now(), changed: make(chan struct{})} }

func (r *role) set(leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if leads != r.leads {
		r.leads, r.since = leads, time.Now()
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *role) now() (leads bool, since time.Time, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leads, r.since, r.changed
}

// watchRole follows what Raft says of this replica's role, until the group is closed.
func (g *Group) watchRole() {
	defer g.done.Done()
	states := make(chan raft.Observation, 1) // one that is not taken says no less than many
	o := raft.NewObserver(states, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.RaftState)
		return ok
	})
	g.raft.RegisterObserver(o)
	defer g.raft.DeregisterObserver(o)
	for {
		g.role.set(g.raft.State() == raft.Leader)
		select {
		case <-states:
		case <-g.stop:
			return
		}
	}
}

// lead waits until this replica leads its group: ErrNoLeader once the group has had no leader for as long as patience, or has one
// that commits nothing; else Propose's errors.
func (g *Group) lead(ctx context.Context, patience time.Duration) error {
	for {
		if err := g.Err(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return g.explain(err)
		}
		leads, since, changed := g.role.now()
		left := patience - time.Since(since)
		switch {
		case !leads && left <= 0, leads && patience < forever && g.waiting.patience() <= 0:
			return ErrNoLeader
		case leads && g.raft.State() == raft.Leader:
			return nil
		case leads: // not any more, and watchRole is about to see it
			left = retryPause
		}
		timer := time.NewTimer(left)
		select {
		case <-changed:
		case <-timer.C:
		case <-g.stop:
			timer.Stop()
			return ErrClosed
		case <-ctx.Done():
			timer.Stop()
			return g.explain(ctx.Err())
		}
		timer.Stop()
	}
}

// retryPause is between two tries of a proposal that no leader took.
const retryPause = 20 * time.Millisecond

// waiting knows how long Raft has kept everybody waiting who waits.
type waiting struct {
	mu    sync.Mutex // held for a few assignments
	count int
	since time.Time // when the last was answered, or the first came
}

func (w *waiting) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		w.since = time.Now()
	}
	w.count++
}

func (w *waiting) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count--
	w.since = time.Now()
}

// patience is how much longer it may go on so.
func (w *waiting) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		return commitPatience
	}
	return commitPatience - time.Since(w.since)
}
