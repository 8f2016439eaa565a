package adminapi

import (
	"context"
	"slices"
	"strings"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/raftstore/tree"
)

// Status implements adminpb.AdminServer.
func (s *Server) Status(ctx context.Context, _ *adminpb.StatusRequest) (*adminpb.StatusReply, error) {
	reply := &adminpb.StatusReply{}
	s.Node.Status(reply)
	var err error
	if reply.FreeBytes, reply.DiskFull, err = s.Store.Free(); err != nil {
		return nil, refusal(err)
	}
	if reply.Nodes, err = s.nodes(); err != nil {
		return nil, refusal(err)
	}
	if reply.Shards, err = s.shards(ctx); err != nil {
		return nil, refusal(err)
	}
	reply.Refused = s.Store.Refused()
	resealed, err := s.Store.Directory().Resealed()
	if err != nil {
		return nil, refusal(err)
	}
	for _, a := range resealed {
		reply.Resealing = append(reply.Resealing, s.resealing(ctx, a))
	}
	for _, g := range s.Store.Status() {
		group := &adminpb.Group{
			Name: g.Name, Role: g.Role, Leader: g.Leader, Term: g.Term, Applied: g.Applied, Committed: g.Commit,
			StoreBytes: g.Stored, Voters: g.Voters,
		}
		if g.First > 0 && g.Applied >= g.First {
			group.LogEntries = g.Applied - g.First + 1
		}
		if g.Err != nil {
			group.Problem = g.Err.Error()
		}
		reply.Groups = append(reply.Groups, group)
	}
	for _, k := range s.Keyring.Status() {
		u := &adminpb.Unlocked{Sessions: int64(k.Sessions), Uids: k.Readers, Bound: k.Readers != nil}
		if a, err := s.Store.Directory().Account(tree.Account(k.Account)); err == nil {
			u.Address = a.Address()
		}
		reply.Unlocked = append(reply.Unlocked, u)
	}
	slices.SortFunc(reply.Unlocked, func(a, b *adminpb.Unlocked) int { return strings.Compare(a.Address, b.Address) })
	return reply, nil
}
