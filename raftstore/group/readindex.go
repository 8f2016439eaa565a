package group

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// ReadIndex waits until this replica's state shows everything that was committed before the call, and so all that anybody was told is
// done. Errors as Propose's.
//
// It appends nothing to the log (Ongaro's thesis, 6.4), but for the first in a leader's term: not before an entry of its own term is
// committed does a leader know what is.
func (g *Group) ReadIndex(ctx context.Context) error {
	if err := g.lead(ctx, leaderPatience); err != nil {
		return err
	}
	// With one voter nobody else can have acknowledged anything, and what this replica acknowledged it had applied.
	if c := g.raft.GetConfiguration().Configuration(); len(c.Servers) == 1 {
		return nil
	}
	term := g.raft.CurrentTerm()
	if g.readTerm.Load() != term {
		if err := g.Barrier(ctx); err != nil {
			return err
		}
		g.readTerm.Store(term)
	}
	index := g.raft.CommitIndex()
	if err := g.await(ctx, g.raft.VerifyLeader()); err != nil { // all that ask at once share a round of heartbeats
		return err
	}
	if g.raft.CurrentTerm() != term {
		return ErrNoLeader
	}
	return g.passed.wait(ctx, g, index)
}

// watermark is an index that only rises, and that can be waited for.
type watermark struct {
	mu    sync.Mutex // held for a few assignments
	at    uint64
	risen chan struct{} // closed when it rises; nil: nobody waits
}

func (w *watermark) raise(to uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if to <= w.at {
		return
	}
	w.at = to
	if w.risen != nil {
		close(w.risen)
		w.risen = nil
	}
}

func (w *watermark) wait(ctx context.Context, g *Group, index uint64) error {
	for {
		w.mu.Lock()
		if w.at >= index {
			w.mu.Unlock()
			return g.Err()
		}
		if w.risen == nil {
			w.risen = make(chan struct{})
		}
		risen := w.risen
		w.mu.Unlock()
		select {
		case <-risen:
		case <-g.failed:
			return g.Err()
		case <-g.stop:
			return ErrClosed
		case <-ctx.Done():
			return g.explain(ctx.Err())
		}
	}
}

// barrier is Raft's, which has applied here what was committed before it.
func (g *Group) barrier(ctx context.Context) raft.Future {
	return passing{g.raft.Barrier(enqueueTime(ctx)), &g.passed}
}

// passing notes that the state machine, which is not told of entries that are no commands, has come to this one.
type passing struct {
	raft.Future
	passed *watermark
}

// Error implements raft.Future.
func (p passing) Error() error {
	err := p.Future.Error()
	if f, ok := p.Future.(raft.IndexFuture); ok && err == nil {
		p.passed.raise(f.Index())
	}
	return err
}
