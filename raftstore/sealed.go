package raftstore

import (
	"context"
	"errors"
	"syscall"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Sealed is what an account's contents are sealed to.
type Sealed struct {
	Files, Octets uint64       // contents in all, and octets of their sealed forms
	Previous      []SealedFile // those that are sealed to a key pair that the account had before, and that still opens them
}

// SealedFile is a file as it was when its content was sealed to that key.
type SealedFile struct {
	Ino          tree.Ino
	Content      uint64 // its local number
	Size, Octets uint64 // of the message, and of the sealed form
	Key          uint64 // number of the key pair
}

// PreviousOctets are those of the sealed forms of s.Previous.
func (s *Sealed) PreviousOctets() (octets uint64) {
	for _, f := range s.Previous {
		octets += f.Octets
	}
	return octets
}

// Sealed looks through an account's files, with all that was acknowledged before the call: ErrNoSuchAccount.
func (d *Directory) Sealed(ctx context.Context, a *raftpb.Account) (*Sealed, error) {
	number := tree.Account(a.Number)
	for {
		sh, err := d.store.Home(number).find(ctx, (*Shard).ReadIndex)
		if err != nil {
			return nil, err
		}
		found, err := sealedIn(ctx, sh, a)
		if !errors.Is(err, syscall.ENOENT) {
			return found, err
		}
		if here, err := sh.has(ctx, number); err != nil || here { // else it has moved since it was found there
			return nil, errors.Join(err, ErrNoSuchAccount)
		}
	}
}

func sealedIn(ctx context.Context, sh *Shard, a *raftpb.Account) (*Sealed, error) {
	state, err := sh.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	found := new(Sealed)
	err = state.Records(tree.Account(a.Number), func(key, value []byte) error {
		in, err := tree.InodeOf(tree.Account(a.Number), key, value)
		if err != nil || in == nil || in.Content == 0 {
			return err
		}
		found.Files++
		found.Octets += in.SealedSize
		if in.Key != a.Key && a.Opens(in.Key) {
			found.Previous = append(found.Previous, SealedFile{in.Ino, in.Content, in.Size, in.SealedSize, in.Key})
		}
		return nil
	})
	return found, errors.Join(err, state.Close())
}

// Resealed lists the accounts whose contents are being sealed to a new key pair, by number.
func (d *Directory) Resealed() (list []*raftpb.Account, err error) {
	unfinished, err := d.state.UnfinishedAccounts()
	for _, a := range unfinished {
		if a.State == raftpb.AccountState_ACCOUNT_STATE_ACTIVE && a.IsResealed() {
			list = append(list, a)
		}
	}
	return list, err
}

// FenceKeys has the account's shard take no content any more that is sealed to a key pair of a lower number.
func (d *Directory) FenceKeys(ctx context.Context, n tree.Account, key uint64) error {
	r, err := d.store.admin.Propose(ctx, &raftpb.Command{Op: &raftpb.Command_FenceKeys{FenceKeys: &raftpb.FenceKeys{Account: uint32(n), Key: key}}})
	if err == nil {
		err = r.Err()
	}
	return err
}

// DropPreviousKeys forgets the account's previous private keys, if its record is still the one given; else errState.
func (d *Directory) DropPreviousKeys(ctx context.Context, a *raftpb.Account) error {
	return d.UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
		if now.Version != a.Version {
			return errState
		}
		now.PreviousKeys = nil
		return nil
	})
}

// Spend waits until so many octets may be moved within the bandwidth that is left to what need not be done at once (Config.CatchUpBandwidth).
func (s *Store) Spend(ctx context.Context, octets int) error { return s.spend(ctx, octets) }
