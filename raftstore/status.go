package raftstore

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"mailraft/raftstore/peerpb"
)

// GroupStatus is how a group is, as its replicas on all nodes say.
type GroupStatus struct {
	Name     string
	Shard    uint32 // 0: it is the directory
	Leader   string // "": none was found
	Applied  uint64 // the most by any; index
	Wanted   []string
	Replicas []ReplicaStatus // by the node's name
}

// ReplicaStatus is how a replica is.
type ReplicaStatus struct {
	Node    string
	Voter   bool
	Joining bool   // it has not caught up yet
	Behind  uint64 // entries that it has not applied, of those that the leader has
	Problem string // why it did not answer, or what is wrong with it
}

// statusTime bounds how long a replica is waited for.
const statusTime = time.Second

// Groups asks all nodes how their replicas are: the directory's first, then each shard's. None is listed by a node that is alone.
func (s *Store) Groups(ctx context.Context) ([]GroupStatus, error) {
	if s.transport == nil {
		return nil, nil
	}
	nodes, err := s.directory.state.Nodes()
	if err != nil {
		return nil, err
	}
	list := []GroupStatus{{Name: directoryGroup}}
	for _, n := range present(nodes) {
		list[0].Wanted = append(list[0].Wanted, n.Id)
	}
	shards, err := s.directory.state.Shards()
	if err != nil {
		return nil, err
	}
	for _, sh := range shards {
		list = append(list, GroupStatus{Name: shardName(sh.Id), Shard: sh.Id, Wanted: sh.Voters})
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	var asking sync.WaitGroup
	for i := range list {
		asking.Go(func() { s.askGroup(ctx, &list[i]) })
	}
	asking.Wait()
	return list, nil
}

// askGroup asks those who are to have a replica, and those who have one as the first say.
func (s *Store) askGroup(ctx context.Context, g *GroupStatus) {
	answers := map[string]*peerpb.ReplicaReply{}
	problems := map[string]string{}
	ask := func(nodes []string) {
		var asking sync.WaitGroup
		var mu sync.Mutex // for a map operation
		for _, n := range nodes {
			asking.Go(func() {
				r, err := s.askReplica(ctx, n, g.Name)
				mu.Lock()
				defer mu.Unlock()
				if answers[n] = r; err != nil {
					problems[n] = err.Error()
				} else if r.Problem != "" {
					problems[n] = r.Problem
				}
			})
		}
		asking.Wait()
	}
	ask(g.Wanted)
	term := uint64(0)
	votes := map[string]bool{}
	for _, r := range answers {
		if r.GetTerm() >= term && r.GetLeader() != "" {
			g.Leader, term = r.Leader, r.Term
		}
	}
	knows := answers[g.Leader]
	if knows == nil {
		for _, r := range answers {
			if r.GetTerm() >= knows.GetTerm() {
				knows = r
			}
		}
	}
	var others []string
	for _, m := range knows.GetMembers() {
		votes[m.Node] = m.Voter
		if !slices.Contains(g.Wanted, m.Node) {
			others = append(others, m.Node)
		}
	}
	ask(others)
	if r := answers[g.Leader]; r == nil || r.Leader != g.Leader {
		g.Leader = "" // it does not answer, or does not lead
	}
	for _, r := range answers {
		g.Applied = max(g.Applied, r.GetApplied())
	}
	for n, r := range answers {
		x := ReplicaStatus{Node: n, Voter: votes[n], Joining: r.GetJoining(), Problem: problems[n]}
		if r != nil {
			x.Behind = g.Applied - r.Applied
		}
		g.Replicas = append(g.Replicas, x)
	}
	slices.SortFunc(g.Replicas, func(a, b ReplicaStatus) int { return strings.Compare(a.Node, b.Node) })
}

func (s *Store) askReplica(ctx context.Context, node, group string) (*peerpb.ReplicaReply, error) {
	if node == s.cfg.NodeID {
		return s.describe(group)
	}
	return (&peers{s, group}).replica(ctx, node)
}
