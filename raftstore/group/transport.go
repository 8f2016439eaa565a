package group

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// transport is the raft.Transport of a group: it notes who answers the leader, and takes in what this replica says to itself.
type transport struct {
	raft.Transport
	g    *Group
	rpcs chan raft.RPC

	heartbeat atomic.Pointer[func(raft.RPC)] // takes a heartbeat, beside what else Raft does
	arrivals  arrivals
}

func newTransport(g *Group, to raft.Transport) *transport {
	t := &transport{Transport: to, g: g, rpcs: make(chan raft.RPC)}
	g.handing.Go(func() {
		for {
			select {
			case rpc := <-to.Consumer():
				if err := g.refuses(rpc); err != nil {
					rpc.Respond(nil, err)
					continue
				}
				if req, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
					g.handing.Go(func() { t.arrive(rpc, *req) })
					continue
				}
				t.hand(rpc)
			case <-g.life.Done():
				return
			}
		}
	})
	return t
}

// hand gives Raft a message, as if it had come from outside.
func (t *transport) hand(rpc raft.RPC) bool {
	select {
	case t.rpcs <- rpc:
		return true
	case <-t.g.life.Done():
		return false
	}
}

// say gives Raft a message and waits for its answer.
func (t *transport) say(command any) error { return t.ask(command, nil).Error }

// ask is say of a message with what follows it.
func (t *transport) ask(command any, r io.Reader) raft.RPCResponse {
	answer := make(chan raft.RPCResponse, 1)
	if !t.hand(raft.RPC{Command: command, Reader: r, RespChan: answer}) {
		return raft.RPCResponse{Error: ErrClosed}
	}
	select {
	case r := <-answer:
		return r
	case <-t.g.failed:
		return raft.RPCResponse{Error: t.g.Err()}
	case <-t.g.life.Done():
		return raft.RPCResponse{Error: ErrClosed}
	}
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

// AppendEntries implements raft.Transport. Heartbeats come here, and what is not pipelined.
func (t *transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.beat(id, req, resp); !errors.Is(err, ErrAlone) {
		return err
	}
	t.holdBack(req)
	round := t.g.acks.now()
	err := t.Transport.AppendEntries(id, to, req, resp)
	if err == nil && resp.Term == req.Term {
		t.g.acks.note(id, req.Term, round)
	}
	switch {
	case isHeartbeat(req):
	case err != nil:
		t.awaitUp(id, req.Term)
	case resp.Success:
		t.g.replication.took(id, lastOf(req))
	}
	return err
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if p, ok := t.Transport.(raft.WithPreVote); ok {
		return p.RequestPreVote(id, to, req, resp)
	}
	return errors.New("transport knows no pre-vote")
}

// Close implements raft.WithClose.
func (t *transport) Close() error {
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
