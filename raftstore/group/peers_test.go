package group

import (
	"context"
	"sync"

	"mailraft/raftstore/machine"
)

// links are the ways between the replicas of a test, beside Raft's own.
type links struct {
	mu    sync.Mutex
	nodes map[string]*Group
	cut   map[[2]string]bool
	hints func(from, to string, h Hint) (drop bool)

	answers chan struct{} // what was proposed is answered when it is closed; nil: at once
}

func (l *links) add(node string, g *Group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes == nil {
		l.nodes, l.cut = map[string]*Group{}, map[[2]string]bool{}
	}
	l.nodes[node] = g
}

func (l *links) setCut(a, b string, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[[2]string{a, b}], l.cut[[2]string{b, a}] = cut, cut
}

func (l *links) to(from, node string) *Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut[[2]string{from, node}] {
		return nil
	}
	return l.nodes[node]
}

// peers asks the other groups of a cluster. A link that is cut while an answer is under way loses it.
type peers struct {
	c    *cluster
	node string
}

func (p peers) Propose(ctx context.Context, node string, command []byte) (machine.Result, Hint, error) {
	g := p.c.links.to(p.node, node)
	if g == nil {
		return machine.Result{}, Hint{}, ErrNoLeader
	}
	r, h, err := g.ProposeHere(ctx, command)
	if hold := p.c.links.answers; hold != nil {
		<-hold
	}
	if p.c.links.to(p.node, node) != g {
		return machine.Result{}, Hint{}, ErrUncertain
	}
	return r, h, err
}

func (p peers) ReadIndex(ctx context.Context, node string) (Hint, error) {
	g := p.c.links.to(p.node, node)
	if g == nil {
		return Hint{}, ErrNoLeader
	}
	h, err := g.ReadIndexHere(ctx)
	if p.c.links.to(p.node, node) != g {
		return Hint{}, ErrUncertain
	}
	return h, err
}

func (p peers) Kept(_ context.Context, node string) (map[string]Sum, error) {
	g := p.c.links.to(p.node, node)
	if g == nil {
		return nil, ErrNoLeader
	}
	return g.Kept()
}

func (p peers) Hint(node string, h Hint) {
	p.c.links.mu.Lock()
	hook := p.c.links.hints
	p.c.links.mu.Unlock()
	if hook != nil && hook(p.node, node, h) {
		return
	}
	if g := p.c.links.to(p.node, node); g != nil {
		g.TakeHint(p.node, h)
	}
}
