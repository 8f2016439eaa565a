package adminapi

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// RekeyAccount implements adminpb.AdminServer. The account is kept unlocked, so that it is this node that seals what it stores anew, as long as
// the call lasts.
func (s *Server) RekeyAccount(req *adminpb.RekeyRequest, stream grpc.ServerStreamingServer[adminpb.RekeyReply]) error {
	defer clear(req.Password)
	defer clear(req.Code)
	defer clear(req.New)
	ctx := stream.Context()
	a, err := s.newest(ctx, req.Address)
	if err != nil {
		return refusal(err)
	}
	first := &adminpb.RekeyReply{}
	password := req.Password
	switch {
	case req.Resume && !a.IsResealed():
		return status.Errorf(codes.FailedPrecondition, "all that %s stores is sealed to its key: there is nothing to go on with", a.Address())
	case req.Resume && len(password) == 0:
		return errEmptyPassword
	case req.Resume:
	default:
		if len(req.New) > 0 {
			password = req.New
		}
		if len(password) == 0 {
			return errEmptyPassword
		}
		if first, err = s.rekey(ctx, a, req, password); err != nil {
			return refusal(err)
		}
		if a, err = s.newest(ctx, req.Address); err != nil {
			return refusal(err)
		}
	}
	err = stream.Send(first)
	clear(first.Code)
	if err != nil {
		return err
	}
	normal := passwords.Normal(password)
	a, session, err := s.Access.Unlock(ctx, "", a, normal, "", 0, keyring.Nobody) // only what is sealed anew is read
	clear(normal)
	if err != nil {
		return refusal(err)
	}
	defer session.Close()
	return s.tellResealing(a, session, stream)
}

// rekey gives an account a new key pair, under the password, and answers what has to be said of it.
func (s *Server) rekey(ctx context.Context, a *raftpb.Account, req *adminpb.RekeyRequest, password []byte) (*adminpb.RekeyReply, error) {
	var reply *adminpb.RekeyReply
	err := s.change(ctx, a, func(a *raftpb.Account) (err error) {
		if reply, err = s.giveKeys(ctx, a, req, password); err == nil {
			s.Logger.Info("account has a new key pair", "account", a.Address(), "key", a.Key+1)
		}
		return err
	})
	return reply, err
}

// giveKeys replaces the key pair and all slots. What was sealed to the one before stays readable: that private key, and those before it that are
// needed yet, are in the record, sealed to the new one.
func (s *Server) giveKeys(ctx context.Context, a *raftpb.Account, req *adminpb.RekeyRequest, password []byte) (*adminpb.RekeyReply, error) {
	if a.Pinned() {
		return nil, status.Errorf(codes.FailedPrecondition, "the messages of %s are sealed to a key of its owner's, and nobody here can open them to seal them anew", a.Address())
	}
	old, err := s.openFor(ctx, a, req)
	if err != nil {
		return nil, err
	}
	defer old.Wipe()
	if old.Recipient().String() != a.Recipient {
		return nil, fmt.Errorf("%s: the directory's public key is not that of the private key in its slots", a.Address())
	}
	kind := old.Kind()
	if req.Key != "" {
		if kind, err = keyKind(req.Key); err != nil {
			return nil, err
		}
	}
	id, err := seal.GenerateIdentity(kind)
	if err != nil {
		return nil, err
	}
	defer id.Wipe()
	previous, err := previousKeys(a, old, id.Recipient())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Address(), err)
	}
	made, err := s.wrap(ctx, id, without(a), password, access.NextSlot(a))
	if err != nil {
		return nil, err
	}
	reply := &adminpb.RekeyReply{}
	for _, sl := range a.Slots {
		switch {
		case sl.Kind == slot.App.String():
			reply.AppPasswords = append(reply.AppPasswords, sl.Name)
		case sl.Kind == slot.Recovery.String() && reply.Code == nil:
			var recovery *raftpb.Slot
			if reply.Code, recovery, err = newRecovery(id, a.Number, made[len(made)-1].Id+1); err != nil {
				return nil, err
			}
			made = append(made, recovery)
		}
	}
	err = s.Store.Directory().UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
		if now.Version != a.Version {
			return errChanged
		}
		now.Recipient, now.Slots, now.Key, now.PreviousKeys = id.Recipient().String(), made, a.Key+1, previous
		return nil
	})
	if err != nil && err != errChanged { // it may have been done all the same: then the owner has to see the new recovery code
		if now, nerr := s.newest(ctx, req.Address); nerr == nil && now.Recipient == id.Recipient().String() {
			err = nil
		}
	}
	if err != nil {
		clear(reply.Code)
		return nil, err
	}
	return reply, nil
}

// openFor opens the account's private key with what the request has.
func (s *Server) openFor(ctx context.Context, a *raftpb.Account, req *adminpb.RekeyRequest) (seal.Identity, error) {
	if len(req.Code) > 0 {
		if len(req.New) == 0 {
			return seal.Identity{}, errEmptyPassword
		}
		return openRecovery(a, req.Code)
	}
	id, _, err := s.unwrap(ctx, a, req.Password)
	return id, err
}

// previousKeys seals the account's private key, and those before it that are needed yet, to another public key.
func previousKeys(a *raftpb.Account, current seal.Identity, to *seal.Recipient) ([]*raftpb.PreviousKey, error) {
	sealed, err := current.SealTo(to)
	if err != nil {
		return nil, err
	}
	list := []*raftpb.PreviousKey{{Number: a.Key, Sealed: sealed}}
	for _, p := range a.PreviousKeys {
		id, err := seal.OpenIdentity(p.Sealed, current)
		if err != nil {
			return nil, fmt.Errorf("previous key %d: %w", p.Number, err)
		}
		sealed, err := id.SealTo(to)
		id.Wipe()
		if err != nil {
			return nil, err
		}
		list = append(list, &raftpb.PreviousKey{Number: p.Number, Sealed: sealed})
	}
	return list, nil
}

// tellEvery is how often it is told how far the sealing is.
const tellEvery = 300 * time.Millisecond

// tellResealing tells how far it is, until it is done.
func (s *Server) tellResealing(a *raftpb.Account, session *keyring.Session, stream grpc.ServerStreamingServer[adminpb.RekeyReply]) error {
	number := tree.Account(a.Number)
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		work := s.Resealer.Work(number) // before the record: what is not under way any more shows there
		now, err := s.Store.Directory().Account(number)
		if err != nil {
			return refusal(err)
		}
		if !now.IsResealed() {
			return stream.Send(&adminpb.RekeyReply{Resealing: s.resealing(stream.Context(), now)})
		}
		var ended <-chan struct{}
		if work != nil {
			told := &adminpb.Resealing{Address: a.Address()}
			told.Files, told.Octets, told.TotalFiles, told.TotalOctets = work.Progress()
			if err := stream.Send(&adminpb.RekeyReply{Resealing: told}); err != nil {
				return err
			}
			ended = work.Ended()
		}
		select {
		case <-ended:
		case <-tick.C:
		case <-session.Done():
			return status.Errorf(codes.FailedPrecondition, "%s was locked meanwhile", a.Address())
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// resealing is how far an account is. Where its shard can't tell now, that it is under way has to do.
func (s *Server) resealing(ctx context.Context, a *raftpb.Account) *adminpb.Resealing {
	told := &adminpb.Resealing{Address: a.Address()}
	found, err := s.Store.Directory().Sealed(ctx, a)
	if err != nil {
		s.Logger.Debug("how far an account is with its new key is not known", "account", a.Address(), "error", err)
		return told
	}
	told.TotalFiles, told.TotalOctets = found.Files, found.Octets
	told.Files, told.Octets = found.Files-uint64(len(found.Previous)), found.Octets-found.PreviousOctets()
	return told
}
