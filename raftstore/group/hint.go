package group

import (
	"sync"

	"github.com/hashicorp/raft"
)

// Hint says what is committed. Raft's leader tells its followers with the next entries, or when commitTimeout is over; a hint at once, and
// again with heartbeats.
type Hint struct {
	Term      uint64 // the sender's, who led in it
	Index     uint64 // of an entry that is committed
	EntryTerm uint64 // of the entry there; 0: not known, and nothing is handed in
}

// hints are those to be sent and those that came.
type hints struct {
	mu   sync.Mutex // held for a few assignments
	told Hint       // Index and EntryTerm of the last entry that the state machine was given
	came Hint       // the newest
	from string
	tell chan struct{} // there is something to be sent
	wake chan struct{} // the one that came may fit now
}

func (h *hints) init() { h.tell, h.wake = make(chan struct{}, 1), make(chan struct{}, 1) }

func (h *hints) committed(l *raft.Log) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = Hint{Index: l.Index, EntryTerm: l.Term}
	signal(h.tell)
}

// sent is what the leader of a term tells.
func (h *hints) sent(term uint64) Hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Hint{term, h.told.Index, h.told.EntryTerm}
}

func (h *hints) look() { signal(h.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is signalled already
	}
}

// TakeHint takes in what the node says is committed. It does not wait; a hint that does not fit, or not any more, does nothing.
func (g *Group) TakeHint(from string, h Hint) {
	if h.EntryTerm == 0 {
		return
	}
	q := &g.hints
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case h.Term > q.came.Term || h.Term == q.came.Term && h.Index > q.came.Index:
		q.came, q.from = h, from
	case h != q.came || from != q.from:
		return
	}
	if g.raft.CommitIndex() < h.Index { // also one that came before: perhaps it did not fit then
		signal(q.wake)
	}
}

// hint is what this replica may tell as its term's leader: what it is handed in as would name a wrong one, if it led in another.
func (g *Group) hint() Hint {
	term := g.raft.CurrentTerm()
	h := g.hints.sent(term)
	if g.raft.State() != raft.Leader || g.raft.CurrentTerm() != term {
		h.EntryTerm = 0
	}
	return h
}

// tellOthers sends the other servers, while this replica leads, what it has applied.
func (g *Group) tellOthers() {
	for {
		select {
		case <-g.hints.tell:
		case <-g.stop:
			return
		}
		h := g.hint()
		if g.cfg.Peers == nil || h.EntryTerm == 0 {
			continue
		}
		for _, s := range g.raft.GetConfiguration().Configuration().Servers {
			if string(s.ID) != g.cfg.NodeID {
				g.cfg.Peers.Hint(string(s.ID), h)
			}
		}
	}
}

// handIn gives Raft the hints that came, each once its entry is in the log here.
func (g *Group) handIn() {
	for {
		select {
		case <-g.hints.wake:
		case <-g.stop:
			return
		}
		g.hints.mu.Lock()
		h, from := g.hints.came, g.hints.from
		g.hints.mu.Unlock()
		last, err := g.logs.LastIndex()
		if err != nil || last < h.Index || g.raft.CommitIndex() >= h.Index {
			continue
		}
		g.handInOne(h, from)
	}
}

// handInOne has Raft learn of a hint by an AppendEntries without entries, as its leader sends it when nothing is to be sent. Raft
// compares the entry's term, so what is taken for committed is the sender's entry: a hint that is late or doubled does no harm. But the
// message would raise the term and set the leader before that, and depose a leader of its own term: hence the conditions.
func (g *Group) handInOne(h Hint, from string) {
	address, leader := g.raft.LeaderWithID()
	if h.Term != g.raft.CurrentTerm() || string(leader) != from || from == g.cfg.NodeID || g.raft.State() == raft.Leader {
		return
	}
	req := &raft.AppendEntriesRequest{
		RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader), Addr: []byte(address)},
		Term:         h.Term,
		PrevLogEntry: h.Index, PrevLogTerm: h.EntryTerm, LeaderCommitIndex: h.Index,
	}
	forge(req)
	if err := g.transport.say(req); err != nil {
		g.log.Debug("handing in what is committed", "error", err)
	}
}

// forge is replaced by a test, which shows that it sees what comes of a wrong message.
var forge = func(*raft.AppendEntriesRequest) {}
