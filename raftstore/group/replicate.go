package group

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Three habits of raft's leader would keep a follower that was away behind for long. While a follower does not answer, the leader's pause
// between two tries grows up to ten seconds, however soon it is back: so a try that failed is answered when the follower is. And its pipeline
// sends one batch each time that it is woken, by a new entry or by CommitTimeout, whatever the follower lacks beside: so that goes along with
// the batch, and one that lacks more than two is sent it without the pipeline, batch after batch. And when the pipeline's reader stops, at an
// answer that refuses, its writer may wait for room for ever: so the pipeline ends with that answer.

// replication is what this replica, when it leads, knows of the others.
type replication struct {
	mu    sync.Mutex // held for a map operation
	has   map[raft.ServerID]uint64
	downs map[raft.ServerID]chan struct{} // closed when the node is up; none: it is
	isUp  func(node string) bool          // asks who pings
}

// took notes the index that a follower has entries up to.
func (r *replication) took(id raft.ServerID, index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has == nil {
		r.has = map[raft.ServerID]uint64{}
	}
	r.has[id] = index
}

func (r *replication) hasUpTo(id raft.ServerID) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has[id]
}

func (r *replication) down(id raft.ServerID, isUp func(node string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isUp = isUp
	if r.downs == nil {
		r.downs = map[raft.ServerID]chan struct{}{}
	}
	if r.downs[id] == nil {
		r.downs[id] = make(chan struct{})
	}
}

func (r *replication) up(id raft.ServerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if down := r.downs[id]; down != nil {
		close(down)
		delete(r.downs, id)
	}
}

// whileDown is closed when the node is up; nil if it is.
func (r *replication) whileDown(id raft.ServerID) (up <-chan struct{}, isUp func(node string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.downs[id], r.isUp
}

// PeerUp is told that a node answers again, or for the first time.
func (g *Group) PeerUp(node string) { g.replication.up(raft.ServerID(node)) }

// awaitUp waits, while this replica leads in that term, until a node is not known to be down.
func (t *transport) awaitUp(id raft.ServerID, term uint64) {
	up, isUp := t.g.replication.whileDown(id)
	if up == nil {
		return
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for t.g.raft.State() == raft.Leader && t.g.raft.CurrentTerm() == term && !isUp(string(id)) {
		select {
		case <-up:
			return
		case <-t.g.life.Done():
			return
		case <-look.C:
		}
	}
}

// lastOf is the index of the last entry that a message brings, or follows.
func lastOf(req *raft.AppendEntriesRequest) uint64 {
	return req.PrevLogEntry + uint64(len(req.Entries))
}

// isHeartbeat tells heartbeats, which say nothing of entries, from what replicates.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.LeaderCommitIndex == 0
}

// isBehind tells whether a follower that has entries up to an index lacks more than a batch.
func (t *transport) isBehind(index uint64) bool {
	last, err := t.g.logs.LastIndex()
	return err == nil && last > index+maxBatch
}

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.isBehind(t.g.replication.hasUpTo(id)) {
		return nil, raft.ErrPipelineReplicationNotSupported // for now: Raft goes on without, and asks again after that
	}
	p, err := t.Transport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	x := &pipeline{AppendPipeline: p, t: t, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	x.end = sync.OnceValue(func() error {
		close(x.closed)
		return p.Close()
	})
	x.forget = context.AfterFunc(t.g.life, func() { x.end() })
	go x.forward()
	return x, nil
}

// pipeline ends when it falls behind, and with the answer after which Raft reads no more: else who sends would wait for ever for room, and with him
// the follower, and whoever closes the replica.
type pipeline struct {
	raft.AppendPipeline
	t       *transport
	answers chan raft.AppendFuture
	closed  chan struct{}
	end     func() error
	forget  func() bool
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.forget()
	return p.end()
}

// forward hands the answers to Raft, to the last that it reads.
func (p *pipeline) forward() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			last := !f.Response().Success || f.Response().Term > f.Request().Term
			select {
			case p.answers <- f:
			case <-p.closed:
				return
			}
			if last {
				p.end()
				return
			}
		case <-p.closed:
			return
		}
	}
}

var errBehind = errors.New("the follower lacks more than the pipeline sends")

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.t.holdBack(req)
	if p.t.isBehind(lastOf(req)) {
		return nil, errBehind
	}
	if len(req.Entries) == maxBatch {
		if err := p.t.addRest(req); err != nil {
			return nil, err
		}
	}
	return p.AppendPipeline.AppendEntries(req, resp)
}

// addRest adds what else Raft has to what it sends.
func (t *transport) addRest(req *raft.AppendEntriesRequest) error {
	for index, last := lastOf(req)+1, t.g.raft.LastIndex(); index <= last; index++ {
		e := new(raft.Log)
		if err := t.g.logs.GetLog(index, e); err != nil {
			return err
		}
		req.Entries = append(req.Entries, e)
	}
	return nil
}
