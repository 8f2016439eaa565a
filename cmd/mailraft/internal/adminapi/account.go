package adminapi

import (
	"context"

	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/fs/seal"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// RemoveAccount implements adminpb.AdminServer.
func (s *Server) RemoveAccount(ctx context.Context, req *adminpb.AccountRequest) (*adminpb.Empty, error) {
	local, domain, err := raftstore.SplitAddress(req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	if err := s.current(ctx); err != nil { // or an alias to it may be overlooked
		return nil, refusal(err)
	}
	if err := s.Store.Directory().RemoveAccount(ctx, local, domain); err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("account removed", "account", req.Address)
	return &adminpb.Empty{}, nil
}

// GetAccount implements adminpb.AdminServer.
func (s *Server) GetAccount(ctx context.Context, req *adminpb.AccountRequest) (*adminpb.Account, error) {
	a, err := s.newest(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	reply, err := s.describe(ctx, a)
	return reply, refusal(err)
}

// page is how many accounts are read from the directory at once.
const page = 500

// ListAccounts implements adminpb.AdminServer.
func (s *Server) ListAccounts(req *adminpb.ListAccountsRequest, stream grpc.ServerStreamingServer[adminpb.Account]) error {
	domains, err := s.oneOrAll(stream.Context(), raftstore.NormalDomain(req.Domain))
	if err != nil {
		return refusal(err)
	}
	for _, d := range domains {
		for after := ""; ; {
			accounts, err := s.Store.Directory().Accounts(d, after, page)
			if err != nil {
				return refusal(err)
			}
			for _, a := range accounts {
				after = a.LocalPart
				if a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
					continue
				}
				reply, err := s.describe(stream.Context(), a)
				if err != nil {
					return refusal(err)
				}
				if err := stream.Send(reply); err != nil {
					return err
				}
			}
			if len(accounts) < page {
				break
			}
		}
	}
	return nil
}

func (s *Server) describe(ctx context.Context, a *raftpb.Account) (*adminpb.Account, error) {
	reply := &adminpb.Account{
		Address: a.Address(), Number: a.Number, Shard: a.Shard, Recipient: a.Recipient, Created: a.Created / 1e9,
		QuotaBytes: a.QuotaBytes, QuotaFiles: a.QuotaFiles, MovingTo: a.MovingTo, Pinned: a.Pinned(),
	}
	if r, err := seal.ParseRecipient(a.Recipient); err == nil {
		reply.Key = r.Kind().String()
	}
	_, reply.Unlocked = s.Keyring.Identity(uint64(a.Number))
	u, err := s.Store.Directory().Usage(tree.Account(a.Number))
	if err != nil {
		return nil, err
	}
	reply.Bytes, reply.Files = u.Bytes, u.Files
	if a.IsResealed() {
		reply.Resealing = s.resealing(ctx, a)
	}
	return reply, nil
}

// SetQuota implements adminpb.AdminServer.
func (s *Server) SetQuota(ctx context.Context, req *adminpb.SetQuotaRequest) (*adminpb.Empty, error) {
	a, err := s.find(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	if err := s.Store.Directory().SetQuota(ctx, tree.Account(a.Number), req.Bytes, req.Files); err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("quota set", "account", a.Address(), "bytes", req.Bytes, "files", req.Files)
	return &adminpb.Empty{}, nil
}

// MoveAccount implements adminpb.AdminServer.
func (s *Server) MoveAccount(ctx context.Context, req *adminpb.MoveAccountRequest) (*adminpb.Empty, error) {
	a, err := s.find(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	return &adminpb.Empty{}, refusal(s.Store.Directory().MoveAccount(ctx, tree.Account(a.Number), req.Shard))
}
