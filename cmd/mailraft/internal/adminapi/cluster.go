package adminapi

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/raftstore/raftpb"
)

// The longest that a token can be used.
const maxTokenLife = 30 * 24 * time.Hour

// MakeToken implements adminpb.AdminServer.
func (s *Server) MakeToken(ctx context.Context, req *adminpb.TokenRequest) (*adminpb.TokenReply, error) {
	life := time.Duration(req.Seconds) * time.Second
	if life <= 0 || life > maxTokenLife {
		return nil, refusal(fmt.Errorf("a token holds for 1s to %v: %w", maxTokenLife, syscall.EINVAL))
	}
	token, err := s.Store.NewToken(ctx, life)
	if err != nil {
		return nil, refusal(err)
	}
	return &adminpb.TokenReply{Token: token}, nil
}

var nodeStates = map[raftpb.NodeState]string{
	raftpb.NodeState_NODE_STATE_ACTIVE:   "active",
	raftpb.NodeState_NODE_STATE_DRAINING: "draining",
	raftpb.NodeState_NODE_STATE_REMOVED:  "removed",
}

// ListNodes implements adminpb.AdminServer.
func (s *Server) ListNodes(context.Context, *adminpb.Empty) (*adminpb.NodesReply, error) {
	nodes, err := s.nodes()
	if err != nil {
		return nil, refusal(err)
	}
	return &adminpb.NodesReply{Nodes: nodes}, nil
}

func (s *Server) nodes() ([]*adminpb.ClusterNode, error) {
	nodes, err := s.Store.Directory().Nodes()
	var list []*adminpb.ClusterNode
	for _, n := range nodes {
		list = append(list, &adminpb.ClusterNode{
			Name: n.Id, Address: n.Address, State: nodeStates[n.State], Up: s.Store.NodeUp(n.Id), Joined: n.Joined / 1e9,
		})
	}
	return list, err
}

// ChangeNode implements adminpb.AdminServer.
func (s *Server) ChangeNode(ctx context.Context, req *adminpb.ChangeNodeRequest) (*adminpb.Empty, error) {
	for state, name := range nodeStates {
		if name != req.State {
			continue
		}
		err := s.Store.Directory().UpdateNode(ctx, req.Name, func(n *raftpb.PutNode) error {
			if n.State == raftpb.NodeState_NODE_STATE_REMOVED && state != n.State {
				return fmt.Errorf("node %s was removed: it can join again with a new token: %w", n.Id, syscall.EINVAL)
			}
			n.Balanced = n.Balanced && state == n.State // one that was drained gets its share again
			n.State = state
			return nil
		})
		if err != nil {
			return nil, refusal(err)
		}
		return &adminpb.Empty{}, nil
	}
	return nil, refusal(fmt.Errorf("a node can't be %q: %w", req.State, syscall.EINVAL))
}

// ListShards implements adminpb.AdminServer.
func (s *Server) ListShards(ctx context.Context, _ *adminpb.Empty) (*adminpb.ShardsReply, error) {
	shards, err := s.shards(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	return &adminpb.ShardsReply{Shards: shards}, nil
}

func (s *Server) shards(ctx context.Context) ([]*adminpb.ShardInfo, error) {
	groups, err := s.Store.Groups(ctx)
	var list []*adminpb.ShardInfo
	for _, g := range groups {
		info := &adminpb.ShardInfo{Id: g.Shard, Leader: g.Leader, Applied: g.Applied, Wanted: g.Wanted}
		for _, r := range g.Replicas {
			info.Replicas = append(info.Replicas, &adminpb.ReplicaInfo{
				Node: r.Node, Voter: r.Voter, Joining: r.Joining, Behind: r.Behind, Problem: r.Problem,
			})
		}
		list = append(list, info)
	}
	return list, err
}

// MoveShard implements adminpb.AdminServer.
func (s *Server) MoveShard(ctx context.Context, req *adminpb.MoveShardRequest) (*adminpb.Empty, error) {
	return &adminpb.Empty{}, refusal(s.Store.Directory().MoveShard(ctx, req.Shard, req.From, req.To))
}

// SplitLeaders implements adminpb.AdminServer.
func (s *Server) SplitLeaders(ctx context.Context, _ *adminpb.Empty) (*adminpb.Empty, error) {
	return &adminpb.Empty{}, refusal(s.Store.SplitLeaders(ctx))
}

// Rebalance implements adminpb.AdminServer.
func (s *Server) Rebalance(ctx context.Context, _ *adminpb.Empty) (*adminpb.Empty, error) {
	return &adminpb.Empty{}, refusal(s.Store.Directory().Rebalance(ctx))
}
