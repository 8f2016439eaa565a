package raftstore

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Snapshot is what a store held at one moment, for a copy of it: each account's mail at one index of its shard, with all that was
// acknowledged before Store.Snapshot was called.
type Snapshot struct {
	Domains  []Domain
	Aliases  []Alias
	Accounts []*raftpb.Account // active ones

	shards map[uint32]ShardSnapshot
}

// Snapshot takes the shards' states first and the directory after them: what the directory says of an account then is as new as its
// mail, or newer. An account that was made in between is not in it, one that was removed neither. One that has moved in between could be in
// none, and one that has dropped its previous keys could not be read: then all are taken again.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	for {
		sn := &Snapshot{shards: map[uint32]ShardSnapshot{}}
		changed, err := s.snapshot(ctx, sn)
		if err == nil && !changed {
			return sn, nil
		}
		if err = errors.Join(err, sn.Close()); err != nil {
			return nil, err
		}
	}
}

// snapshot fills sn, and tells whether an account has moved meanwhile, or dropped a key that some of its contents in sn may be sealed to.
func (s *Store) snapshot(ctx context.Context, sn *Snapshot) (changed bool, err error) {
	before, err := s.snapshotShards(ctx, sn)
	if err != nil {
		return false, err
	}
	return s.snapshotDirectory(ctx, sn, before)
}

// asBefore is what must be so yet when the directory is read, for that to fit to the shards' states.
type asBefore struct {
	moves  uint64
	oldest map[uint32]uint64 // by account: the first key of those that open its contents
}

func (s *Store) snapshotShards(ctx context.Context, sn *Snapshot) (asBefore, error) {
	b := asBefore{oldest: map[uint32]uint64{}}
	if err := s.directory.ReadIndex(ctx); err != nil {
		return b, err
	}
	b.moves = s.directory.moves.Load()
	err := s.directory.state.AllAccounts(func(a *raftpb.Account) bool {
		b.oldest[a.Number] = a.OldestKey()
		return true
	})
	if err != nil {
		return b, err
	}
	for _, sh := range s.Shards() {
		if err := sh.ReadIndex(ctx); err != nil {
			return b, err
		}
		state, err := sh.snapshot(ctx)
		if err != nil {
			return b, err
		}
		sn.shards[sh.id] = state
	}
	return b, nil
}

func (s *Store) snapshotDirectory(ctx context.Context, sn *Snapshot, before asBefore) (changed bool, err error) {
	if err := s.directory.ReadIndex(ctx); err != nil {
		return false, err
	}
	err = s.directory.state.AllAccounts(func(a *raftpb.Account) bool {
		if a.State == raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
			sn.Accounts = append(sn.Accounts, a)
		}
		if was, known := before.oldest[a.Number]; known && was < a.OldestKey() {
			changed = true
		}
		return true
	})
	if err != nil {
		return false, err
	}
	if sn.Domains, err = s.directory.Domains(); err != nil {
		return false, err
	}
	for _, dom := range sn.Domains {
		aliases, err := s.directory.Aliases(dom.Name)
		if err != nil {
			return false, err
		}
		sn.Aliases = append(sn.Aliases, aliases...)
	}
	return changed || s.directory.moves.Load() != before.moves, nil
}

// ShardSnapshot is the state of a shard, on this node or another: a *tree.Snapshot, whose methods it has.
type ShardSnapshot interface {
	Records(a tree.Account, fn func(key, value []byte) error) error
	Content(a tree.Account, content, sealed uint64, fn func(piece []byte) error) error
	Orphans(a tree.Account, fn func(key, value []byte) error) error
	Close() error
}

// snapshot takes the shard's state as it is read now.
func (sh *Shard) snapshot(ctx context.Context) (ShardSnapshot, error) {
	if r, release := sh.use(); r != nil {
		defer release()
		return r.tree.View().Snapshot(), nil
	}
	return sh.reads.Snapshot(ctx)
}

// Shard is the state of the account's shard; nil when there is no such shard.
func (sn *Snapshot) Shard(a *raftpb.Account) ShardSnapshot { return sn.shards[a.Shard] }

// Close lets the states go.
func (sn *Snapshot) Close() error {
	var errs []error
	for _, sh := range sn.shards {
		errs = append(errs, sh.Close())
	}
	return errors.Join(errs...)
}

// RestoreAccount adds an account as it was: under its number, to which its key slots are bound, with the records of its tree, which
// records hands to put (the value may be kept). Its domain must be there. It takes mail when RestoreAccount returns, and is not there
// after an error. Errors: ErrExists for its address, or its number (then the account belongs to another cluster); ErrNoSuchDomain.
func (d *Directory) RestoreAccount(ctx context.Context, was *raftpb.Account, records func(put func(key, value []byte) error) error) error {
	address := was.Address()
	a := proto.CloneOf(was)
	a.MovingTo, a.MovedFrom, a.Move = 0, 0, 0 // the directory gives it a move that is later than all that it may have had here
	a.Shard = (was.Shard+uint32(len(d.store.shards))-1)%uint32(len(d.store.shards)) + 1
	if err := d.free(a.LocalPart, a.Domain); err != nil {
		return err
	}
	if other, err := d.Account(tree.Account(a.Number)); err == nil {
		return fmt.Errorf("account %s has the number %d, which is that of %s@%s here: %w", address, a.Number, other.LocalPart, other.Domain, ErrExists)
	}
	version, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_RestoreAccount{RestoreAccount: &raftpb.RestoreAccount{Account: proto.CloneOf(a)}}})
	if err != nil {
		return named(err, "account "+address, ErrNoSuchDomain)
	}
	a.State, a.Version, a.Move = raftpb.AccountState_ACCOUNT_STATE_CREATING, version, version
	err = d.importTree(ctx, a, records)
	if err == nil {
		err = d.UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
			if now.Version != version { // somebody took this for cut short, and drops it
				return errState
			}
			now.State = raftpb.AccountState_ACCOUNT_STATE_ACTIVE
			return nil
		})
	}
	if err != nil {
		derr := d.drop(context.WithoutCancel(ctx), a)
		return errors.Join(fmt.Errorf("account %s: %w", address, err), derr)
	}
	return nil
}

// importTree brings the records of an account's tree into its shard.
func (d *Directory) importTree(ctx context.Context, a *raftpb.Account, records func(put func(key, value []byte) error) error) error {
	sh, err := d.store.shard(a)
	if err != nil {
		return err
	}
	in := d.store.newImporter(sh, a.Number, a.Move)
	if err := in.begin(ctx); err != nil {
		return err
	}
	if err := records(func(key, value []byte) error { return in.put(ctx, key, value) }); err != nil {
		return err
	}
	return in.end(ctx)
}
