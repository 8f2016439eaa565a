package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/group"
	"mailraft/raftstore/peerpb"
	"mailraft/raftstore/transport"
)

// Heartbeats wait for others of this node's groups to the same node: raft sends each every 100 to 200 ms, and would take a leader for lost
// after a second without.
const (
	heartbeatWait = 150 * time.Millisecond
	heartbeatTime = time.Second // for an answer
)

// heartbeats are a node's, of all groups that it leads: it is the group.Heartbeats.
type heartbeats struct {
	store *Store
	mu    sync.Mutex            // held for a few assignments
	next  map[string]*heartbeat // to each node
}

// heartbeat is what goes to a node at once.
type heartbeat struct {
	beats   []*peerpb.Beat
	done    chan struct{}
	replies []*peerpb.BeatReply // when done is closed
	err     error
}

// Send implements group.Heartbeats.
func (h *heartbeats) Send(now <-chan struct{}, node, name string, term uint64, committed group.Hint) (uint64, bool, error) {
	h.mu.Lock()
	x := h.next[node]
	if x == nil {
		x = &heartbeat{done: make(chan struct{})}
		if h.next == nil {
			h.next = map[string]*heartbeat{}
		}
		h.next[node] = x
		go h.send(node, x)
	}
	number := len(x.beats)
	x.beats = append(x.beats, &peerpb.Beat{Group: name, Term: term, Index: committed.Index, EntryTerm: committed.EntryTerm})
	h.mu.Unlock()
	select {
	case <-x.done:
	case <-now: // it may be sent all the same, which does no harm
		return 0, false, group.ErrAlone
	}
	if x.err != nil {
		return 0, false, x.err
	}
	r := x.replies[number]
	if r.Error != "" {
		return 0, false, errors.New(r.Error)
	}
	return r.Term, r.Success, nil
}

func (h *heartbeats) send(node string, x *heartbeat) {
	defer close(x.done)
	wait := time.NewTimer(heartbeatWait)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-h.store.life.Done():
	}
	h.mu.Lock()
	delete(h.next, node)
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(h.store.life, heartbeatTime)
	defer cancel()
	c, err := h.store.peer(node)
	if err == nil {
		var reply *peerpb.HeartbeatReply
		reply, err = c.Heartbeat(ctx, &peerpb.HeartbeatRequest{Beats: x.beats})
		x.replies = reply.GetReplies()
	}
	switch {
	case status.Code(err) == codes.Unimplemented: // an older program
		x.err = group.ErrAlone
	case err != nil:
		x.err = err
	case len(x.replies) != len(x.beats):
		x.err = fmt.Errorf("node %s answered %d of %d heartbeats", node, len(x.replies), len(x.beats))
	}
}

// Heartbeat implements peerpb.PeerServer.
func (s *peerServer) Heartbeat(ctx context.Context, req *peerpb.HeartbeatRequest) (*peerpb.HeartbeatReply, error) {
	from, err := transport.PeerName(ctx)
	if err != nil {
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	reply := new(peerpb.HeartbeatReply)
	for _, b := range req.Beats {
		reply.Replies = append(reply.Replies, s.store.heartbeat(ctx, from, b))
	}
	return reply, nil
}

func (s *Store) heartbeat(ctx context.Context, from string, b *peerpb.Beat) *peerpb.BeatReply {
	g, release, err := s.replica(b.Group)
	if err != nil {
		return &peerpb.BeatReply{Error: status.Convert(err).Message()}
	}
	defer release()
	term, ok, err := g.Heartbeat(ctx, from, b.Term, group.Hint{Term: b.Term, Index: b.Index, EntryTerm: b.EntryTerm})
	if err != nil {
		return &peerpb.BeatReply{Error: err.Error()}
	}
	return &peerpb.BeatReply{Term: term, Success: ok}
}
