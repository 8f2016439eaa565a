package slot

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Gate makes derivations take turns. A turn is DefaultParams.Memory (64 MiB); a record that asks for more takes several
// turns at once. So the derivations of one Gate take at most its turns times 64 MiB together (and what the garbage
// collector has not yet taken back of those before).
//
// Who waits does so as one of a party: a client's host, say. The parties get turns one after the other, however many of each
// wait, so that one which asks for many derivations delays its own, and the others by one each.
type Gate struct {
	turns   int64
	onLeave func()
	onBusy  func(bool)

	mu      sync.Mutex
	free    int64
	busy    bool              // what onBusy was told
	parties map[string]*party // those that wait
	round   []*party          // the same, in the order in which they get their next turn
}

// party is those who wait together, in the order in which they came. It is guarded by Gate.mu.
type party struct {
	name    string
	waiters []*waiter
}

type waiter struct {
	turns int64
	enter chan struct{} // closed when it has them
}

// MaxWaiting is how many derivations may wait for one party.
const MaxWaiting = 32

// NewGate returns a Gate of that many turns; at least one.
func NewGate(turns int) *Gate {
	n := int64(max(1, turns))
	return &Gate{turns: n, free: n, parties: map[string]*party{}}
}

// OnLeave has f called after each turn, with no lock held. Call it before the first Enter.
func (g *Gate) OnLeave(f func()) { g.onLeave = f }

// OnBusy has f called when the first derivation begins, and when none is left: in turns, so f must not call the Gate. Call it before the first
// Enter.
func (g *Gate) OnBusy(f func(busy bool)) { g.onBusy = f }

// tell tells whether there are derivations, if that has changed. The caller holds g.mu.
func (g *Gate) tell() {
	if busy := g.free < g.turns; busy != g.busy {
		g.busy = busy
		if g.onBusy != nil {
			g.onBusy(busy)
		}
	}
}

// Enter waits, as one of the party from, until there is memory for a derivation with p; leave gives it back, once. The party ""
// is this node itself, of which as many may wait as come.
//
// Errors: ctx's; ErrBusy when too many of the party wait; ErrParams when the parameters are not served, or need more than all of
// the Gate's turns.
func (g *Gate) Enter(ctx context.Context, from string, p Params) (leave func(), err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	n := (int64(p.Memory) + int64(DefaultParams.Memory) - 1) / int64(DefaultParams.Memory)
	if n > g.turns {
		return nil, fmt.Errorf("%w: m=%d KiB, more than this node grants", ErrParams, p.Memory)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, err := g.line(from, n)
	if err != nil {
		return nil, err
	}
	select {
	case <-w.enter:
		return func() { g.leave(n) }, nil
	case <-ctx.Done():
	}
	if !g.giveUp(from, w) { // it got its turn meanwhile
		g.leave(n)
	}
	return nil, ctx.Err()
}

// line takes a place in the line, which may be its head.
func (g *Gate) line(from string, turns int64) (*waiter, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.parties[from]
	if p == nil {
		p = &party{name: from}
		g.parties[from] = p
		g.round = append(g.round, p)
	}
	if from != "" && len(p.waiters) >= MaxWaiting {
		return nil, fmt.Errorf("%w: %d already", ErrBusy, len(p.waiters))
	}
	w := &waiter{turns, make(chan struct{})}
	p.waiters = append(p.waiters, w)
	g.admit()
	g.tell()
	return w, nil
}

// admit lets in whoever is next, as long as there is memory. The caller holds g.mu.
func (g *Gate) admit() {
	for len(g.round) > 0 {
		p := g.round[0]
		w := p.waiters[0]
		if w.turns > g.free {
			return // nobody overtakes it, or it might wait for ever
		}
		g.free -= w.turns
		close(w.enter)
		p.waiters = p.waiters[1:]
		g.round = g.round[1:]
		if len(p.waiters) > 0 {
			g.round = append(g.round, p)
		} else {
			delete(g.parties, p.name)
		}
	}
}

// giveUp takes w out of the line, and says whether it was still in it.
func (g *Gate) giveUp(from string, w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.parties[from]
	if p == nil {
		return false
	}
	i := slices.Index(p.waiters, w)
	if i < 0 {
		return false
	}
	p.waiters = slices.Delete(p.waiters, i, i+1)
	if len(p.waiters) == 0 {
		delete(g.parties, from)
		g.round = slices.DeleteFunc(g.round, func(o *party) bool { return o == p })
	}
	g.admit() // those behind it may need less
	g.tell()
	return true
}

func (g *Gate) leave(turns int64) {
	g.mu.Lock()
	g.free += turns
	g.admit()
	g.tell()
	g.mu.Unlock()
	if g.onLeave != nil {
		g.onLeave()
	}
}
