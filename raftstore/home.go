package raftstore

import (
	"context"
	"syscall"
	"time"

	"mailraft/raftstore/tree"
)

// Home is where an account's tree is: in one shard, until it moves to another (move.go). Which one the directory says, whose copy here may
// lag: so whoever finds the account frozen in its shard, or not there, asks the directory for what it says now. Where the account is
// not frozen it is, and nowhere else.
type Home struct {
	store   *Store
	account tree.Account
}

// Home answers where the account's tree is.
func (s *Store) Home(a tree.Account) Home { return Home{s, a} }

func (h Home) shard() (*Shard, error) { return h.store.Shard(h.account) }

// View reads the account as it was seen last here. It is good as long as the store.
func (h Home) View() tree.Reader { return view{home: &h} }

// ReadIndex answers a reader that shows everything that any node acknowledged before the call.
func (h Home) ReadIndex(ctx context.Context) (tree.Reader, error) {
	sh, err := h.find(ctx, (*Shard).ReadIndex)
	return view{sh, &h}, err
}

// Barrier answers a reader that shows everything that was proposed in the account before the call and will ever be committed: also what
// got no answer.
func (h Home) Barrier(ctx context.Context) (tree.Reader, error) {
	sh, err := h.find(ctx, (*Shard).Barrier)
	return view{sh, &h}, err
}

// find answers the shard that the account was in when ask had its answer there.
func (h Home) find(ctx context.Context, ask func(*Shard, context.Context) error) (*Shard, error) {
	sh, err := h.shard()
	for err == nil {
		if err = ask(sh, ctx); err != nil {
			break
		}
		// What was proposed before the account was frozen has come with it; what came later was refused.
		var now *Shard
		if now, err = h.follow(ctx, sh); err == nil && now == sh {
			return sh, nil
		}
		sh = now
	}
	return nil, err
}

// follow answers the shard that the account is in now, when sh is where it was: also while it is frozen there, as nothing changes in it
// before the directory says where it went. ErrNoSuchAccount.
func (h Home) follow(ctx context.Context, sh *Shard) (*Shard, error) {
	if here, err := sh.has(ctx, h.account); err != nil || here {
		return sh, err
	}
	return h.ask(ctx)
}

// ask answers what the directory says now: ErrNoSuchAccount.
func (h Home) ask(ctx context.Context) (*Shard, error) {
	if err := h.store.directory.ReadIndex(ctx); err != nil {
		return nil, err
	}
	a, err := h.store.directory.Account(h.account)
	if err != nil {
		return nil, err
	}
	return h.store.shard(a)
}

// awaitMove answers where an account that was frozen in sh changes again, as soon as it does: ErrNoSuchAccount.
func (h Home) awaitMove(ctx context.Context, sh *Shard) (*Shard, error) {
	changed, cancel := h.store.directory.changes(h.account)
	defer cancel()
	for {
		now, err := h.ask(ctx)
		if err != nil || now != sh {
			return now, err
		}
		if here, err := sh.has(ctx, h.account); err != nil || here { // it has left and come back
			return sh, err
		}
		select {
		case <-changed:
		case <-time.After(time.Second): // the directory's copy here may lag
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// has tells whether the account's tree is in the shard and changes there, as it is seen here.
func (sh *Shard) has(ctx context.Context, a tree.Account) (bool, error) {
	r, release := sh.use()
	defer release()
	if r == nil {
		return sh.reads.Has(ctx, a)
	}
	rec, err := r.tree.View().Account(a)
	if err == syscall.ENOENT {
		return false, nil
	}
	return err == nil && rec.Frozen == 0, err
}
