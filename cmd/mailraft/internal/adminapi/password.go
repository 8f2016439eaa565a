package adminapi

import (
	"bytes"
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// errChanged: two changed the same password at once.
var errChanged = status.Error(codes.Aborted, "the account's passwords were changed meanwhile; try again")

// SetPassword implements adminpb.AdminServer. It ends the sessions that the old password opened.
func (s *Server) SetPassword(ctx context.Context, req *adminpb.SetPasswordRequest) (*adminpb.Empty, error) {
	defer clear(req.Old)
	defer clear(req.New)
	if len(req.New) == 0 {
		return nil, errEmptyPassword
	}
	a, err := s.newest(ctx, req.Address) // the old password may just have been set elsewhere
	if err != nil {
		return nil, refusal(err)
	}
	err = s.change(ctx, a, func(a *raftpb.Account) error {
		if req.Discard {
			return s.replaceKeys(ctx, a, req)
		}
		return s.rewrap(ctx, a, req.Old, req.New)
	})
	if err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("password set", "account", a.Address(), "new_keys", req.Discard)
	return &adminpb.Empty{}, nil
}

// change has set change what opens an account, once more if its record has changed under it: perhaps an app password was used, which is noted.
// The sessions that are not to go on end.
func (s *Server) change(ctx context.Context, a *raftpb.Account, set func(a *raftpb.Account) error) error {
	defer s.Access.Enforce(a.Number) // also after an error: the change may have been committed all the same
	err := set(a)
	if err == errChanged {
		if a, err = s.newest(ctx, a.Address()); err == nil {
			err = set(a)
		}
	}
	return err
}

// rewrap puts the account's private key from under the old password under the new one.
func (s *Server) rewrap(ctx context.Context, a *raftpb.Account, old, new []byte) error {
	id, opened, err := s.unwrap(ctx, a, old)
	if err != nil {
		return err
	}
	defer id.Wipe()
	goes := func(was *raftpb.Slot) bool {
		return bytes.Equal(was.Record, opened) || access.ProvesPassword(was) // app passwords keep theirs
	}
	stays := proto.CloneOf(a)
	stays.Slots = slices.DeleteFunc(stays.Slots, goes)
	records, err := s.wrap(ctx, id, stays, new, access.NextSlot(a))
	if err != nil {
		return err
	}
	return s.replaceSlots(ctx, a, func(was *raftpb.Slot) bool { return !goes(was) }, records...)
}

// unwrap opens the private key with a password, and answers the record of the slot that did.
func (s *Server) unwrap(ctx context.Context, a *raftpb.Account, password []byte) (seal.Identity, []byte, error) {
	slots, err := access.Passwords(a)
	if err != nil {
		return seal.Identity{}, nil, err
	}
	normal := passwords.Normal(password)
	defer clear(normal)
	for _, sl := range slots {
		id, err := s.Gate.Unwrap(ctx, "", sl, uint64(a.Number), normal)
		if err == nil {
			return id, sl.Marshal(), nil
		}
		if ctx.Err() != nil {
			return seal.Identity{}, nil, ctx.Err()
		}
	}
	return seal.Identity{}, nil, keyring.ErrWrongPassword
}

// without is the account without its slots.
func without(a *raftpb.Account) *raftpb.Account {
	bare := proto.CloneOf(a)
	bare.Slots = nil
	return bare
}

// replaceKeys gives the account a new key pair. What was sealed for the old one stays, and nobody can read it any more.
func (s *Server) replaceKeys(ctx context.Context, a *raftpb.Account, req *adminpb.SetPasswordRequest) error {
	kind, err := keyKind(req.Key)
	if err != nil {
		return err
	}
	recipient, slots, err := s.newKeys(ctx, without(a), kind, req.New, access.NextSlot(a))
	if err != nil {
		return err
	}
	var key uint64
	err = s.Store.Directory().UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
		if now.Version != a.Version {
			return errChanged
		}
		if now.Pinned() { // its messages are sealed to its owner's key as before
			now.LoginRecipient, now.Slots = recipient, slots
			return nil
		}
		now.Recipient, now.Slots, now.PreviousKeys = recipient, slots, nil
		if s.Store.Knows(machine.NewKeys) {
			now.Key++ // what is sealed to the one that is discarded is told from what comes
			key = now.Key
		}
		return nil
	})
	if err != nil || key == 0 {
		return err
	}
	// A node that has not heard of it yet seals what comes in to the key that is discarded.
	if err := s.Store.Directory().FenceKeys(ctx, tree.Account(a.Number), key); err != nil {
		s.Logger.Warn("mail may still be sealed to an account's discarded key, by nodes that have not heard of the new one", "account", a.Address(), "error", err)
	}
	return nil
}
