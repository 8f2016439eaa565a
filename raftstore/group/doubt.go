package group

import (
	"errors"
	"sync"
	"syscall"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/machine"
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
func (d *doubts) settle(propose proposing) error {
	for _, cmd := range d.all() {
		data, err := proto.Marshal(cmd)
		if err != nil {
			return err
		}
		if _, _, err := propose(cmd.Request, data); err != nil {
			return err
		}
		d.settled(cmd.Request)
	}
	return nil
}

// proposing proposes a marshalled command under its request id, and also tells whether some leader may have got it.
type proposing func(id *raftpb.Request, command []byte) (r machine.Result, sent bool, err error)

// propose has a command proposed, and keeps it in mind if it got no answer.
func (d *doubts) propose(cmd *raftpb.Command, propose proposing) (machine.Result, error) {
	data, err := proto.Marshal(cmd)
	if err != nil { // a name that is not UTF-8
		return machine.Result{}, errors.Join(err, syscall.EINVAL)
	}
	r, sent, err := propose(cmd.Request, data)
	switch {
	case err == nil:
		d.settled(cmd.Request)
	case sent:
		d.add(cmd)
	}
	return r, err
}
