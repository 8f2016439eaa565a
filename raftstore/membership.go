package raftstore

import (
	"context"
	"slices"
	"time"

	"mailraft/raftstore/group"
	"mailraft/raftstore/raftpb"
)

// How many of a group's members vote.
const (
	shardVoters     = 3
	directoryVoters = 5
)

const (
	reconcileEvery = time.Second
	// settled is how long a leader has led before it hands its group over to the node that is to lead it.
	settled = 10 * time.Second
	// enough entries behind, a follower has caught up.
	enough = 1000
)

// keepMembers has each group that this node leads get the members that the directory wants, and the directory's leader decide what it
// wants, until ctx ends.
func (s *Store) keepMembers(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	since := map[int]time.Time{}   // when this node was first seen to lead a group, by its number
	down := map[string]time.Time{} // when a node was first seen not to answer
	for {
		current := s.hearDirectory(ctx)
		nodes, err := s.directory.state.Nodes()
		if err == nil {
			s.followNodes(nodes)
			s.replaceDead(nodes, down)
			if current && s.directory.group.Leads() {
				if err := s.raiseVersion(ctx, nodes); err != nil {
					s.log.Warn("noting what all nodes can do", "error", err)
				}
				s.placeShards(ctx, nodes)
				s.balance(ctx, nodes)
			}
			shards, err := s.directory.state.Shards() // as they are placed now
			if err != nil {
				s.log.Warn("reading which shards there are", "error", err)
			}
			s.keepReplicas(shards)
			p := plan{nodes, shards, leaders(shards)}
			now := s.splitNow.Swap(false)
			s.each(func(number int, g *group.Group) {
				if !g.Leads() {
					delete(since, number)
					return
				}
				if !current || ctx.Err() != nil {
					return
				}
				if since[number].IsZero() {
					since[number] = time.Now()
				}
				changed, err := s.reconcile(g, number, p, now || time.Since(since[number]) > settled)
				if changed && err == nil { // the next step may be taken at once
					s.lookAtMembers()
				}
				if err != nil {
					s.log.Warn("changing who is in a group", "group", g.Name(), "error", err)
				}
			})
		}
		select {
		case <-tick.C:
		case <-s.clusterChanged:
		case <-ctx.Done():
			return
		}
	}
}

// hearDirectory tells whether the directory's state here is what was committed a moment ago, if this node leads a group. After a crash, or
// while this node can't reach the directory's leader, it may be old: by that who leads a shard would take away votes, and copies, that
// acknowledged mail relies on.
func (s *Store) hearDirectory(ctx context.Context) bool {
	leads := false
	s.each(func(_ int, g *group.Group) { leads = leads || g.Leads() })
	if !leads {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, reconcileEvery)
	defer cancel()
	return s.directory.ReadIndex(ctx) == nil
}

// lookAtMembers has keepMembers look at once.
func (s *Store) lookAtMembers() { wake(s.clusterChanged) }

// wake has whoever waits for c look again.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will
	}
}

// followNodes has the transport watch the other nodes, and let go of those that were removed or have moved.
func (s *Store) followNodes(nodes []*raftpb.PutNode) {
	var others []string
	for _, n := range nodes {
		if n.Id == s.cfg.NodeID {
			continue
		}
		was, known := s.remembered(n.Id)
		removed := n.State == raftpb.NodeState_NODE_STATE_REMOVED
		if removed || known && was.Address != n.Address { // what is open leads to where the node was
			s.transport.Disconnect(n.Id)
		}
		if !removed {
			others = append(others, n.Id)
		}
	}
	if err := s.remember(nodes); err != nil {
		s.log.Warn("noting which nodes there are", "error", err)
	}
	s.transport.SetPeers(others)
}

// replaceDead has nodes that have not answered for long count as draining: others are to vote instead of them, if there are others.
func (s *Store) replaceDead(nodes []*raftpb.PutNode, down map[string]time.Time) {
	for _, n := range nodes {
		switch {
		case s.NodeUp(n.Id):
			delete(down, n.Id)
		case down[n.Id].IsZero():
			down[n.Id] = time.Now()
		case n.State == raftpb.NodeState_NODE_STATE_ACTIVE && time.Since(down[n.Id]) > s.cfg.ReplaceAfter:
			n.State = raftpb.NodeState_NODE_STATE_DRAINING // of this copy of the record
		}
	}
}

// plan is what the directory says of nodes and shards, and which node is to lead each shard.
type plan struct {
	nodes  []*raftpb.PutNode
	shards []*raftpb.PutShard
	leads  map[uint32]string
}

// voters are to vote in a group. Of the directory every other node that is there has a copy without a vote.
func (p plan) voters(number int, members []group.Member) []string {
	if number > 0 {
		for _, sh := range p.shards {
			if sh.Id == uint32(number) {
				return sh.Voters
			}
		}
		return nil
	}
	var voters []string // of the directory: those that vote now first, and those that drain only if there are few
	for _, c := range []struct {
		state raftpb.NodeState
		votes bool
		most  int
	}{
		{raftpb.NodeState_NODE_STATE_ACTIVE, true, directoryVoters},
		{raftpb.NodeState_NODE_STATE_ACTIVE, false, directoryVoters},
		{raftpb.NodeState_NODE_STATE_DRAINING, true, shardVoters},
	} {
		for _, n := range p.nodes {
			votes := slices.Contains(members, group.Member{Node: n.Id, Voter: true})
			if n.State == c.state && votes == c.votes && len(voters) < c.most {
				voters = append(voters, n.Id)
			}
		}
	}
	return voters
}

// reconcile takes one step towards the members that a group is to have: first who is missing is added, and gets a vote when it has
// caught up; then who is too many goes. So there are never fewer voters than there were. Then the groups' leaders are spread over their voters.
func (s *Store) reconcile(g *group.Group, number int, p plan, mayMove bool) (changed bool, err error) {
	members := g.Members()
	voters := p.voters(number, members)
	if len(voters) == 0 {
		return false, nil
	}
	member := func(node string) (group.Member, bool) {
		i := slices.IndexFunc(members, func(m group.Member) bool { return m.Node == node })
		if i < 0 {
			return group.Member{}, false
		}
		return members[i], true
	}
	present, removed := map[string]bool{}, map[string]bool{}
	complete := true
	for _, n := range p.nodes {
		if n.State == raftpb.NodeState_NODE_STATE_REMOVED {
			removed[n.Id] = true
			continue
		}
		votes := slices.Contains(voters, n.Id)
		if number > 0 && !votes {
			continue
		}
		present[n.Id] = true
		m, is := member(n.Id)
		if !is {
			return true, g.AddNonvoter(n.Id)
		}
		if votes && !m.Voter {
			if s.caughtUp(g, n.Id) {
				return true, g.AddVoter(n.Id)
			}
			complete = false
		}
	}
	for _, m := range members {
		switch {
		case removed[m.Node] && m.Node != s.cfg.NodeID, complete && !present[m.Node] && !m.Voter:
			return true, g.RemoveServer(m.Node) // one that was removed by hand is not waited for
		case complete && m.Voter && !slices.Contains(voters, m.Node):
			if m.Node != s.cfg.NodeID {
				return true, g.DemoteVoter(m.Node)
			}
			return false, s.handOver(g, voters)
		}
	}
	if !mayMove {
		return false, nil
	}
	leads := voters[0]
	if number > 0 {
		leads = p.leads[uint32(number)]
	}
	if complete && leads != s.cfg.NodeID && s.transport.Up(leads) && s.caughtUp(g, leads) {
		s.log.Info("handing over a group, so that leaders are spread", "group", g.Name(), "to", leads)
		return true, g.TransferLeadership(leads)
	}
	return false, nil
}

// handOver has another voter lead the group that this node is to leave.
func (s *Store) handOver(g *group.Group, voters []string) error {
	for _, v := range voters {
		if v != s.cfg.NodeID && s.transport.Up(v) {
			return g.TransferLeadership(v)
		}
	}
	return nil
}

// caughtUp tells whether the node's replica has nearly all that this one has.
func (s *Store) caughtUp(g *group.Group, node string) bool {
	ctx, cancel := context.WithTimeout(s.life, time.Second)
	defer cancel()
	r, err := (&peers{s, g.Name()}).replica(ctx, node)
	return err == nil && r.Member && !r.Joining && r.Applied+enough >= g.Applied()
}
