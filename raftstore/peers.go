package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/group"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/peerpb"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/transport"
)

// peers asks the replicas of a group on other nodes: it is a group.Peers.
type peers struct {
	store *Store
	group string
}

// askTime is how long the answer of another node may take.
const askTime = 10 * time.Second

// peer reaches another node: ErrNoLeader, as nothing was sent.
func (s *Store) peer(node string) (peerpb.PeerClient, error) {
	conn, err := s.transport.Dial(node)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", group.ErrNoLeader, err)
	}
	return peerpb.NewPeerClient(conn), nil
}

// Propose implements group.Peers.
func (p *peers) Propose(ctx context.Context, node string, command []byte) (machine.Result, group.Hint, error) {
	c, err := p.store.peer(node)
	if err != nil {
		return machine.Result{}, group.Hint{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := c.Propose(ctx, &peerpb.ProposeRequest{Group: p.group, Command: command})
	if err != nil {
		return machine.Result{}, group.Hint{}, fromCode(err, group.ErrUncertain)
	}
	return machine.Result{Index: r.Index, Errno: syscall.Errno(r.Errno), Value: r.Value}, hintFrom(r.Hint), nil
}

// ReadIndex implements group.Peers.
func (p *peers) ReadIndex(ctx context.Context, node string) (group.Hint, error) {
	c, err := p.store.peer(node)
	if err != nil {
		return group.Hint{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	h, err := c.ReadIndex(ctx, &peerpb.GroupRequest{Group: p.group})
	if err != nil {
		return group.Hint{}, fromCode(err, group.ErrNoLeader)
	}
	return hintFrom(h), nil
}

// Kept implements group.Peers.
func (p *peers) Kept(ctx context.Context, node string) (map[string]group.Sum, error) {
	c, err := p.store.peer(node)
	if err != nil {
		return nil, err
	}
	r, err := c.Kept(ctx, &peerpb.GroupRequest{Group: p.group})
	kept := map[string]group.Sum{}
	for _, f := range r.GetFiles() {
		if len(f.Sum) == len(group.Sum{}) {
			kept[f.Name] = group.Sum(f.Sum)
		}
	}
	return kept, err
}

// leader asks a node who leads the group.
func (p *peers) leader(ctx context.Context, node string) (string, error) {
	r, err := p.replica(ctx, node)
	return r.GetLeader(), err
}

// replica asks a node how its replica is.
func (p *peers) replica(ctx context.Context, node string) (*peerpb.ReplicaReply, error) {
	c, err := p.store.peer(node)
	if err != nil {
		return nil, err
	}
	return c.Replica(ctx, &peerpb.GroupRequest{Group: p.group})
}

// members asks the leader who is in the group.
func (p *peers) members(ctx context.Context, leader string) ([]string, error) {
	c, err := p.store.peer(leader)
	if err != nil {
		return nil, err
	}
	r, err := c.Members(ctx, &peerpb.GroupRequest{Group: p.group})
	return r.GetNodes(), err
}

// Hint implements group.Peers.
func (p *peers) Hint(node string, h group.Hint) { p.store.hinters.of(p.store, node).put(p.group, h) }

func hintFrom(h *peerpb.Hint) group.Hint {
	return group.Hint{Term: h.GetTerm(), Index: h.GetIndex(), EntryTerm: h.GetEntryTerm()}
}

func hintOf(name string, h group.Hint) *peerpb.Hint {
	return &peerpb.Hint{Group: name, Term: h.Term, Index: h.Index, EntryTerm: h.EntryTerm}
}

// The errors of a group as codes. What broke the connection says nothing of what became of the question: lost.
var errorCodes = map[codes.Code]error{
	codes.FailedPrecondition: group.ErrNoLeader,
	codes.NotFound:           group.ErrNoLeader,
	codes.Aborted:            group.ErrUncertain,
	codes.ResourceExhausted:  syscall.ENOSPC, // not the state machine's answer: an earlier try may have been committed
}

func fromCode(err, lost error) error {
	code := status.Code(err)
	if known := errorCodes[code]; known != nil {
		return fmt.Errorf("%w: %s", known, status.Convert(err).Message())
	}
	return fmt.Errorf("%w: %w", lost, err)
}

// toCode gives an error of a group its code. Of what was proposed, a replica that broke then may have sent the others something.
func toCode(err error) error {
	code := codes.Aborted
	if errors.Is(err, group.ErrNoLeader) {
		code = codes.FailedPrecondition
	}
	return status.Error(code, err.Error())
}

// peerServer answers the other nodes.
type peerServer struct {
	peerpb.UnimplementedPeerServer
	store *Store
}

// replica finds this node's replica of a group, which is not closed before release is called. The error has a code.
func (s *Store) replica(name string) (g *group.Group, release func(), err error) {
	none := status.Errorf(codes.NotFound, "group %s has no replica on node %s", name, s.cfg.NodeID)
	if name == directoryGroup {
		return s.directory.group, func() {}, nil
	}
	number, ok := strings.CutPrefix(name, shardPrefix)
	id, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil {
		return nil, nil, none
	}
	sh, err := s.shardNumber(uint32(id))
	if err != nil {
		return nil, nil, none
	}
	r, release := sh.useAny()
	if r == nil {
		return nil, nil, none
	}
	return r.group, release, nil
}

// Propose implements peerpb.PeerServer.
func (s *peerServer) Propose(ctx context.Context, req *peerpb.ProposeRequest) (*peerpb.ProposeReply, error) {
	g, release, err := s.store.replica(req.Group)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.store.admitForwarded(req.Command); err != nil && g.Leads() {
		return nil, status.Error(codes.ResourceExhausted, "the disk of node "+s.store.cfg.NodeID+" is full")
	}
	r, h, err := g.ProposeHere(ctx, req.Command)
	if err != nil {
		return nil, toCode(err)
	}
	return &peerpb.ProposeReply{Index: r.Index, Errno: uint32(r.Errno), Value: r.Value, Hint: hintOf(req.Group, h)}, nil
}

// admitForwarded refuses what adds data when this node's disk is almost full.
func (s *Store) admitForwarded(command []byte) error {
	if _, full, err := s.space.free(); err != nil || !full {
		return nil
	}
	cmd := new(raftpb.Command)
	if err := proto.Unmarshal(command, cmd); err != nil {
		return nil // it is refused where it is applied
	}
	return s.admin.admit(cmd)
}

// ReadIndex implements peerpb.PeerServer.
func (s *peerServer) ReadIndex(ctx context.Context, req *peerpb.GroupRequest) (*peerpb.Hint, error) {
	g, release, err := s.store.replica(req.Group)
	if err != nil {
		return nil, err
	}
	defer release()
	h, err := g.ReadIndexHere(ctx)
	if err != nil {
		return nil, toCode(err)
	}
	return hintOf(req.Group, h), nil
}

// Kept implements peerpb.PeerServer.
func (s *peerServer) Kept(_ context.Context, req *peerpb.GroupRequest) (*peerpb.KeptReply, error) {
	g, release, err := s.store.replica(req.Group)
	if err != nil {
		return nil, err
	}
	defer release()
	kept, err := g.Kept()
	if err != nil {
		return nil, toCode(err)
	}
	reply := new(peerpb.KeptReply)
	for name, sum := range kept {
		reply.Files = append(reply.Files, &peerpb.KeptFile{Name: name, Sum: sum[:]})
	}
	return reply, nil
}

// Hints implements peerpb.PeerServer.
func (s *peerServer) Hints(stream grpc.ClientStreamingServer[peerpb.Hint, peerpb.Empty]) error {
	from, err := transport.PeerName(stream.Context())
	if err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	for {
		h, err := stream.Recv()
		if err != nil {
			return nil
		}
		if g, release, err := s.store.replica(h.Group); err == nil {
			g.TakeHint(from, hintFrom(h))
			release()
		}
	}
}

// Replica implements peerpb.PeerServer.
func (s *peerServer) Replica(_ context.Context, req *peerpb.GroupRequest) (*peerpb.ReplicaReply, error) {
	return s.store.describe(req.Group)
}

// describe says how this node's replica of a group is.
func (s *Store) describe(name string) (*peerpb.ReplicaReply, error) {
	g, release, err := s.replica(name)
	if err != nil {
		return nil, err
	}
	defer release()
	r := &peerpb.ReplicaReply{
		Applied: g.Applied(), Member: g.IsMember(), Leader: g.Leader(), Joining: g.IsJoining(), Term: g.Term(),
	}
	if err := g.Err(); err != nil {
		r.Problem = err.Error()
	}
	for _, m := range g.Members() {
		r.Members = append(r.Members, &peerpb.Member{Node: m.Node, Voter: m.Voter})
	}
	return r, nil
}

// SplitLeaders implements peerpb.PeerServer.
func (s *peerServer) SplitLeaders(context.Context, *peerpb.Empty) (*peerpb.Empty, error) {
	s.store.splitLeaders()
	return &peerpb.Empty{}, nil
}

// Disk implements peerpb.PeerServer.
func (s *peerServer) Disk(context.Context, *peerpb.Empty) (*peerpb.DiskReply, error) {
	return s.store.disk()
}

func (s *Store) disk() (*peerpb.DiskReply, error) {
	free, full, err := s.space.free()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	size, err := s.space.size()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &peerpb.DiskReply{Free: free, Size: size, Full: full}, nil
}

// Members implements peerpb.PeerServer.
func (s *peerServer) Members(ctx context.Context, req *peerpb.GroupRequest) (*peerpb.MembersReply, error) {
	g, release, err := s.store.replica(req.Group)
	if err != nil {
		return nil, err
	}
	defer release()
	members, err := g.CommittedMembers(ctx)
	if err != nil {
		return nil, toCode(err)
	}
	reply := &peerpb.MembersReply{}
	for _, m := range members {
		reply.Nodes = append(reply.Nodes, m.Node)
	}
	return reply, nil
}

// hinters send hints, one stream a node for all groups. Of each group only the newest is sent.
type hinters struct {
	mu    sync.Mutex // held for a map operation
	nodes map[string]*hinter
}

type hinter struct {
	mu     sync.Mutex // held for a map operation
	newest map[string]group.Hint
	wake   chan struct{}
}

func (h *hinters) of(s *Store, node string) *hinter {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.nodes[node]
	if x == nil {
		x = &hinter{newest: map[string]group.Hint{}, wake: make(chan struct{}, 1)}
		if h.nodes == nil {
			h.nodes = map[string]*hinter{}
		}
		h.nodes[node] = x
		if s.life.Err() == nil { // end has not been called: nobody waits for done yet
			s.done.Go(func() { x.run(s, node) })
		}
	}
	return x
}

// end ends the store's life, after which no hinter is started: its groups end later, and hint until then.
func (h *hinters) end(s *Store) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.stop()
}

func (h *hinter) put(name string, hint group.Hint) {
	h.mu.Lock()
	h.newest[name] = hint
	h.mu.Unlock()
	wake(h.wake)
}

// run sends until the store is closed. What can't be sent is dropped: Raft tells it as well, if later.
func (h *hinter) run(s *Store, node string) {
	var stream grpc.ClientStreamingClient[peerpb.Hint, peerpb.Empty]
	for {
		select {
		case <-h.wake:
		case <-s.life.Done():
			return
		}
		h.mu.Lock()
		newest := h.newest
		h.newest = map[string]group.Hint{}
		h.mu.Unlock()
		if stream == nil {
			conn, err := s.transport.Dial(node)
			if err == nil {
				stream, err = peerpb.NewPeerClient(conn).Hints(s.life)
			}
			if err != nil {
				stream = nil
				continue
			}
		}
		for name, hint := range newest {
			if err := stream.Send(hintOf(name, hint)); err != nil {
				stream = nil
				break
			}
		}
	}
}
