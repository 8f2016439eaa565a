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

// role is who leads the group as far as this replica knows, and whether it can be asked.
type role struct {
	mu      sync.Mutex // held for a few assignments
	leader  leader
	fails   bool      // it did not answer, or not as a leader
	since   time.Time // when there was last one to ask
	lease   time.Duration
	changed chan struct{}
}

// leader is a replica that leads, in a term.
type leader struct {
	node string // empty: none is known
	term uint64
	here bool // it is this replica
}

// newRole is of a replica that leads for so long without hearing of a quorum.
func newRole(lease time.Duration) *role {
	return &role{since: time.Now(), lease: lease, changed: make(chan struct{})}
}

// set notes whom Raft takes for the leader. A new one is trusted until it fails.
func (r *role) set(l leader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	could, led := r.usable(), r.leader.here
	if l != r.leader {
		r.leader, r.fails = l, false
	}
	r.note(could)
	if led && !r.usable() { // it has committed nothing for as long
		r.since = r.since.Add(-r.lease)
	}
}

// failed notes that the leader could not be asked.
func (r *role) failed(l leader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l != r.leader || l.here || r.fails {
		return
	}
	could := r.usable()
	r.fails = true
	r.note(could)
}

// answered notes that it could.
func (r *role) answered(l leader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l == r.leader && r.fails {
		r.fails = false
		r.note(false)
	}
}

func (r *role) usable() bool { return r.leader.node != "" && !r.fails }

func (r *role) note(could bool) {
	if could && !r.usable() {
		r.since = time.Now()
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *role) now() (l leader, usable bool, since time.Time, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leader, r.usable(), r.since, r.changed
}

// watchRole follows what Raft says of the group's leader, until the group is closed.
func (g *Group) watchRole() {
	states := make(chan raft.Observation, 1) // one that is not taken says no less than many
	o := raft.NewObserver(states, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			return true
		}
		return false
	})
	g.raft.RegisterObserver(o)
	defer g.raft.DeregisterObserver(o)
	for {
		g.role.set(g.leaderNow())
		select {
		case <-states:
		case <-g.stop:
			return
		}
	}
}

// leaderNow is the leader that Raft knows. Only one that can be asked counts: itself, or with Peers another.
func (g *Group) leaderNow() leader {
	if g.raft.State() == raft.Leader {
		return leader{g.cfg.NodeID, g.raft.CurrentTerm(), true}
	}
	node := g.Leader()
	if node == "" || node == g.cfg.NodeID || g.cfg.Peers == nil {
		return leader{}
	}
	return leader{node, g.raft.CurrentTerm(), false}
}

// probeLeader asks a leader that failed until it answers: those who wait for it are told at once meanwhile that there is none.
func (g *Group) probeLeader() {
	for {
		l, usable, _, changed := g.role.now()
		if usable || l.node == "" {
			select {
			case <-changed:
				continue
			case <-g.stop:
				return
			}
		}
		ctx, cancel := context.WithTimeout(g.life, time.Second)
		if _, err := g.cfg.Peers.ReadIndex(ctx, l.node); err == nil {
			g.role.answered(l)
		}
		cancel()
		select {
		case <-time.After(5 * retryPause):
		case <-changed:
		case <-g.stop:
			return
		}
	}
}

// findLeader waits until there is a leader that can be asked: ErrNoLeader once there was none for leaderPatience, or it commits
// nothing; else Propose's errors.
func (g *Group) findLeader(ctx context.Context) (leader, error) {
	for {
		if err := g.usable(ctx); err != nil {
			return leader{}, err
		}
		l, usable, since, changed := g.role.now()
		left := leaderPatience - time.Since(since)
		switch {
		case !usable && left <= 0, usable && g.waiting.patience() <= 0:
			return leader{}, ErrNoLeader
		case usable && (!l.here || g.raft.State() == raft.Leader):
			return l, nil
		case usable: // this replica leads no more, and watchRole is about to see it
			left = retryPause
		}
		if err := g.changes(ctx, changed, left); err != nil {
			return leader{}, err
		}
	}
}

// lead waits until this replica leads its group, however long. Errors as Propose's.
func (g *Group) lead(ctx context.Context) error {
	for {
		if err := g.usable(ctx); err != nil {
			return err
		}
		l, _, _, changed := g.role.now()
		left := forever
		if l.here {
			if g.raft.State() == raft.Leader {
				return nil
			}
			left = retryPause
		}
		if err := g.changes(ctx, changed, left); err != nil {
			return err
		}
	}
}

// usable tells what keeps the replica, or the caller, from going on.
func (g *Group) usable(ctx context.Context) error {
	if err := g.Err(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return g.explain(err)
	}
	if g.Removed() {
		return ErrRemoved
	}
	return nil
}

// changes waits for a change of the role, for so long at most.
func (g *Group) changes(ctx context.Context, changed <-chan struct{}, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-g.stop:
		return ErrClosed
	case <-ctx.Done():
		return g.explain(ctx.Err())
	}
	return nil
}

// retryPause is between two tries of a proposal that no leader took.
const retryPause = 20 * time.Millisecond

// waiting knows how long Raft has kept everybody waiting who waits.
type waiting struct {
	mu    sync.Mutex // held for a few assignments
	count int
	since time.Time // when the last was answered, or the first came
	empty []chan struct{}
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
	if w.count == 0 {
		for _, c := range w.empty {
			close(c)
		}
		w.empty = nil
	}
}

// none is closed once nobody waits any more.
func (w *waiting) none() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	if w.count == 0 {
		close(c)
	} else {
		w.empty = append(w.empty, c)
	}
	return c
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
