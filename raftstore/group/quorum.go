package group

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// acks are who has answered this replica as its leader, and since when. raft.VerifyLeader is not enough for readers: an answer counts
// there that a follower gave before the question, and voted for another since; and one of a replica that has no vote.
type acks struct {
	mu    sync.Mutex // held for a few assignments
	round uint64     // counts the questions
	by    map[raft.ServerID]ack
	moved chan struct{} // closed at the next answer; nil: nobody waits

	readers int           // who wait for answers to a question
	want    chan struct{} // closed while there are
}

// ack is that a server was in a term after the round had begun: it had voted in no later one.
type ack struct{ term, round uint64 }

// now is the round in which a message to a follower begins.
func (a *acks) now() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.round
}

// begin has a question asked; end is to be called when it is answered.
func (a *acks) begin() (round uint64, end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.round++
	if a.readers++; a.readers == 1 {
		close(a.wants())
	}
	return a.round, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.readers--; a.readers == 0 {
			a.want = nil
		}
	}
}

// wanted is closed while somebody waits for an answer.
func (a *acks) wanted() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wants()
}

func (a *acks) wants() chan struct{} {
	if a.want == nil {
		a.want = make(chan struct{})
	}
	return a.want
}

func (a *acks) note(id raft.ServerID, term, round uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[raft.ServerID]ack{}
	}
	if last := a.by[id]; term < last.term || term == last.term && round <= last.round {
		return
	}
	a.by[id] = ack{term, round}
	if a.moved != nil {
		close(a.moved)
		a.moved = nil
	}
}

// quorum tells whether most voters answered in the term since the round began, this replica, which does always, among them.
func (a *acks) quorum(c raft.Configuration, self raft.ServerID, term, round uint64) (bool, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	voters, have := 0, 0
	for _, s := range c.Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if by := a.by[s.ID]; s.ID == self || by.term == term && by.round >= round {
			have++
		}
	}
	if a.moved == nil {
		a.moved = make(chan struct{})
	}
	return have > voters/2, a.moved
}

// verifyQuorum returns nil once most voters, asked after it was called, have said that they know no later term.
func (g *Group) verifyQuorum(ctx context.Context, term uint64) error {
	round, end := g.acks.begin()
	defer end()
	if err := g.await(ctx, func() error { return g.raft.VerifyLeader().Error() }); err != nil { // has each follower sent a heartbeat that begins now
		return err
	}
	for {
		_, _, _, changed := g.role.now()
		ok, moved := g.acks.quorum(g.raft.GetConfiguration().Configuration(), raft.ServerID(g.cfg.NodeID), term, round)
		if g.raft.State() != raft.Leader || g.raft.CurrentTerm() != term {
			return ErrNoLeader
		}
		if ok {
			return nil
		}
		select {
		case <-moved:
		case <-changed:
		case <-g.failed:
			return g.Err()
		case <-g.stop:
			return ErrClosed
		case <-ctx.Done():
			return g.explain(ctx.Err())
		}
	}
}
