package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ReadIndex waits until this replica's state shows everything that was committed before the call, and so all that anybody was told is
// done: one that does not lead asks the leader up to where that is. Errors as Propose's.
//
// It appends nothing to the log (Ongaro's thesis, 6.4), but for the first in a leader's term: not before an entry of its own term is
// committed does a leader know what is.
func (g *Group) ReadIndex(ctx context.Context) error {
	for begin := time.Now(); ; {
		l, err := g.findLeader(ctx)
		if err != nil {
			return err
		}
		var h Hint
		if l.here {
			// Alone nobody else can acknowledge anything, and what this replica acknowledges in its term it has applied.
			if c := g.raft.GetConfiguration().Configuration(); len(c.Servers) == 1 && g.readTerm.Load() == l.term {
				return nil
			}
			h, err = g.ReadIndexHere(ctx)
		} else {
			h, err = g.asking.join(ctx, g, func(ctx context.Context) (Hint, error) { return g.askLeader(ctx, l) })
		}
		switch {
		case err == nil:
			return g.passed.wait(ctx, g, h.Index)
		case !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrUncertain):
			return err
		case time.Since(begin) > commitPatience:
			return ErrNoLeader
		}
		g.pause(ctx)
	}
}

// askLeader has the leader say up to where one has to have applied.
func (g *Group) askLeader(ctx context.Context, l leader) (Hint, error) {
	ctx, cancel := g.whileLeads(ctx, l)
	defer cancel()
	h, err := g.cfg.Peers.ReadIndex(ctx, l.node)
	if err != nil {
		g.role.failed(l)
		return h, fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	g.role.answered(l)
	g.TakeHint(l.node, h)
	return h, nil
}

// ReadIndexHere answers, on the leader, up to where a replica has to have applied to show all that was acknowledged before the call.
// This one has. Errors: ErrNoLeader when this one does not lead, else Propose's.
func (g *Group) ReadIndexHere(ctx context.Context) (Hint, error) {
	if err := g.leadsHere(ctx); err != nil {
		return Hint{}, err
	}
	h, err := g.verifying.join(ctx, g, g.verify)
	if err == nil {
		err = g.passed.wait(ctx, g, h.Index)
	}
	if err != nil {
		return Hint{}, err
	}
	return g.hints.sent(h.Term), nil // the others are not told of entries that hold nothing: up to the last that does
}

// verify answers what is committed, and makes sure that this replica still led its term after that.
func (g *Group) verify(ctx context.Context) (Hint, error) {
	term := g.raft.CurrentTerm()
	if g.raft.State() != raft.Leader {
		return Hint{}, ErrNoLeader
	}
	if g.readTerm.Load() != term {
		if err := g.await(ctx, g.barrier(ctx).Error); err != nil {
			return Hint{}, err
		}
		if g.raft.CurrentTerm() != term {
			return Hint{}, ErrNoLeader
		}
		g.readTerm.Store(term)
	}
	index := g.raft.CommitIndex()
	if err := g.verifyQuorum(ctx, term); err != nil {
		return Hint{}, err
	}
	return Hint{Term: term, Index: index}, nil
}

// rounds has those who ask at once share an answer. Who comes after a round began waits for the next: what it finds out may be older
// than the question.
type rounds struct {
	mu   sync.Mutex // held for a few assignments
	now  *round
	next *round
}

type round struct {
	ask  func(context.Context) (Hint, error)
	done chan struct{}
	h    Hint
	err  error
}

func (r *rounds) join(ctx context.Context, g *Group, ask func(context.Context) (Hint, error)) (Hint, error) {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	mine := r.next
	mine.ask = ask // the newest knows the leader best
	if r.now == nil {
		r.now, r.next = mine, nil
		g.done.Go(func() { r.run(g, mine) })
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.h, mine.err
	case <-g.failed:
		return Hint{}, g.Err()
	case <-g.stop:
		return Hint{}, ErrClosed
	case <-ctx.Done():
		return Hint{}, g.explain(ctx.Err())
	}
}

func (r *rounds) run(g *Group, now *round) {
	for now != nil {
		ctx, cancel := context.WithTimeout(g.life, commitPatience)
		now.h, now.err = now.ask(ctx)
		if ctx.Err() != nil && now.err != nil {
			now.err = fmt.Errorf("%w: %w", ErrNoLeader, now.err)
		}
		cancel()
		close(now.done)
		r.mu.Lock()
		now, r.next = r.next, nil
		r.now = now
		r.mu.Unlock()
	}
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

func (w *watermark) now() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
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
