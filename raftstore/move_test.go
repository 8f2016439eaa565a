package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// dump is all that the account's view shows, but for what a move may change: nothing.
func dump(t *testing.T, s *Store, a tree.Account) string {
	t.Helper()
	view, err := s.Home(a).ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var walk func(i tree.Ino)
	walk = func(i tree.Ino) {
		in, err := view.Inode(i)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%+v\n", *in)
		names, err := view.Xattrs(i)
		fmt.Fprintln(&b, names, err)
		if in.IsRegular() {
			sealed, err := view.ReadContent(in, nil)
			fmt.Fprintf(&b, "%x %v\n", sealed[:min(len(sealed), 64)], err)
		}
		if !in.IsDir() {
			return
		}
		r, err := view.OpenDir(i)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for de, ok := r.Next(); ok; de, ok = r.Next() {
			fmt.Fprintf(&b, "%+v\n", de)
			walk(de.Ino)
		}
	}
	walk(tree.RootIno(a))
	rec, err := view.Account(a)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, rec.NextLocal, rec.Bytes, rec.Files, rec.QuotaBytes, rec.UIDValidity)
	x, err := view.FolderIndex(tree.RootIno(a), 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%+v %+v %+v\n", *x.Folder, x.Messages, x.Vanished)
	return b.String()
}

// fill gives an account some of all that an account can have.
func fill(t *testing.T, p *Proposer, a tree.Account) {
	t.Helper()
	propose := func(cmd *raftpb.Command) {
		t.Helper()
		if r, err := p.Propose(t.Context(), cmd); err != nil || r.Errno != 0 {
			t.Fatal(r, err)
		}
	}
	ino := func() tree.Ino {
		i, err := p.ReserveIno(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	for i := range 20 {
		if err := deliver(t.Context(), p, a, fmt.Sprint("m", i), bytes.Repeat([]byte{byte(i)}, 100*i+1)); err != nil {
			t.Fatal(err)
		}
	}
	inbox, err := p.store.Home(a).View().Lookup(tree.RootIno(a), "new")
	if err != nil {
		t.Fatal(err)
	}
	folder := ino()
	propose(&raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(tree.RootIno(a)), Name: []byte(".Work"), Inode: uint64(folder), Mode: syscall.S_IFDIR | 0o700,
	}}})
	propose(&raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(tree.RootIno(a)), Name: []byte("link"), Inode: uint64(ino()), Mode: syscall.S_IFLNK | 0o777, Target: []byte("cur"),
	}}})
	propose(&raftpb.Command{Op: &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(inbox.Ino), Name: []byte("m3")}}})
	propose(&raftpb.Command{Op: &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{Inode: uint64(folder), Name: "user.x", Value: []byte("y")}}})
	whole := make([]byte, tree.MaxPiece+100)
	large := ino()
	putPieces(t, p, a, large, whole)
	propose(&raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(inbox.Ino), Name: []byte("large"), Inode: uint64(large), Mode: syscall.S_IFREG | 0o600,
		Content: &raftpb.Content{Id: uint64(large), SealedSize: uint64(len(whole)), Size: uint64(len(whole))},
	}}})
}

// putPieces brings the pieces of a content that is named later.
func putPieces(t *testing.T, p *Proposer, a tree.Account, content tree.Ino, sealed []byte) {
	t.Helper()
	for n := uint32(0); len(sealed) > 0; n++ {
		piece := sealed[:min(len(sealed), tree.MaxPiece)]
		sealed = sealed[len(piece):]
		r, err := p.Propose(t.Context(), &raftpb.Command{Op: &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{
			Account: uint32(a), Content: uint64(content), Number: n, Data: piece,
		}}})
		if err != nil || r.Errno != 0 {
			t.Fatal(r, err)
		}
	}
}

// checkClean fails the test when the store has something that can't be.
func checkClean(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Check(func([]byte) error { return nil }, func(p Problem) { t.Errorf("fsck: %+v", p) }); err != nil {
		t.Fatal(err)
	}
}

// An account is the same after it has moved, through all shards and back to where it was, and goes on as it would have: also a large
// message of which half had come.
func TestAnAccountMoves(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer func() { s.Close() }()
	a := tree.Account(addAccount(t, s, "alice@move.example").Number)
	other := tree.Account(addAccount(t, s, "bob@move.example").Number)
	p := s.NewProposer()
	fill(t, p, a)
	fill(t, p, other)
	half, err := p.ReserveIno(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	sealed := make([]byte, tree.MaxPiece+7)
	putPieces(t, p, a, half, sealed[:tree.MaxPiece])
	before, others := dump(t, s, a), dump(t, s, other)
	from, err := s.Shard(a)
	if err != nil {
		t.Fatal(err)
	}
	shards, last := uint32(len(s.Shards())), tree.ModSeq(0)
	for i := range uint32(5) {
		to := (from.ID()+i)%shards + 1
		if err := s.Directory().MoveAccount(t.Context(), a, to); err != nil {
			t.Fatal(err)
		}
		if now, err := s.Shard(a); err != nil || now.ID() != to {
			t.Fatalf("it is in shard %d, %v", now.ID(), err)
		}
		if after := dump(t, s, a); after != before {
			is, was := strings.Split(after, "\n"), strings.Split(before, "\n")
			for i := range min(len(is), len(was)) {
				if is[i] != was[i] {
					t.Errorf("in shard %d it is\n%s\nand it was\n%s", to, is[i], was[i])
				}
			}
			t.FailNow()
		}
		if err := deliver(t.Context(), p, a, fmt.Sprint("after", i), []byte("sealed")); err != nil {
			t.Fatal(err)
		}
		x, err := s.Home(a).View().FolderIndex(tree.RootIno(a), 0)
		if err != nil {
			t.Fatal(err)
		}
		if x.Folder.HighestModSeq <= last {
			t.Errorf("HIGHESTMODSEQ is %d after %d", x.Folder.HighestModSeq, last)
		}
		last = x.Folder.HighestModSeq
		before = dump(t, s, a)
		checkClean(t, s)
	}
	if dump(t, s, other) != others {
		t.Error("another account has changed")
	}
	new, err := s.Home(a).View().Lookup(tree.RootIno(a), "new")
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*raftpb.Command{
		{Op: &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{Account: uint32(a), Content: uint64(half), Number: 1, Data: sealed[tree.MaxPiece:]}}},
		{Op: &raftpb.Command_Create{Create: &raftpb.Create{
			Parent: uint64(new.Ino), Name: []byte("half"), Inode: uint64(half), Mode: syscall.S_IFREG | 0o600,
			Content: &raftpb.Content{Id: uint64(half), SealedSize: uint64(len(sealed)), Size: uint64(len(sealed))},
		}}},
	} {
		if r, err := p.Propose(t.Context(), cmd); err != nil || r.Errno != 0 {
			t.Fatal("what was begun before", r, err)
		}
	}
	checkClean(t, s)
	for _, wrong := range []struct {
		to   uint32
		what error
	}{{0, ErrNoSuchShard}, {shards + 1, ErrNoSuchShard}, {(from.ID()+4)%shards + 1, ErrInShard}} {
		if err := s.Directory().MoveAccount(t.Context(), a, wrong.to); !errors.Is(err, wrong.what) {
			t.Errorf("to shard %d: %v", wrong.to, err)
		}
	}
	if err := s.Directory().MoveAccount(t.Context(), 99, 1); !errors.Is(err, ErrNoSuchAccount) {
		t.Error(err)
	}
	// What has moved can be removed, and leaves nothing.
	if err := s.Directory().RemoveAccount(t.Context(), "alice", "move.example"); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s)
	for _, sh := range s.Shards() {
		if _, err := sh.View().Account(a); err != syscall.ENOENT {
			t.Errorf("shard %d has it yet: %v", sh.ID(), err)
		}
	}
}

// aMove is one of an account to another shard, as a mover reads it, of which the directory has not been told.
func aMove(t *testing.T, s *Store, a tree.Account) (from, to *Shard, record *raftpb.Account) {
	t.Helper()
	from, err := s.Shard(a)
	if err != nil {
		t.Fatal(err)
	}
	if record, err = s.Directory().Account(a); err != nil {
		t.Fatal(err)
	}
	to = s.Shards()[from.ID()%uint32(len(s.Shards()))]
	record.MovingTo, record.Move = to.ID(), record.Version+1
	return from, to, record
}

// isThere has the directory say that a move has brought the account.
func isThere(t *testing.T, s *Store, record *raftpb.Account) {
	t.Helper()
	err := s.Directory().UpdateAccount(t.Context(), tree.Account(record.Number), func(now *raftpb.Account) error {
		now.Shard, now.MovedFrom, now.Move = record.MovingTo, record.Shard, record.Move
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A node whose copy of the directory lags reads and writes an account where it is all the same, be it frozen yet where it was, or gone from
// there.
func TestAnAccountIsFoundByAStaleDirectory(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer func() { s.Close() }()
	a := tree.Account(addAccount(t, s, "alice@move.example").Number)
	r, err := s.NewProposer().Propose(t.Context(), &raftpb.Command{Op: &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{
		Inode: uint64(tree.RootIno(a)), Name: "user.x", Value: []byte("y"),
	}}})
	if err != nil || r.Errno != 0 {
		t.Fatal(r, err)
	}
	// What a move does, without its last step.
	from, to, record := aMove(t, s, a)
	if err := s.bring(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	err = s.Directory().UpdateAccount(t.Context(), a, func(now *raftpb.Account) error {
		now.Shard, now.Move = to.ID(), record.Move
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, left := range []func(){
		func() {},
		func() {
			if err := s.Directory().dropMoved(t.Context(), uint32(a), from.ID(), record.Move); err != nil {
				t.Fatal(err)
			}
		},
	} {
		left()
		s.directory.shards.set(uint32(a), from.ID())
		name := fmt.Sprint("m", i)
		if err := deliver(t.Context(), s.NewProposer(), a, name, []byte("sealed")); err != nil {
			t.Fatal(err)
		}
		s.directory.shards.set(uint32(a), from.ID())
		if attr, err := s.Home(a).View().Xattr(tree.RootIno(a), "user.x"); err != nil || string(attr) != "y" {
			t.Errorf("an attribute is %q, %v", attr, err)
		}
		s.directory.shards.set(uint32(a), from.ID())
		if attrs, err := s.Home(a).View().Xattrs(tree.RootIno(a)); err != nil || len(attrs) != 1 {
			t.Errorf("the attributes are %q, %v", attrs, err)
		}
		s.directory.shards.set(uint32(a), from.ID())
		names, err := (&member{Store: s}).listed(t.Context(), a)
		if err != nil || !names[name] {
			t.Errorf("what was delivered is not listed: %v, %v", names, err)
		}
		view, err := s.Home(a).Barrier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if in, err := view.Inode(tree.RootIno(a)); err != nil || in.Messages != uint64(i+1) {
			t.Errorf("%+v, %v", in, err)
		}
	}
	if _, err := s.Home(a).View().Inode(tree.RootIno(a)); err != nil {
		t.Error(err)
	}
	s.directory.moved(uint32(a))
	checkClean(t, s)
}

// A move that is over does nothing any more, whoever goes on with it late.
func TestALateMoverHurtsNobody(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer func() { s.Close() }()
	a := tree.Account(addAccount(t, s, "alice@move.example").Number)
	p := s.NewProposer()
	fill(t, p, a)
	home, err := s.Shard(a)
	if err != nil {
		t.Fatal(err)
	}
	away := s.Shards()[home.ID()%uint32(len(s.Shards()))]
	var late []*raftpb.Account // as a mover has read it
	for _, to := range []*Shard{away, home, away, home} {
		if err := s.Directory().MoveAccount(t.Context(), a, to.ID()); err != nil {
			t.Fatal(err)
		}
		now, err := s.Directory().Account(a)
		if err != nil {
			t.Fatal(err)
		}
		moving, moved := proto.CloneOf(now), proto.CloneOf(now)
		moving.Shard, moving.MovingTo = home.ID()+away.ID()-to.ID(), to.ID()
		moved.MovedFrom = moving.Shard
		late = append(late, moving, moved)
	}
	before := dump(t, s, a)
	for i, record := range late {
		err := s.move(t.Context(), record)
		if i < len(late)-1 && err == nil {
			t.Errorf("record %d: %v", i, record)
		}
		if dump(t, s, a) != before {
			t.Fatalf("after a late move of %v the account is another one", record)
		}
		for _, sh := range s.Shards() {
			if r, err := p.ProposeIn(t.Context(), sh, &raftpb.Command{Op: &raftpb.Command_EndImport{EndImport: &raftpb.EndImport{Account: uint32(a)}}}); err != nil || r.Errno != syscall.ENOENT {
				t.Errorf("after a late move of %v shard %d has something of it: %v, %v", record, sh.ID(), r.Errno, err)
			}
		}
	}
	if err := deliver(t.Context(), p, a, "after", []byte("sealed")); err != nil {
		t.Fatal(err)
	}
}

// restored removes an account and brings it back as it was, under its number.
func restored(t *testing.T, s *Store, a tree.Account) {
	t.Helper()
	record, err := s.Directory().Account(a)
	if err != nil {
		t.Fatal(err)
	}
	sn, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	if err := s.Directory().RemoveAccount(t.Context(), record.LocalPart, record.Domain); err != nil {
		t.Fatal(err)
	}
	err = s.Directory().RestoreAccount(t.Context(), record, func(put func(key, value []byte) error) error {
		shard := sn.Shard(record)
		return shard.Records(a, func(key, value []byte) error {
			content, sealed, err := tree.ContentOf(a, key, value)
			if err != nil {
				return err
			}
			piece := uint32(0)
			err = shard.Content(a, content, sealed, func(b []byte) error {
				piece++
				return put(tree.PieceKey(content, piece-1), bytes.Clone(b))
			})
			if err != nil {
				return err
			}
			return put(bytes.Clone(key), bytes.Clone(value))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Who moves an account, makes it or removes it, and goes on late, does nothing to one that was restored under its number meanwhile.
func TestARestoredAccountIsAnother(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer func() { s.Close() }()
	a := tree.Account(addAccount(t, s, "alice@move.example").Number)
	p := s.NewProposer()
	fill(t, p, a)
	home, err := s.Shard(a)
	if err != nil {
		t.Fatal(err)
	}
	away := s.Shards()[home.ID()%uint32(len(s.Shards()))]
	if err := s.Directory().MoveAccount(t.Context(), a, away.ID()); err != nil {
		t.Fatal(err)
	}
	// As somebody read it just before it was removed.
	was, err := s.Directory().Account(a)
	if err != nil {
		t.Fatal(err)
	}
	moving, removing, creating := proto.CloneOf(was), proto.CloneOf(was), proto.CloneOf(was)
	moving.MovingTo, moving.Move = home.ID(), was.Version+1
	moving.Version++
	removing.State = raftpb.AccountState_ACCOUNT_STATE_REMOVING
	removing.Version++
	creating.State, creating.Version = raftpb.AccountState_ACCOUNT_STATE_CREATING, 1

	restored(t, s, a)
	now, err := s.Directory().Account(a)
	if err != nil || now.Move <= moving.Move || now.Version <= removing.Version {
		t.Fatalf("restored as %v, %v; it was %v", now, err, was)
	}
	before := dump(t, s, a)
	if err := s.move(t.Context(), moving); err == nil {
		t.Error("a late mover has moved it")
	}
	if err := s.Directory().drop(t.Context(), removing); err != nil {
		t.Error("a late removal:", err)
	}
	if err := s.Directory().takeBack(t.Context(), []*raftpb.Account{creating}); !errors.Is(err, errActive) {
		t.Error("a late maker:", err)
	}
	if after := dump(t, s, a); after != before {
		t.Errorf("it is\n%s\nand was\n%s", after, before)
	}
	if err := deliver(t.Context(), p, a, "after", []byte("sealed")); err != nil {
		t.Error("it takes no mail:", err)
	}
	checkClean(t, s)
	if err := s.Directory().MoveAccount(t.Context(), a, home.ID()); err != nil {
		t.Error("it does not move:", err)
	}
	checkClean(t, s)
	if err := s.Directory().RemoveAccount(t.Context(), "alice", "move.example"); err != nil {
		t.Error(err)
	}
	for _, sh := range s.Shards() {
		if _, err := sh.View().Account(a); err != syscall.ENOENT {
			t.Errorf("shard %d has it yet: %v", sh.ID(), err)
		}
	}
}

// Who found an account frozen goes on at once when it has left and come back before he looked.
func TestAnAccountThatCameBackIsNotWaitedFor(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer func() { s.Close() }()
	a := tree.Account(addAccount(t, s, "alice@move.example").Number)
	sh, err := s.Shard(a)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if now, err := s.Home(a).awaitMove(ctx, sh); err != nil || now != sh {
		t.Error(now, err)
	}
}

// Who takes up a move that froze the account goes on with it frozen: unthrottled, and in one pass.
func TestAFrozenAccountIsBroughtAtOnce(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer func() { s.Close() }()
	a := tree.Account(addAccount(t, s, "alice@move.example").Number)
	p := s.NewProposer()
	fill(t, p, a)
	before := dump(t, s, a)
	from, to, record := aMove(t, s, a)
	stopped := copying{importer: s.newImporter(to, uint32(a), record.Move), from: from, account: a}
	if err := stopped.freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.space.minFree = full // of which a half may be used; here there is not even that
	if err := s.bring(t.Context(), record); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("more than half of the reserve is used: %v", err)
	}
	free, _, err := s.space.free()
	if err != nil {
		t.Fatal(err)
	}
	s.space.minFree = free + free/2 // the disk is in the reserve
	if err := s.bring(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	isThere(t, s, record)
	if after := dump(t, s, a); after != before {
		t.Errorf("it is\n%s\nand was\n%s", after, before)
	}
}

// The end of a move may use the disk's reserve: as long as it is not done, nobody can write to the account, nor remove anything.
func TestAMoveEndsOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a := tree.Account(addAccount(t, s, "alice@move.example").Number)
	p := s.NewProposer()
	fill(t, p, a)
	before := dump(t, s, a)
	from, to, record := aMove(t, s, a)
	free, _, err := s.space.free()
	if err != nil {
		t.Fatal(err)
	}
	reserve := free + free/2 // so much is wanted that the disk is in it
	for _, minFree := range []uint64{reserve, 0} {
		c := copying{importer: s.newImporter(to, uint32(a), record.Move), from: from, account: a}
		defer c.close()
		s.space.minFree = 0
		if err := c.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.space.minFree = minFree
		err := c.pass(t.Context())
		if minFree == reserve {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("what nobody waits for yet: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		s.space.minFree = reserve
		for _, step := range []func(context.Context) error{c.freeze, c.pass, c.orphans, c.end} {
			if err := step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	isThere(t, s, record)
	if after := dump(t, s, a); after != before {
		t.Errorf("it is\n%s\nand was\n%s", after, before)
	}
}

// A move stops wherever its node does, and another takes it up, or several at once do: nothing is lost, and nothing is there twice. Mail is
// delivered on all nodes meanwhile, and each listing, on any node, has all that was acknowledged before.
func TestAccountsMoveUnderLoad(t *testing.T) {
	nodes := newCluster(t, 3)
	var accounts []tree.Account
	for i := range 3 {
		accounts = append(accounts, tree.Account(addAccount(t, nodes[i].Store, fmt.Sprintf("u%d@move.example", i)).Number))
	}
	settle(t, nodes)
	mail := newMail(t, nodes, accounts)
	defer mail.end()
	// Movers that stop anywhere, beside the one that the directory's leader is.
	var stray sync.WaitGroup
	var taken atomic.Int64
	for _, n := range nodes {
		stray.Go(func() {
			for mail.ctx.Err() == nil {
				unfinished, err := n.directory.state.UnfinishedAccounts()
				if err != nil {
					t.Error(err)
					return
				}
				for _, a := range unfinished {
					short, stop := context.WithTimeout(mail.ctx, rand.N(100*time.Millisecond))
					if n.move(short, a) == nil {
						taken.Add(1)
					}
					stop()
				}
				time.Sleep(rand.N(3 * time.Second)) // each begins anew: else none would come to its end
			}
		})
	}
	const moves = 40
	for i := range moves {
		a := accounts[i%len(accounts)]
		sh, err := nodes[i%3].Shard(a)
		if err != nil {
			t.Fatal(err)
		}
		to := (sh.ID()+rand.N(uint32(3)))%4 + 1
		within, stop := context.WithTimeout(mail.ctx, time.Minute)
		err = nodes[rand.N(3)].Directory().MoveAccount(within, a, to)
		stop()
		if err != nil && !errors.Is(err, ErrInShard) && !errors.Is(err, ErrMoves) { // this node's copy of the directory may lag
			t.Fatalf("move %d, of account %d to shard %d: %v", i, a, to, err)
		}
	}
	mail.end()
	stray.Wait()
	count := 0
	for _, a := range accounts {
		names, err := nodes[0].listed(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		count += len(names)
		for _, want := range mail.delivered[a] {
			if !names[want] {
				t.Errorf("account %d has lost %s", a, want)
			}
		}
		x, err := nodes[1].Home(a).View().FolderIndex(tree.RootIno(a), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Messages) != len(mail.delivered[a]) || int(x.Folder.UIDNext) != len(mail.delivered[a])+1 {
			t.Errorf("account %d has %d messages up to UID %d, %d were acknowledged", a, len(x.Messages), x.Folder.UIDNext, len(mail.delivered[a]))
		}
	}
	t.Logf("%d moves, %d of them ended by strays; %d messages", moves, taken.Load(), count)
	for _, n := range nodes {
		checkClean(t, n.Store)
	}
}
