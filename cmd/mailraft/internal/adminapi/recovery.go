package adminapi

import (
	"context"
	"crypto/rand"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// NewRecovery implements adminpb.AdminServer.
func (s *Server) NewRecovery(ctx context.Context, req *adminpb.NewRecoveryRequest) (*adminpb.RecoveryReply, error) {
	defer clear(req.Password)
	a, err := s.newest(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	if a.Pinned() {
		return nil, noRecovery(a)
	}
	id, _, err := s.unwrap(ctx, a, req.Password)
	if err != nil {
		return nil, refusal(err)
	}
	defer id.Wipe()
	secret, record, err := newRecovery(id, a.Number, access.NextSlot(a))
	if err != nil {
		return nil, refusal(err)
	}
	err = s.replaceSlots(ctx, a, func(sl *raftpb.Slot) bool { return sl.Kind != slot.Recovery.String() }, record)
	if err != nil {
		clear(secret)
		return nil, refusal(err)
	}
	s.Logger.Info("recovery code made", "account", a.Address())
	return &adminpb.RecoveryReply{Code: secret}, nil
}

// Recover implements adminpb.AdminServer. It ends all sessions of the account.
func (s *Server) Recover(ctx context.Context, req *adminpb.RecoverRequest) (*adminpb.RecoveryReply, error) {
	defer clear(req.Code)
	defer clear(req.New)
	if len(req.New) == 0 {
		return nil, errEmptyPassword
	}
	a, err := s.newest(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	if a.Pinned() {
		return nil, noRecovery(a)
	}
	id, err := openRecovery(a, req.Code)
	if err != nil {
		return nil, refusal(err)
	}
	defer id.Wipe()
	password, err := s.wrap(ctx, id, without(a), req.New, access.NextSlot(a))
	if err != nil {
		return nil, refusal(err)
	}
	secret, recovery, err := newRecovery(id, a.Number, password[len(password)-1].Id+1)
	if err != nil {
		return nil, refusal(err)
	}
	err = s.replaceSlots(ctx, a, func(*raftpb.Slot) bool { return false }, append(password, recovery)...)
	s.Access.Enforce(a.Number) // also after an error: the change may have been committed all the same
	if err != nil {
		clear(secret)
		return nil, refusal(err)
	}
	s.Logger.Info("password set by the recovery code", "account", a.Address())
	return &adminpb.RecoveryReply{Code: secret}, nil
}

// noRecovery refuses what promises mail back that nobody here can open.
func noRecovery(a *raftpb.Account) error {
	return status.Errorf(codes.FailedPrecondition,
		"the mail of %s is sealed to a key of its owner's, which no recovery code opens; a lost password is replaced by mailraft account passwd --discard-mail-key, and the mail stays", a.Address())
}

// newRecovery wraps the private key under a new secret, for the caller to wipe.
func newRecovery(id seal.Identity, account, number uint32) (secret []byte, record *raftpb.Slot, err error) {
	secret = make([]byte, slot.SecretSize)
	rand.Read(secret) // never fails
	wrapped, err := slot.Wrap(id, secret, slot.Params{}, slot.Binding{Account: uint64(account), Slot: uint64(number), Kind: slot.Recovery})
	if err != nil {
		clear(secret)
		return nil, nil, err
	}
	return secret, &raftpb.Slot{Id: number, Kind: slot.Recovery.String(), Record: wrapped.Marshal()}, nil
}

// openRecovery opens the private key with the account's recovery code.
func openRecovery(a *raftpb.Account, secret []byte) (seal.Identity, error) {
	slots, err := access.Slots(a)
	if err != nil {
		return seal.Identity{}, err
	}
	for _, sl := range slots {
		if sl.Kind != slot.Recovery {
			continue
		}
		return slot.Unwrap(sl, uint64(a.Number), secret)
	}
	return seal.Identity{}, status.Errorf(codes.FailedPrecondition, "%s has no recovery code", a.Address())
}

func everySlot(*raftpb.Slot) bool { return true }

// replaceSlots gives the account the slots that keep says, and new ones; errChanged if its record is another one by now.
func (s *Server) replaceSlots(ctx context.Context, a *raftpb.Account, keep func(*raftpb.Slot) bool, added ...*raftpb.Slot) error {
	return s.Store.Directory().UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
		if now.Version != a.Version {
			return errChanged
		}
		var slots []*raftpb.Slot
		for _, sl := range now.Slots {
			if keep(sl) {
				slots = append(slots, sl)
			}
		}
		now.Slots = append(slots, added...)
		return nil
	})
}
