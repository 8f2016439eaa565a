package remote

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"mailraft/raftstore/remote/remotepb"
)

// ReadIndex returns nil once every later read shows everything that any node acknowledged before the call, and what changed in the accounts
// that are watched was emitted. Errors hold EIO, also when the replica can't learn what was acknowledged, as its group has no quorum, or
// ETIMEDOUT.
func (c *Client) ReadIndex(ctx context.Context) error {
	return c.syncs.join(ctx, c, func(r *round) { r.readIndex = true })
}

// Heard returns nil once every later read shows what was applied at index, and what changed up to there in the accounts that are watched was
// emitted. Errors as ReadIndex's.
func (c *Client) Heard(ctx context.Context, index uint64) error {
	c.Seen(index)
	if c.watch.hasHeard(index) {
		return nil
	}
	return c.syncs.join(ctx, c, func(r *round) { r.index = max(r.index, index) })
}

// PeerDown is told that a node does not answer: what is asked of it is asked of another.
func (c *Client) PeerDown(node string) {
	c.mu.Lock()
	asked := c.current != nil && c.current.node == node
	c.mu.Unlock()
	c.watch.mu.RLock()
	s := c.watch.stream
	c.watch.mu.RUnlock()
	if asked || s != nil && s.node == node {
		c.Leave()
	}
}

// Leave has another replica read from now on, as the one that is asked has been cut off from the others.
func (c *Client) Leave() {
	c.watch.mu.RLock()
	s := c.watch.stream
	c.watch.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.left, c.leftAt, c.current = c.current.node, time.Now(), nil
	}
	if s != nil {
		c.left, c.leftAt = s.node, time.Now()
		s.end()
	}
}

// syncs has those who ask at once share an answer. Who comes after a round began waits for the next: what it finds out may be older than
// the question.
type syncs struct {
	mu   sync.Mutex // held for a few assignments
	now  *round
	next *round
}

type round struct {
	readIndex bool
	index     uint64
	done      chan struct{}
	err       error
}

func (s *syncs) join(ctx context.Context, c *Client, want func(*round)) error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &round{done: make(chan struct{})}
	}
	mine := s.next
	want(mine)
	if s.now == nil {
		s.now, s.next = mine, nil
		if !c.watch.goOn(func() { s.run(c, mine) }) {
			s.now = nil
			s.mu.Unlock()
			return fmt.Errorf("shard %d: %w: %w", c.shard, errClosed, syscall.EIO)
		}
	}
	s.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return fmt.Errorf("shard %d: %w: %w", c.shard, ctx.Err(), syscall.ETIMEDOUT)
	}
}

func (s *syncs) run(c *Client, now *round) {
	for now != nil {
		ctx, cancel := context.WithTimeout(context.Background(), c.limit)
		now.err = c.call(ctx, func(_ context.Context, r *replica) error { return c.watch.sync(ctx, r, now) })
		cancel()
		close(now.done)
		s.mu.Lock()
		now, s.next = s.next, nil
		s.now = now
		s.mu.Unlock()
	}
}

// hasHeard tells whether all up to index was emitted that is to be: also when nothing is watched.
func (w *watching) hasHeard(index uint64) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.stream == nil || !w.stream.over && w.stream.heard >= index
}

// goOn runs fn unless the client is closed, which waits for it.
func (w *watching) goOn(fn func()) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return false
	}
	w.done.Go(fn)
	return true
}

// sync asks the replica at the other end of the stream, or r over a new one, and waits for its answer.
func (w *watching) sync(ctx context.Context, r *replica, round *round) error {
	answer, s, id, err := w.ask(ctx, r, round)
	if err != nil {
		return err
	}
	select {
	case err = <-answer:
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-w.stopped:
		err = errClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(s.syncs, id)
	return err
}

func (w *watching) ask(ctx context.Context, r *replica, round *round) (<-chan error, *watchStream, uint64, error) {
	w.sending.Lock()
	defer w.sending.Unlock()
	w.mu.RLock()
	s, closed := w.stream, w.closed
	w.mu.RUnlock()
	request := &remotepb.WatchRequest{}
	switch {
	case closed:
		return nil, nil, 0, errClosed
	case s == nil:
		var err error
		if s, err = w.open(ctx, r); err != nil {
			return nil, nil, 0, err
		}
		request.Shard = w.c.shard
	}
	answer := make(chan error, 1)
	w.mu.Lock()
	if s.over {
		w.mu.Unlock()
		return nil, nil, 0, errNotWatched
	}
	s.last++
	id := s.last
	s.syncs[id] = answer
	w.mu.Unlock()
	request.Sync = &remotepb.Sync{Id: id, Index: round.index, ReadIndex: round.readIndex}
	stop := context.AfterFunc(ctx, s.end) // the other end takes nothing
	defer stop()
	if err := s.Send(request); err != nil {
		s.end() // receive answers
	}
	return answer, s, id, nil
}

// unsynced is that the replica has no answer: another would not either, if its group has no quorum.
func unsynced(why string) error { return final{fmt.Errorf("%s: %w", why, syscall.EIO)} }
