package adminapi

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// batch is how many accounts are made by one proposal to the directory.
const batch = 128

// AddAccounts implements adminpb.AdminServer.
func (s *Server) AddAccounts(stream grpc.BidiStreamingServer[adminpb.AddAccountRequest, adminpb.AddAccountReply]) error {
	for {
		var requests []*adminpb.AddAccountRequest
		var end error
		for len(requests) < batch && end == nil {
			var req *adminpb.AddAccountRequest
			if req, end = stream.Recv(); end == nil {
				requests = append(requests, req)
			}
		}
		if end != nil && end != io.EOF {
			wipe(requests)
			return end
		}
		for _, reply := range s.addBatch(stream.Context(), requests) {
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
		if end == io.EOF {
			return nil
		}
	}
}

// addBatch makes the accounts together; and one by one when that cannot be, so that one that cannot be made does not keep the
// others from it.
func (s *Server) addBatch(ctx context.Context, requests []*adminpb.AddAccountRequest) []*adminpb.AddAccountReply {
	defer wipe(requests)
	var replies []*adminpb.AddAccountReply
	if len(requests) > 1 && s.add(ctx, requests) == nil {
		for _, req := range requests {
			replies = append(replies, &adminpb.AddAccountReply{Address: req.Address})
		}
		return replies
	}
	for _, req := range requests {
		reply := &adminpb.AddAccountReply{Address: req.Address}
		if err := refusal(s.add(ctx, []*adminpb.AddAccountRequest{req})); err != nil {
			st := status.Convert(err)
			reply.Error, reply.Code = st.Message(), int32(st.Code())
		}
		replies = append(replies, reply)
	}
	return replies
}

func wipe(requests []*adminpb.AddAccountRequest) {
	for _, req := range requests {
		clear(req.Password)
	}
}

// add makes all of the accounts, or none.
func (s *Server) add(ctx context.Context, requests []*adminpb.AddAccountRequest) error {
	var accounts []raftstore.NewAccount
	for _, req := range requests {
		local, domain, err := raftstore.SplitAddress(req.Address)
		if err != nil {
			return err
		}
		kind, err := keyKind(req.Key)
		if err != nil {
			return err
		}
		if len(req.Password) == 0 {
			return errEmptyPassword
		}
		if req.PublicKey != "" {
			if err := s.mayPin(req); err != nil {
				return err
			}
		}
		accounts = append(accounts, raftstore.NewAccount{
			LocalPart: local, Domain: domain, QuotaBytes: req.QuotaBytes, QuotaFiles: req.QuotaFiles, Pinned: req.PublicKey,
			Keys: func(number uint32) (string, []*raftpb.Slot, error) {
				return s.newKeys(ctx, &raftpb.Account{Number: number, LocalPart: local, Domain: domain}, kind, req.Password, 1)
			},
		})
	}
	if err := s.current(ctx); err != nil { // their domain may just have been added elsewhere
		return err
	}
	made, err := s.Store.Directory().AddAccounts(ctx, accounts)
	for _, a := range made {
		s.Logger.Info("account added", "account", a.Address(), "number", a.Number, "shard", a.Shard)
	}
	return err
}

// mayPin looks at the owner's public key. What is none is not repeated: it may be the private one.
func (s *Server) mayPin(req *adminpb.AddAccountRequest) error {
	if _, err := seal.ParseRecipient(req.PublicKey); err != nil {
		return status.Errorf(codes.InvalidArgument, "the public key for %s: %v", req.Address, err)
	}
	if !s.Store.Knows(machine.PinnedKeys) {
		return status.Error(codes.FailedPrecondition, "some node of the cluster runs a program that does not know accounts with a key of their owner's: upgrade it first")
	}
	return nil
}

var errEmptyPassword = status.Error(codes.InvalidArgument, "the password is empty")

// keyKind reads the kind of a key pair; "" is the hybrid one.
func keyKind(name string) (seal.Kind, error) {
	if name == "" {
		return seal.Hybrid, nil
	}
	kind, err := seal.ParseKind(name)
	if err != nil {
		return 0, status.Error(codes.InvalidArgument, err.Error())
	}
	return kind, nil
}

// newKeys makes a key pair for an account, whose private key is wrapped under the password in the slot of that number.
func (s *Server) newKeys(ctx context.Context, account *raftpb.Account, kind seal.Kind, password []byte, number uint32) (string, []*raftpb.Slot, error) {
	id, err := seal.GenerateIdentity(kind)
	if err != nil {
		return "", nil, err
	}
	defer id.Wipe()
	records, err := s.wrap(ctx, id, account, password, number)
	if err != nil {
		return "", nil, err
	}
	return id.Recipient().String(), records, nil
}

// wrap wraps the private key under a password, for who sends it and, where that may be, for who proves it by SCRAM: in slots from that number on.
func (s *Server) wrap(ctx context.Context, id seal.Identity, a *raftpb.Account, password []byte, number uint32) ([]*raftpb.Slot, error) {
	normal := passwords.Normal(password)
	defer clear(normal)
	leave, err := s.Gate.Enter(ctx, "", slot.DefaultParams)
	if err != nil {
		return nil, err
	}
	defer leave()
	binding := slot.Binding{Account: uint64(a.Number), Slot: uint64(number), Kind: slot.Password}
	wrapped, err := slot.Wrap(id, normal, slot.DefaultParams, binding)
	if err != nil {
		return nil, err
	}
	record := &raftpb.Slot{Id: number, Kind: slot.Password.String(), Record: wrapped.Marshal()}
	proved, err := s.Access.WrapSCRAM(ctx, id, a, normal, number+1)
	return append([]*raftpb.Slot{record}, proved...), err
}
