package group

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
)

// doubts are the proposals of this replica that got no answer. A forwarded one may be on its way yet, where no barrier of the leader's
// log holds it up.
type doubts struct {
	mu       sync.Mutex // held for a few assignments
	requests map[requestID]*raftpb.Command
}

type requestID struct{ session, sequence uint64 }

// add notes a proposal: what is kept has its id, and does nothing.
func (d *doubts) add(cmd *raftpb.Command) {
	if cmd.Request == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.requests == nil {
		d.requests = map[requestID]*raftpb.Command{}
	}
	r := &raftpb.Request{Session: cmd.Request.Session, Sequence: cmd.Request.Sequence, Floor: cmd.Request.Floor}
	d.requests[requestID{r.Session, r.Sequence}] = &raftpb.Command{Version: cmd.Version, Request: r, Now: cmd.Now}
}

// settled notes that a request was applied: none below its floor will be any more.
func (d *doubts) settled(r *raftpb.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.requests {
		if id.session == r.GetSession() && (id.sequence < r.GetFloor() || id.sequence == r.GetSequence()) {
			delete(d.requests, id)
		}
	}
}

func (d *doubts) all() (list []*raftpb.Command) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, cmd := range d.requests {
		list = append(list, cmd)
	}
	return list
}

// settle proposes what does nothing under the id of each proposal in doubt. If that one was applied, this is its second and is not
// applied; else it has taken the id, and the one in doubt will never be applied.
func (d *doubts) settle(propose func(command []byte) error) error {
	for _, cmd := range d.all() {
		data, err := proto.Marshal(cmd)
		if err != nil {
			return err
		}
		if err := propose(data); err != nil {
			return err
		}
		d.settled(cmd.Request)
	}
	return nil
}

func (g *Group) settle(ctx context.Context) error {
	return g.doubts.settle(func(data []byte) error {
		_, _, err := g.propose(ctx, data)
		return err
	})
}
