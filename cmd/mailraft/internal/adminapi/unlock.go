package adminapi

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/passwords"
)

// maxUnlock bounds an unlock without a login.
const maxUnlock = 24 * time.Hour

// Unlock implements adminpb.AdminServer.
func (s *Server) Unlock(ctx context.Context, req *adminpb.UnlockRequest) (*adminpb.Empty, error) {
	defer clear(req.Password)
	d := time.Duration(req.Seconds) * time.Second
	if req.Seconds <= 0 || req.Seconds > int64(maxUnlock/time.Second) {
		return nil, status.Errorf(codes.InvalidArgument, "an account can be unlocked for 1 second to %v", maxUnlock)
	}
	normal := passwords.Normal(req.Password)
	defer clear(normal)
	a, err := s.find(ctx, req.Address)
	if err == nil {
		a, _, err = s.Access.Unlock(ctx, "", a, normal, "", d, req.Uids...)
	}
	if err != nil {
		return nil, refusal(err)
	}
	log := s.Logger
	if len(req.Uids) > 0 {
		log = log.With("uids", req.Uids)
	}
	log.Info("account unlocked", "account", a.Address(), "for", d)
	return &adminpb.Empty{}, nil
}

// HoldUnlocked implements adminpb.AdminServer.
func (s *Server) HoldUnlocked(req *adminpb.UnlockRequest, stream grpc.ServerStreamingServer[adminpb.Empty]) error {
	defer clear(req.Password)
	normal := passwords.Normal(req.Password)
	defer clear(normal)
	a, err := s.find(stream.Context(), req.Address)
	if err != nil {
		return refusal(err)
	}
	a, session, err := s.Access.Unlock(stream.Context(), "", a, normal, "", 0, req.Uids...)
	if err != nil {
		return refusal(err)
	}
	defer session.Close()
	s.Logger.Info("account unlocked for a command", "account", a.Address())
	if err := stream.Send(&adminpb.Empty{}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return nil
	case <-session.Done():
		return status.Errorf(codes.FailedPrecondition, "%s was locked meanwhile", a.Address())
	}
}

// Lock implements adminpb.AdminServer.
func (s *Server) Lock(ctx context.Context, req *adminpb.AccountRequest) (*adminpb.LockReply, error) {
	a, err := s.find(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	was := s.Keyring.Lock(uint64(a.Number))
	s.Logger.Info("account locked", "account", a.Address(), "was_unlocked", was)
	return &adminpb.LockReply{WasUnlocked: was}, nil
}
