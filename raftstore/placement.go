package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"

	"mailraft/raftstore/peerpb"
	"mailraft/raftstore/raftpb"
)

// The directory's leader decides which nodes vote in a shard. A place that is free goes to the node with the fewest shards for the size of
// its disk; a node that is new, or was drained, is given its share of the others', one shard after the other. Otherwise shards stay where
// they are, or were moved to by hand.

// rooms are the sizes of the nodes' disks in octets; 0: nothing more is to come to it. One that is not named has room as others have.
type rooms map[string]float64

func (r rooms) of(node string) float64 {
	if size, known := r[node]; known {
		return size
	}
	most := 1.0
	for _, size := range r {
		most = max(most, size)
	}
	return most
}

// full is how full a node with so many shards is, to compare.
func (r rooms) full(node string, shards int) float64 { return float64(shards) / r.of(node) }

// placeShards decides who votes in the shards: nodes that are there, as few shards on each as can be.
func (s *Store) placeShards(ctx context.Context, nodes []*raftpb.PutNode) {
	shards, err := s.directory.state.Shards()
	if err != nil {
		return
	}
	load := loads(shards)
	var rooms rooms
	for _, sh := range shards {
		if slices.Equal(place(sh.Voters, nodes, maps.Clone(load), nil), sh.Voters) {
			continue
		}
		if rooms == nil {
			rooms = s.rooms(ctx, nodes)
		}
		voters := place(sh.Voters, nodes, load, rooms)
		if slices.Equal(voters, sh.Voters) {
			continue
		}
		if err := s.setVoters(ctx, sh, voters); err != nil {
			s.log.Warn("placing a shard", "shard", sh.Id, "error", err)
			return
		}
	}
}

func (s *Store) setVoters(ctx context.Context, sh *raftpb.PutShard, voters []string) error {
	slices.Sort(voters)
	sh.Voters = voters
	s.log.Info("placing a shard", "shard", sh.Id, "voters", voters)
	_, err := s.directory.change(ctx, &raftpb.Command{Op: &raftpb.Command_PutShard{PutShard: sh}})
	return err
}

// load is how many shards each node votes in.
type load map[string]int

func loads(shards []*raftpb.PutShard) load {
	l := load{}
	for _, sh := range shards {
		for _, v := range sh.Voters {
			l[v]++
		}
	}
	return l
}

// place chooses the voters of a shard: those that it has, without nodes that were removed, and without those that drain as far as
// others can take their place; then the nodes that are the least full. load is changed with it.
func place(has []string, nodes []*raftpb.PutNode, load load, rooms rooms) []string {
	var active, draining []string
	for _, n := range nodes {
		switch n.State {
		case raftpb.NodeState_NODE_STATE_ACTIVE:
			active = append(active, n.Id)
		case raftpb.NodeState_NODE_STATE_DRAINING:
			draining = append(draining, n.Id)
		}
	}
	var voters []string
	for _, v := range has {
		if slices.Contains(active, v) {
			voters = append(voters, v)
		} else {
			load[v]--
		}
	}
	slices.SortStableFunc(active, func(a, b string) int { return cmp.Compare(rooms.full(a, load[a]), rooms.full(b, load[b])) })
	for _, candidates := range [][]string{active, draining} {
		for _, c := range candidates {
			stays := slices.Contains(has, c)
			if len(voters) < shardVoters && !slices.Contains(voters, c) && (stays || rooms.of(c) > 0) {
				voters = append(voters, c)
				load[c]++
			}
		}
	}
	slices.Sort(voters)
	return voters
}

// move is of a shard's replica from a node to another.
type move struct {
	shard    *raftpb.PutShard
	from, to string
}

// voters are the shard's after the move.
func (m move) voters() []string {
	list := slices.DeleteFunc(slices.Clone(m.shard.Voters), func(v string) bool { return v == m.from })
	return append(list, m.to)
}

// share finds what moves to a node next, until it has its share: a shard from the node that is the fullest. None is found when it would be as
// full as that one then.
func share(to string, nodes []*raftpb.PutNode, shards []*raftpb.PutShard, rooms rooms) (best move, found bool) {
	load := loads(shards)
	if rooms.of(to) == 0 {
		return move{}, false
	}
	fullest := rooms.full(to, load[to]+1)
	for _, n := range nodes {
		if n.State != raftpb.NodeState_NODE_STATE_ACTIVE || rooms.full(n.Id, load[n.Id]) <= fullest {
			continue
		}
		for _, sh := range shards {
			if slices.Contains(sh.Voters, n.Id) && !slices.Contains(sh.Voters, to) {
				best, found, fullest = move{sh, n.Id, to}, true, rooms.full(n.Id, load[n.Id])
				break
			}
		}
	}
	return best, found
}

// balance gives nodes that have not had it their share of the shards: one move at a time, each when the last has come to its end.
func (s *Store) balance(ctx context.Context, nodes []*raftpb.PutNode) {
	shards, err := s.directory.state.Shards()
	if err != nil {
		return
	}
	load := loads(shards)
	i := slices.IndexFunc(nodes, func(n *raftpb.PutNode) bool {
		needs := !n.Balanced || load[n.Id] == 0 && len(shards)*shardVoters > len(nodes) // it was dead, and has come back
		return n.State == raftpb.NodeState_NODE_STATE_ACTIVE && needs && s.NodeUp(n.Id)
	})
	if i < 0 || !s.atRest(ctx) {
		return
	}
	if m, found := share(nodes[i].Id, nodes, shards, s.rooms(ctx, nodes)); found {
		err = s.setVoters(ctx, m.shard, m.voters())
	} else if !nodes[i].Balanced {
		err = s.directory.UpdateNode(ctx, nodes[i].Id, func(n *raftpb.PutNode) error {
			n.Balanced = true
			return nil
		})
	}
	if err != nil {
		s.log.Warn("sharing the shards out", "node", nodes[i].Id, "error", err)
	}
}

// atRest tells whether each shard has the replicas that it is to have, all of which answer and follow.
func (s *Store) atRest(ctx context.Context) bool {
	groups, err := s.Groups(ctx)
	if err != nil {
		return false
	}
	for _, g := range groups {
		if g.Shard == 0 {
			continue
		}
		var voters []string
		for _, r := range g.Replicas {
			if r.Problem != "" || r.Joining || r.Behind > enough {
				return false
			}
			if r.Voter {
				voters = append(voters, r.Node)
			}
		}
		if !slices.Equal(voters, g.Wanted) || len(voters) != len(g.Replicas) {
			return false
		}
	}
	return true
}

// rooms asks the nodes for the sizes of their disks. One that does not answer, or is full, has no room.
func (s *Store) rooms(ctx context.Context, nodes []*raftpb.PutNode) rooms {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	var asking sync.WaitGroup
	var mu sync.Mutex // for a map operation
	sizes := rooms{}
	for _, n := range nodes {
		if n.State != raftpb.NodeState_NODE_STATE_ACTIVE {
			continue
		}
		asking.Go(func() {
			size := 0.0
			if d, err := s.askDisk(ctx, n.Id); err == nil && !d.Full {
				size = float64(d.Size)
			}
			mu.Lock()
			defer mu.Unlock()
			sizes[n.Id] = size
		})
	}
	asking.Wait()
	return sizes
}

func (s *Store) askDisk(ctx context.Context, node string) (*peerpb.DiskReply, error) {
	if node == s.cfg.NodeID {
		return s.disk()
	}
	c, err := s.peer(node)
	if err != nil {
		return nil, err
	}
	return c.Disk(ctx, &peerpb.Empty{})
}

// leaders says which of its voters is to lead each shard: as few on each node as can be. Every node comes to the same answer.
func leaders(shards []*raftpb.PutShard) map[uint32]string {
	leads, chosen := map[string]int{}, map[uint32]string{}
	for _, sh := range shards {
		if len(sh.Voters) == 0 {
			continue
		}
		best := ""
		for i := range sh.Voters {
			v := sh.Voters[(i+int(sh.Id))%len(sh.Voters)]
			if best == "" || leads[v] < leads[best] {
				best = v
			}
		}
		leads[best]++
		chosen[sh.Id] = best
	}
	return chosen
}

// present are the nodes that were not removed.
func present(nodes []*raftpb.PutNode) []*raftpb.PutNode {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *raftpb.PutNode) bool {
		return n.State == raftpb.NodeState_NODE_STATE_REMOVED
	})
}

// MoveShard has a shard's replica on one node go to another, which copies it first.
func (d *Directory) MoveShard(ctx context.Context, shard uint32, from, to string) error {
	for {
		sh, err := d.state.Shard(shard)
		if err == syscall.ENOENT {
			return fmt.Errorf("there is no shard %d: %w", shard, err)
		}
		if err != nil {
			return err
		}
		n, err := d.state.Node(to)
		switch {
		case err != nil:
			return named(err, "node "+to, ErrNoSuchNode)
		case n.State != raftpb.NodeState_NODE_STATE_ACTIVE:
			return fmt.Errorf("node %s drains, or was removed: name an active one: %w", to, syscall.EINVAL)
		case !slices.Contains(sh.Voters, from):
			return fmt.Errorf("shard %d is on the nodes %v, not on %s: %w", shard, sh.Voters, from, syscall.EINVAL)
		case slices.Contains(sh.Voters, to):
			return fmt.Errorf("shard %d is on node %s already: %w", shard, to, syscall.EEXIST)
		}
		err = d.store.setVoters(ctx, sh, move{sh, from, to}.voters())
		if !errors.Is(err, syscall.EAGAIN) {
			return err
		}
	}
}

// Rebalance has each node be given its share of the shards again, as if it were new.
func (d *Directory) Rebalance(ctx context.Context) error {
	nodes, err := d.state.Nodes()
	if err != nil {
		return err
	}
	for _, n := range present(nodes) {
		err := d.UpdateNode(ctx, n.Id, func(n *raftpb.PutNode) error {
			n.Balanced = false
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SplitLeaders has all nodes hand the shards that they lead over to those who are to lead them, now instead of a while after they began to.
func (s *Store) SplitLeaders(ctx context.Context) error {
	nodes, err := s.directory.state.Nodes()
	if err != nil {
		return err
	}
	for _, n := range present(nodes) {
		if n.Id == s.cfg.NodeID {
			s.splitLeaders()
			continue
		}
		c, err := s.peer(n.Id)
		if err == nil {
			asked, cancel := context.WithTimeout(ctx, askTime)
			_, err = c.SplitLeaders(asked, &peerpb.Empty{})
			cancel()
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", n.Id, withErrno(err))
		}
	}
	return nil
}

func (s *Store) splitLeaders() {
	s.splitNow.Store(true)
	s.lookAtMembers()
}
