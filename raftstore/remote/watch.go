package remote

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// watching follows the accounts that were read, over one stream at a time.
//
// Locks: sending before emitting before mu. What is emitted is emitted with emitting held, and without mu.
type watching struct {
	c       *Client
	emit    func(*tree.Event)
	stopped chan struct{}
	done    sync.WaitGroup

	emitting sync.Mutex

	sending sync.Mutex // held while a stream is opened, or something is sent: in the order in which accounts says it
	mu      sync.RWMutex
	stream  *watchStream
	closed  bool
	watched map[tree.Account]*watchedAccount
}

type watchStream struct {
	grpc.BidiStreamingClient[remotepb.WatchRequest, remotepb.WatchReply]
	end  context.CancelFunc
	node string

	// with watching.mu
	over  bool                  // it broke; it is the stream until all that was watched over it is said to be replaced
	heard uint64                // all events up to this index were emitted
	syncs map[uint64]chan error // those that are not answered, by their id
	last  uint64                // the last sync's id
}

type watchedAccount struct {
	on    *watchStream
	ready chan struct{} // closed when it is watched, or will not be on this stream
	acked bool          // guarded by mu
	has   bool          // its tree is in the shard, and changes there; guarded by mu
	moves uint64        // how often it was heard that this may have changed; guarded by mu
	read  atomic.Int64  // when it was last, in nanoseconds
}

var errNotWatched = status.Error(codes.Unavailable, "the stream of changes broke")

func (w *watching) start(c *Client, emit func(*tree.Event)) {
	w.c, w.emit = c, emit
	w.stopped = make(chan struct{})
	w.watched = map[tree.Account]*watchedAccount{}
	w.done.Go(w.sweep)
}

func (w *watching) stop() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	s := w.stream
	w.mu.Unlock()
	close(w.stopped)
	if s != nil {
		s.end()
	}
	w.done.Wait()
}

// isWatched tells whether whatever changes in the account is emitted, and notes that it is read.
func (w *watching) isWatched(a tree.Account) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	e := w.watched[a]
	if e == nil || !e.acked {
		return false
	}
	e.read.Store(time.Now().UnixNano())
	return true
}

// add watches the account: over the stream that there is, else over a new one from that replica.
func (w *watching) add(ctx context.Context, r *replica, a tree.Account) error {
	e, err := w.register(ctx, r, a)
	if err != nil {
		return err
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		e.on.end() // it does not answer: another will
		return ctx.Err()
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	if !e.acked {
		return errNotWatched
	}
	return nil
}

func (w *watching) register(ctx context.Context, r *replica, a tree.Account) (*watchedAccount, error) {
	w.sending.Lock()
	defer w.sending.Unlock()
	w.mu.RLock()
	e, s, closed := w.watched[a], w.stream, w.closed
	w.mu.RUnlock()
	switch {
	case closed:
		return nil, errClosed
	case e != nil:
		return e, nil
	}
	request := &remotepb.WatchRequest{Add: []uint32{uint32(a)}}
	if s == nil {
		var err error
		if s, err = w.open(ctx, r); err != nil {
			return nil, err
		}
		request.Shard = w.c.shard
	}
	e = &watchedAccount{on: s, ready: make(chan struct{})}
	e.read.Store(time.Now().UnixNano())
	w.mu.Lock()
	if s.over {
		w.mu.Unlock()
		return nil, errNotWatched
	}
	w.watched[a] = e
	w.mu.Unlock()
	stop := context.AfterFunc(ctx, s.end) // the other end takes nothing
	defer stop()
	if err := s.Send(request); err != nil {
		s.end() // receive cleans up
	}
	return e, nil
}

// open opens a stream. Called with sending.
func (w *watching) open(ctx context.Context, r *replica) (*watchStream, error) {
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	stream, err := r.reads.Watch(life)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, err
	}
	s := &watchStream{BidiStreamingClient: stream, end: end, node: r.node, syncs: map[uint64]chan error{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		end()
		return nil, errClosed
	}
	w.stream = s
	w.done.Go(func() { w.receive(s) })
	return s, nil
}

// receive takes in what a stream tells until it breaks; then all that was watched over it may have changed.
func (w *watching) receive(s *watchStream) {
	defer s.end()
	for {
		reply, err := s.Recv()
		if err == nil {
			err = w.take(s, reply)
		}
		if err != nil {
			break
		}
	}
	w.mu.Lock()
	s.over = true
	w.mu.Unlock()
	w.drop(func(e *watchedAccount) bool { return e.on == s })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stream = nil
	for _, answer := range s.syncs {
		answer <- errNotWatched
	}
}

func (w *watching) take(s *watchStream, reply *remotepb.WatchReply) error {
	switch {
	case reply.Replaced:
		w.emitting.Lock()
		defer w.emitting.Unlock()
		w.mu.RLock()
		var all []tree.Account
		for a, e := range w.watched {
			if e.on == s && e.acked {
				all = append(all, a)
			}
		}
		w.mu.RUnlock()
		for _, a := range all {
			w.moved(a)
		}
		w.replaced(all)
	case len(reply.Event) > 0:
		ev, err := tree.DecodeEvent(reply.Event)
		if err != nil {
			return err
		}
		ev.Shard = w.c.shard
		w.c.Seen(ev.Index) // first: whoever reads when it was emitted reads what it tells
		w.emitting.Lock()
		defer w.emitting.Unlock()
		if !w.tells(s, ev.Account) {
			return nil // it is watched no more, and drop has emitted that; or is to be anew, and will be read behind this
		}
		for i := range ev.Changes {
			switch ev.Changes[i].Kind {
			case tree.AccountRemoved, tree.AccountAdded:
				w.c.cache.forget(ev.Account)
				w.moved(ev.Account)
			case tree.AccountFrozen:
				w.moved(ev.Account)
			}
		}
		w.emit(ev)
		w.mu.Lock()
		s.heard = max(s.heard, ev.Index)
		w.mu.Unlock()
	case reply.Synced > 0:
		w.c.Seen(reply.Until)
		w.mu.Lock()
		defer w.mu.Unlock()
		s.heard = max(s.heard, reply.Until)
		answer := s.syncs[reply.Synced]
		if answer == nil {
			return nil // nobody waits any more
		}
		delete(s.syncs, reply.Synced)
		if reply.Failed == "" {
			answer <- nil
		} else {
			answer <- unsynced(reply.Failed)
		}
	case len(reply.Watching) > 0:
		w.c.Seen(reply.Since)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, n := range reply.Watching {
			if e := w.watched[tree.Account(n)]; e != nil && e.on == s && !e.acked {
				e.acked = true
				close(e.ready)
			}
		}
	}
	return nil
}

// moved takes note that the account's tree may be in the shard no more, or is again.
func (w *watching) moved(a tree.Account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.watched[a]; e != nil {
		e.has = false
		e.moves++
	}
}

// has tells whether it is known that the account's tree is in the shard; else e is to be told.
func (w *watching) has(a tree.Account) (known bool, e *watchedAccount, moves uint64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if e = w.watched[a]; e == nil {
		return false, nil, 0
	}
	return e.has && e.acked, e, e.moves
}

// hasIt notes that the account's tree was in the shard when moves was counted.
func (w *watching) hasIt(e *watchedAccount, moves uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e != nil && e.moves == moves {
		e.has = true
	}
}

// tells tells whether the stream is to tell of the account.
func (w *watching) tells(s *watchStream, a tree.Account) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	e := w.watched[a]
	return e != nil && e.on == s && e.acked
}

// remove takes out the accounts that which picks, and answers those that were watched. Called with mu.
func (w *watching) remove(which func(*watchedAccount) bool) (were []tree.Account) {
	for a, e := range w.watched {
		if !which(e) {
			continue
		}
		delete(w.watched, a)
		if e.acked {
			e.acked = false
			were = append(were, a)
		} else {
			close(e.ready)
		}
	}
	return were
}

// drop watches the accounts that which picks no more, says that what was read of them may have changed, and answers which were watched. All
// with emitting, which take waits for: else a sync could be answered behind an event that take left out, as its account is watched no more,
// while that it may have changed is still to be emitted.
func (w *watching) drop(which func(*watchedAccount) bool) (were []tree.Account) {
	w.emitting.Lock()
	defer w.emitting.Unlock()
	w.mu.Lock()
	were = w.remove(which)
	w.mu.Unlock()
	w.replaced(were)
	return were
}

// replaced says that what was read of the accounts may have changed. They are watched no more, or anew. Called with emitting.
func (w *watching) replaced(accounts []tree.Account) {
	w.c.cache.forget(accounts...)
	for _, a := range accounts {
		w.emit(&tree.Event{Replaced: true, Shard: w.c.shard, Account: a})
	}
}

// sweep ends the watching of accounts that nobody has read for a while.
func (w *watching) sweep() {
	for {
		select {
		case <-w.stopped:
			return
		case <-time.After(w.c.idle / 10):
		}
		w.sweepOnce(time.Now().Add(-w.c.idle))
	}
}

func (w *watching) sweepOnce(before time.Time) {
	w.sending.Lock()
	defer w.sending.Unlock()
	w.mu.RLock()
	s := w.stream
	w.mu.RUnlock()
	old := w.drop(func(e *watchedAccount) bool { return e.acked && e.on == s && e.read.Load() < before.UnixNano() })
	if len(old) == 0 {
		return
	}
	request := &remotepb.WatchRequest{}
	for _, a := range old {
		request.Remove = append(request.Remove, uint32(a))
	}
	timer := time.AfterFunc(w.c.try, s.end)
	defer timer.Stop()
	if s.Send(request) != nil {
		s.end()
	}
}
