package adminapi

import (
	"context"

	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/raftstore"
)

// AddAlias implements adminpb.AdminServer.
func (s *Server) AddAlias(ctx context.Context, req *adminpb.Alias) (*adminpb.Empty, error) {
	if err := s.current(ctx); err != nil { // what it is to stand for may just have been added elsewhere
		return nil, refusal(err)
	}
	if err := s.Store.Directory().AddAlias(ctx, req.Address, req.Targets); err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("alias added", "alias", req.Address, "targets", req.Targets)
	return &adminpb.Empty{}, nil
}

// RemoveAlias implements adminpb.AdminServer.
func (s *Server) RemoveAlias(ctx context.Context, req *adminpb.AccountRequest) (*adminpb.Empty, error) {
	if err := s.Store.Directory().RemoveAlias(ctx, req.Address); err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("alias removed", "alias", req.Address)
	return &adminpb.Empty{}, nil
}

// ListAliases implements adminpb.AdminServer.
func (s *Server) ListAliases(req *adminpb.ListAliasesRequest, stream grpc.ServerStreamingServer[adminpb.Alias]) error {
	domains, err := s.oneOrAll(stream.Context(), raftstore.NormalDomain(req.Domain))
	if err != nil {
		return refusal(err)
	}
	for _, d := range domains {
		aliases, err := s.Store.Directory().Aliases(d)
		if err != nil {
			return refusal(err)
		}
		for _, a := range aliases {
			if err := stream.Send(&adminpb.Alias{Address: a.Address, Targets: a.Targets}); err != nil {
				return err
			}
		}
	}
	return nil
}
