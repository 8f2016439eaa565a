package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"syscall"
	"time"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// An account moves to another shard while mail flows. Its record in the directory says so first (Account.moving_to); then the node that
// leads the directory does the rest, and whoever leads it next goes on:
//
//   - The records of its tree are copied from a snapshot of the shard that it is in, and again what has changed since, until that is little.
//   - The account is frozen there: nothing changes in it any more, and whoever wants to change it waits. The rest is copied, and with it
//     the account is whole in the other shard (EndImport).
//   - The directory says that it is there (shard, moved_from): whoever waited goes on there.
//   - What is left of it where it was is dropped, and the directory forgets the move.
//
// Two nodes may believe that they lead the directory. Neither hurts what the other does: a shard takes records of the attempt alone that
// began last, an account that is whole there can't be begun again, and what freezes or drops names the move, of which the shard knows the
// last (AccountRecord.Move): one that is over does nothing.

const (
	// few octets may be copied while the account is frozen: they go in one command.
	few = importBatch / 2
	// passes is after how many copies of what has changed the account is frozen all the same.
	passes = 10
	// moveAgain is when what could not be done is tried again.
	moveAgain = 2 * time.Second
	// stepTime bounds what a shard is asked for in a move: one that has no quorum must not keep other accounts from moving.
	stepTime = 30 * time.Second
)

// Errors of MoveAccount beside ErrNoSuchAccount; test with errors.Is.
var (
	ErrNoSuchShard = fmt.Errorf("no such shard: %w", syscall.ENOENT)
	ErrInShard     = fmt.Errorf("the account is in that shard: %w", syscall.EEXIST)
	ErrMoves       = fmt.Errorf("the account moves already: %w", syscall.EBUSY)
)

// MoveAccount has an account's tree go to another shard, and returns when it is there: with its inode numbers, UIDs and MODSEQs. It goes on
// when ctx ends: ErrNoSuchAccount, ErrNoSuchShard, ErrInShard; ErrMoves when it is going to yet another.
func (d *Directory) MoveAccount(ctx context.Context, n tree.Account, to uint32) error {
	if to == 0 || int(to) > len(d.store.Shards()) {
		return fmt.Errorf("shard %d, there are %d: %w", to, len(d.store.Shards()), ErrNoSuchShard)
	}
	changed, cancel := d.changes(n)
	defer cancel()
	if err := d.ReadIndex(ctx); err != nil {
		return err
	}
	var move uint64
	err := d.UpdateAccount(ctx, n, func(a *raftpb.Account) error {
		switch {
		case a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE:
			return ErrNoSuchAccount
		case a.MovingTo == to, a.Shard == to && a.MovedFrom != 0: // somebody had it move there
			move = a.Move
			return errJoined
		case a.MovingTo != 0 || a.MovedFrom != 0:
			return ErrMoves
		case a.Shard == to:
			return fmt.Errorf("shard %d: %w", to, ErrInShard)
		}
		a.MovingTo, a.Move = to, a.Version+1
		move = a.Move
		return nil
	})
	if err != nil && err != errJoined {
		return err
	}
	for {
		a, err := d.Account(n)
		if err != nil || a.Move > move || a.Move == move && !a.IsMoving() {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("account %d goes on moving to shard %d: %w", n, to, ctx.Err())
		}
	}
}

// changes tells when an account's record has changed here, until cancel is called.
func (d *Directory) changes(n tree.Account) (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	return c, d.Subscribe(func(ev DirectoryEvent) {
		if ev.Replaced || ev.Account == uint32(n) {
			wake(c)
		}
	})
}

// errJoined says that what is wanted is being done.
var errJoined = errors.New("it is being done")

// moveAccounts does the moves, one after the other, while this node leads the directory, until ctx ends.
func (s *Store) moveAccounts(ctx context.Context) {
	begun := make(chan struct{}, 1)
	cancel := s.directory.Subscribe(func(ev DirectoryEvent) {
		if ev.Moving {
			wake(begun)
		}
	})
	defer cancel()
	for ctx.Err() == nil {
		if s.directory.group.Leads() {
			s.moveAll(ctx)
		}
		select {
		case <-begun:
		case <-time.After(moveAgain):
		case <-ctx.Done():
		}
	}
}

func (s *Store) moveAll(ctx context.Context) {
	if len(s.moving()) == 0 || s.directory.ReadIndex(ctx) != nil { // else this node leads, and sees which moves are over
		return
	}
	for _, a := range s.moving() {
		// The move before took its time: this account may have been removed since, and another restored under its number.
		if s.directory.ReadIndex(ctx) != nil {
			return
		}
		now, err := s.directory.Account(tree.Account(a.Number))
		if err != nil || now.State != a.State || now.Move != a.Move || !now.IsMoving() {
			continue
		}
		a = now
		log := s.log.With("account", a.Address(), "move", a.Move)
		since := time.Now()
		switch err := s.move(ctx, a); {
		case errors.Is(err, errState), errors.Is(err, ErrNoSuchAccount), ctx.Err() != nil:
		case err != nil:
			log.Warn("moving an account: tried again", "from", a.Shard, "to", a.MovingTo, "error", err)
		default:
			log.Info("account moved", "took", time.Since(since))
		}
	}
}

// moving lists the accounts that move, as the directory here says.
func (s *Store) moving() []*raftpb.Account {
	unfinished, err := s.directory.state.UnfinishedAccounts()
	if err != nil {
		s.log.Error("reading which accounts move", "error", err)
	}
	return slices.DeleteFunc(unfinished, func(a *raftpb.Account) bool {
		return a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE || !a.IsMoving()
	})
}

// move takes a move up where it stands: errState when somebody else has done so, or removes the account.
func (s *Store) move(ctx context.Context, a *raftpb.Account) error {
	d := s.directory
	if a.MovingTo != 0 {
		if err := s.bring(ctx, a); err != nil {
			return errors.Join(err, s.abandon(ctx, a))
		}
		var there *raftpb.Account
		err := d.UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
			if now.State != a.State || now.Move != a.Move || now.MovingTo == 0 {
				return errState
			}
			now.Shard, now.MovedFrom, now.MovingTo = now.MovingTo, now.Shard, 0
			there = now
			return nil
		})
		if err != nil {
			return errors.Join(err, s.abandon(ctx, a))
		}
		a = there
	}
	asking, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if err := d.dropMoved(asking, a.Number, a.MovedFrom, a.Move); err != nil {
		return err
	}
	return d.UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
		if now.Move != a.Move || now.MovedFrom == 0 {
			return errState
		}
		now.MovedFrom = 0
		return nil
	})
}

// abandon drops what was brought of an account, if the move is over, or the account was removed.
func (s *Store) abandon(ctx context.Context, a *raftpb.Account) error {
	if err := s.directory.ReadIndex(ctx); err != nil {
		return err
	}
	now, err := s.directory.Account(tree.Account(a.Number))
	switch {
	case errors.Is(err, ErrNoSuchAccount), err == nil && now.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE:
		return s.directory.dropMoved(ctx, a.Number, a.MovingTo, a.Move) // what is whole there the removal drops; or it was restored there
	case err == nil && (now.Move != a.Move || now.MovingTo == 0):
		return s.directory.dropMoved(ctx, a.Number, a.MovingTo, a.Move)
	}
	return err
}

// bring copies the account's tree to the shard that it moves to, and has it frozen where it is.
func (s *Store) bring(ctx context.Context, a *raftpb.Account) error {
	from, err := s.shard(a)
	if err != nil {
		return err
	}
	to, err := s.shardNumber(a.MovingTo)
	if err != nil {
		return err
	}
	in := s.newImporter(to, a.Number, a.Move)
	in.throttled = true
	if err := in.begin(ctx); err == syscall.EEXIST {
		return s.brought(to, a)
	} else if err != nil {
		return err
	}
	c := copying{importer: in, from: from, account: tree.Account(a.Number)}
	defer c.close()
	for pass, last := 0, false; !last; pass++ {
		if pass == 0 {
			// Whoever began this move may have frozen it before he stopped: then all of it is waited for.
			last, err = c.isFrozen(ctx)
		} else if last = c.changed <= few || pass > passes; last { // after the first pass little has changed, unless that took long
			err = c.freeze(ctx)
		}
		if err != nil {
			return err
		}
		if err := c.pass(ctx); err != nil {
			return err
		}
	}
	if err := c.orphans(ctx); err != nil {
		return err
	}
	return in.end(ctx)
}

// brought makes sure that the account which is there is what this move has brought.
func (s *Store) brought(to *Shard, a *raftpb.Account) error {
	rec, err := to.View().Account(tree.Account(a.Number))
	if err == nil && (rec.Move != a.Move || rec.Frozen != 0) {
		err = fmt.Errorf("shard %d has the account, from another move (%d): %w", to.id, rec.Move, syscall.EEXIST)
	}
	return err
}

// copying brings an account from one shard into another, pass by pass: each from a snapshot, and what has changed since the one before.
type copying struct {
	*importer
	from    *Shard
	account tree.Account
	last    ShardSnapshot // what has been copied; nil: nothing
	changed uint64        // octets in the last pass
}

func (c *copying) close() {
	if c.last != nil {
		c.last.Close()
	}
}

// freeze has nothing change in the account any more where it comes from, and whatever is brought now be waited for.
func (c *copying) freeze(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	r, err := c.store.admin.ProposeIn(ctx, c.from, &raftpb.Command{Op: &raftpb.Command_FreezeAccount{FreezeAccount: &raftpb.FreezeAccount{
		Account: uint32(c.account), Shard: c.shard.id, Move: c.move,
	}}})
	if err == nil {
		err = r.Err()
	}
	c.frozen = err == nil
	return err
}

// isFrozen tells whether the account is frozen for this move already.
func (c *copying) isFrozen(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if err := c.from.ReadIndex(ctx); err != nil {
		return false, err
	}
	rec, err := c.from.View().Account(c.account)
	c.frozen = err == nil && rec.Frozen == c.shard.id && rec.Move == c.move
	return c.frozen, err
}

// content is one that an inode names.
type content struct{ number, sealed uint64 }

// pass copies what has changed since the pass before.
func (c *copying) pass(ctx context.Context) (err error) {
	asking, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if err := c.from.ReadIndex(asking); err != nil {
		return err
	}
	now, err := c.from.snapshot(asking)
	if err != nil {
		return err
	}
	contents, err := c.records(ctx, now)
	for i := 0; i < len(contents) && err == nil; i++ {
		piece := uint32(0)
		err = now.Content(c.account, contents[i].number, contents[i].sealed, func(b []byte) error {
			piece++
			return c.put(ctx, tree.PieceKey(contents[i].number, piece-1), slices.Clone(b))
		})
	}
	if err == nil {
		err = c.flush(ctx)
	}
	c.close()
	c.last = now
	return err
}

// records copies the records that are not as they were, and answers the contents that they name anew. A snapshot on another node serves one
// question at a time, so those come later.
func (c *copying) records(ctx context.Context, now ShardSnapshot) (contents []content, err error) {
	was, is := newRecords(c.last, c.account), newRecords(now, c.account)
	defer func() {
		for _, r := range []*records{was, is} {
			if e := r.stop(); err == nil {
				err = e
			}
		}
	}()
	c.changed = 0
	for err == nil && was.err == nil && is.err == nil && (was.more || is.more) {
		order := bytes.Compare(was.key, is.key)
		switch {
		case !is.more || was.more && order < 0: // gone
			contents, err = c.record(ctx, contents, was.key, was.value, nil)
			was.next()
		case !was.more || order > 0: // new
			contents, err = c.record(ctx, contents, is.key, nil, is.value)
			is.next()
		default:
			if !bytes.Equal(was.value, is.value) {
				contents, err = c.record(ctx, contents, is.key, was.value, is.value)
			}
			was.next()
			is.next()
		}
	}
	return contents, err
}

// record copies one that was other, or is not there any more: nil.
func (c *copying) record(ctx context.Context, contents []content, key, was, is []byte) ([]content, error) {
	c.changed += uint64(len(key) + len(is))
	var numbers [2]content
	for i, value := range [][]byte{was, is} {
		if value == nil {
			continue
		}
		var err error
		if numbers[i].number, numbers[i].sealed, err = tree.ContentOf(c.account, key, value); err != nil {
			return contents, err
		}
	}
	if numbers[0] != numbers[1] {
		if numbers[0].number != 0 {
			if err := c.remove(ctx, tree.ContentKey(numbers[0].number)); err != nil {
				return contents, err
			}
		}
		if numbers[1].number != 0 {
			contents = append(contents, numbers[1])
			c.changed += numbers[1].sealed
		}
	}
	if is == nil {
		return contents, c.remove(ctx, key)
	}
	return contents, c.put(ctx, slices.Clone(key), slices.Clone(is))
}

// orphans copies the contents that no inode names yet: large messages of which some has come.
func (c *copying) orphans(ctx context.Context) error {
	return c.last.Orphans(c.account, func(key, value []byte) error {
		return c.put(ctx, slices.Clone(key), slices.Clone(value))
	})
}

// records reads an account's records one after the other.
type records struct {
	key, value []byte // good until next
	more       bool

	pull func() ([2][]byte, bool)
	end  func()
	err  error
}

// errStopped ends the reading of records early.
var errStopped = errors.New("no more is wanted")

// newRecords begins with the first record; of nil there is none.
func newRecords(sn ShardSnapshot, a tree.Account) *records {
	r := &records{}
	r.pull, r.end = iter.Pull(func(yield func([2][]byte) bool) {
		if sn == nil {
			return
		}
		r.err = sn.Records(a, func(key, value []byte) error {
			if !yield([2][]byte{key, value}) {
				return errStopped
			}
			return nil
		})
	})
	r.next()
	return r
}

func (r *records) next() {
	var record [2][]byte
	record, r.more = r.pull()
	r.key, r.value = record[0], record[1]
}

// stop answers what was wrong with those that were read.
func (r *records) stop() error {
	r.end()
	if r.err == errStopped {
		return nil
	}
	return r.err
}
