package group

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"
)

// A leader of many groups would send each follower of each group heartbeats of its own. They can wait a little for one another, and then go from
// node to node together (Heartbeats). Only those that a reader waits for (quorum.go) go at once, by the group's own connection. Those that go
// together also say what is committed: a hint (hint.go) may have been lost, or have come to a replica that did not know its leader yet.

// Heartbeats sends the heartbeats of all groups of a node.
type Heartbeats interface {
	// Send has a heartbeat of a group's leader in a term go to a node, together with others that come soon, and what is committed. It answers
	// what Heartbeat does there; ErrAlone when it was not sent, because now was closed first or the node does not take them together.
	Send(now <-chan struct{}, node, group string, term uint64, committed Hint) (answer uint64, ok bool, err error)
}

// ErrAlone says that a heartbeat has to go alone.
var ErrAlone = errors.New("heartbeat goes alone")

// beat sends a heartbeat together with other groups', unless a reader waits for it: ErrAlone.
func (t *transport) beat(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.g.cfg.Heartbeats == nil || !isHeartbeat(req) {
		return ErrAlone
	}
	wanted := t.g.acks.wanted()
	select {
	case <-wanted:
		return ErrAlone
	default:
	}
	term, ok, err := t.g.cfg.Heartbeats.Send(wanted, string(id), t.g.cfg.Name, req.Term, t.g.hint())
	if err == nil {
		*resp = raft.AppendEntriesResponse{Term: term, Success: ok}
	}
	return err
}

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(fn func(raft.RPC)) {
	t.heartbeat.Store(&fn)
	t.Transport.SetHeartbeatHandler(fn)
}

// Heartbeat takes a heartbeat that a node sent as the group's leader in a term, with what is committed, and answers this replica's term and
// whether it follows.
func (g *Group) Heartbeat(ctx context.Context, leader string, term uint64, committed Hint) (uint64, bool, error) {
	handle := g.transport.heartbeat.Load()
	if handle == nil { // Raft has not begun yet
		return 0, false, ErrNoLeader
	}
	if err := g.Err(); err != nil {
		return 0, false, err
	}
	answer := make(chan raft.RPCResponse, 1)
	(*handle)(raft.RPC{RespChan: answer, Command: &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader), Addr: []byte(leader)}, Term: term,
	}})
	select {
	case a := <-answer:
		if r, ok := a.Response.(*raft.AppendEntriesResponse); ok && a.Error == nil {
			if r.Success {
				g.TakeHint(leader, committed)
			}
			return r.Term, r.Success, nil
		}
		return 0, false, a.Error
	case <-ctx.Done():
		return 0, false, ctx.Err()
	case <-g.life.Done(): // Raft answers nothing when it has ended
		return 0, false, ErrClosed
	}
}
