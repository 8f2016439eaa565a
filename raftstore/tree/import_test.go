package tree

import (
	"bytes"
	"encoding/binary"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
)

// recordsOf are an account's records, contents too, as ImportRecords takes them.
func recordsOf(t *testing.T, v *View, a Account) (list []*raftpb.Record) {
	t.Helper()
	snap := v.Snapshot()
	defer snap.Close()
	err := snap.Records(a, func(key, value []byte) error {
		list = append(list, &raftpb.Record{Key: bytes.Clone(key), Value: bytes.Clone(value)})
		content, sealed, err := ContentOf(a, key, value)
		if err != nil || content == 0 {
			return err
		}
		n := uint32(0)
		return snap.Content(a, content, sealed, func(piece []byte) error {
			list = append(list, &raftpb.Record{Key: PieceKey(content, n), Value: bytes.Clone(piece)})
			n++
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func begin(a uint32) *raftpb.Command {
	return &raftpb.Command{Op: &raftpb.Command_BeginImport{BeginImport: &raftpb.BeginImport{Account: a}}}
}

func bring(a uint32, list ...*raftpb.Record) *raftpb.Command {
	return &raftpb.Command{Op: &raftpb.Command_ImportRecords{ImportRecords: &raftpb.ImportRecords{Account: a, Records: list}}}
}

func end(a uint32) *raftpb.Command {
	return &raftpb.Command{Op: &raftpb.Command_EndImport{EndImport: &raftpb.EndImport{Account: a}}}
}

// applier applies and commits commands one after the other, whose answers must be as wanted. index is that of the last.
func applier(t *testing.T, r *replica, index *uint64) func(want syscall.Errno, cmd *raftpb.Command) {
	return func(want syscall.Errno, cmd *raftpb.Command) {
		t.Helper()
		*index++
		if res := r.apply(*index, cmd); res.Errno != want {
			t.Fatalf("%v: %v, want %v", cmd, res.Errno, want)
		}
		r.commit()
	}
}

// TestImport copies an account's records to a tree whose index is far behind: all that it shows is the same, and what changes then has
// a greater MODSEQ than all before.
func TestImport(t *testing.T) {
	from := newScene(t)
	list := recordsOf(t, from.tree.View(), 1)
	was, err := from.tree.View().FolderIndex(sceneFolder, 0)
	if err != nil || was.Folder.HighestModSeq < 5 || len(was.Messages) == 0 {
		t.Fatalf("%+v, %v", was, err)
	}

	r := newReplica(t, vfs.NewMem(), 10)
	index := uint64(0)
	apply := applier(t, r, &index)
	sound := func() {
		t.Helper()
		if err := Check(r.tree.View(), func(p Problem) { t.Error(p) }); err != nil {
			t.Fatal(err)
		}
	}
	apply(syscall.ENOENT, bring(1, list...))
	apply(syscall.ENOENT, end(1))
	apply(0, begin(1))
	apply(syscall.EINVAL, end(1))
	apply(0, bring(1, list...))
	sound()
	unseen(t, r.tree.View(), from.tree.View(), list)
	apply(syscall.EEXIST, &raftpb.Command{Op: &raftpb.Command_CreateAccount{CreateAccount: &raftpb.CreateAccount{Account: 1}}})
	apply(syscall.ENOENT, &raftpb.Command{Op: &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(MakeIno(1, 3)), Name: []byte("x")}}})
	apply(0, begin(1)) // cut off, and begun again
	apply(0, bring(1, list...))
	apply(0, begin(2)) // and one that is given up
	apply(0, bring(2, list[1]))
	apply(0, &raftpb.Command{Op: &raftpb.Command_RemoveAccount{RemoveAccount: &raftpb.RemoveAccount{Account: 2, Until: 9}}})
	for _, bad := range []*raftpb.Record{
		{Key: []byte("a"), Value: []byte{2}}, {Key: []byte("t"), Value: []byte{1}}, {Key: nil}, {Key: []byte("zxxxxxxxx")},
		{Key: list[1].Key[:5], Value: list[1].Value}, {Key: list[1].Key, Value: append(bytes.Clone(list[1].Value), 0)},
		{Key: PieceKey(9, 0)}, {Key: PieceKey(0, 0), Value: []byte("x")}, {Key: PieceKey(1<<40, 0), Value: []byte("x")},
	} {
		apply(syscall.EINVAL, bring(1, bad))
	}
	apply(0, end(1))
	apply(syscall.EEXIST, begin(1))
	apply(syscall.ENOENT, bring(1, list...))
	sound()

	now, err := r.tree.View().FolderIndex(sceneFolder, 0)
	if err != nil || now.Folder.HighestModSeq != was.Folder.HighestModSeq || len(now.Messages) != len(was.Messages) {
		t.Fatalf("%+v, %v, want %+v", now, err, was)
	}
	for i, m := range now.Messages {
		if m != was.Messages[i] {
			t.Errorf("%+v, want %+v", m, was.Messages[i])
		}
	}
	mtime := int64(1)
	apply(0, &raftpb.Command{Op: &raftpb.Command_SetAttr{SetAttr: &raftpb.SetAttr{Inode: uint64(now.Messages[0].Ino), Mtime: &mtime}}})
	changed, err := r.tree.View().FolderIndex(sceneFolder, was.Folder.HighestModSeq)
	if err != nil || len(changed.Messages) != 1 || changed.Messages[0].ModSeq <= was.Folder.HighestModSeq {
		t.Errorf("changed since: %+v, %v", changed, err)
	}
	sound()

	// Once more, to a tree that is further: no base is needed.
	again := recordsOf(t, r.tree.View(), 1)
	r2 := newReplica(t, vfs.NewMem(), 10)
	for i, cmd := range []*raftpb.Command{begin(1), bring(1, again...), end(1)} {
		if res := r2.apply(uint64(100_000+i), cmd); res.Errno != 0 {
			t.Fatal(res.Errno)
		}
		r2.commit()
	}
	if a, err := r2.tree.View().Account(1); err != nil || a.ModSeqBase != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := r.tree.View().Account(1); err != nil || a.ModSeqBase == 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestFrozen: nothing changes in an account that goes to another shard, and what is asked for by a move that is over does nothing.
func TestFrozen(t *testing.T) {
	s := newScene(t)
	defer s.close()
	index := uint64(1000)
	apply := applier(t, s.replica, &index)
	freeze := func(shard uint32, move uint64) *raftpb.Command {
		return &raftpb.Command{Op: &raftpb.Command_FreezeAccount{FreezeAccount: &raftpb.FreezeAccount{Account: 1, Shard: shard, Move: move}}}
	}
	drop := func(move uint64) *raftpb.Command {
		return &raftpb.Command{Op: &raftpb.Command_RemoveAccount{RemoveAccount: &raftpb.RemoveAccount{Account: 1, Move: move}}}
	}
	var told []*Event
	s.tree.Subscribe(func(ev *Event) { told = append(told, ev) })
	apply(syscall.EINVAL, freeze(2, 0))
	apply(syscall.ESTALE, drop(7))
	apply(0, freeze(2, 7))
	apply(0, freeze(2, 7))
	apply(syscall.ESTALE, freeze(2, 6))
	if len(told) != 1 || len(told[0].Changes) != 1 || told[0].Account != 1 || told[0].Changes[0].Kind != AccountFrozen {
		t.Errorf("told %+v", told)
	}
	before := recordsOf(t, s.tree.View(), 1)
	home := uint64(RootIno(1))
	for _, cmd := range []*raftpb.Command{
		{Op: &raftpb.Command_SetQuota{SetQuota: &raftpb.SetQuota{Account: 1}}},
		{Op: &raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: 1, Count: 1}}},
		{Op: &raftpb.Command_Create{Create: &raftpb.Create{Parent: home}}},
		{Op: &raftpb.Command_Link{Link: &raftpb.Link{Parent: home}}},
		{Op: &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: home}}},
		{Op: &raftpb.Command_Rename{Rename: &raftpb.Rename{OldParent: home}}},
		{Op: &raftpb.Command_SetAttr{SetAttr: &raftpb.SetAttr{Inode: home}}},
		{Op: &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{Inode: home}}},
		{Op: &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{Account: 1}}},
		{Op: &raftpb.Command_DropContent{DropContent: &raftpb.DropContent{Account: 1}}},
		{Op: &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{Inode: home}}},
		{Op: &raftpb.Command_RemoveXattr{RemoveXattr: &raftpb.RemoveXattr{Inode: home}}},
	} {
		apply(syscall.EREMCHG, cmd)
	}
	apply(syscall.EEXIST, begin(1))
	apply(syscall.ESTALE, drop(6))
	if after := recordsOf(t, s.tree.View(), 1); !slices.EqualFunc(before, after, func(a, b *raftpb.Record) bool { return proto.Equal(a, b) }) {
		t.Error("it has changed")
	}
	told = nil
	apply(0, drop(7))
	if len(told) > 0 {
		t.Errorf("that it was dropped where it was is told: %+v", told[0])
	}
	// It comes back, and is not frozen; the move that took it away can't do that again.
	apply(0, &raftpb.Command{Op: &raftpb.Command_BeginImport{BeginImport: &raftpb.BeginImport{Account: 1, Attempt: 5, Move: 9}}})
	apply(syscall.ESTALE, bring(1, before...))
	apply(syscall.ESTALE, end(1))
	apply(syscall.ESTALE, drop(7))
	more := bring(1, before...)
	more.GetImportRecords().Attempt = 5
	apply(0, more)
	apply(0, &raftpb.Command{Op: &raftpb.Command_EndImport{EndImport: &raftpb.EndImport{Account: 1, Attempt: 5}}})
	rec, err := s.tree.View().Account(1)
	if err != nil || rec.Frozen != 0 || rec.Move != 9 {
		t.Fatalf("%+v, %v", rec, err)
	}
	apply(syscall.ESTALE, freeze(2, 7))
	apply(syscall.ESTALE, drop(7))
	apply(0, &raftpb.Command{Op: &raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: 1, Count: 1}}})
	if err := Check(s.tree.View(), func(p Problem) { t.Error(p) }); err != nil {
		t.Fatal(err)
	}
}

// unseen makes sure that no reader finds anything of account 1 in v, where the records of a list from another tree have come.
func unseen(t *testing.T, v, from *View, list []*raftpb.Record) {
	t.Helper()
	want := func(what string, err error) {
		t.Helper()
		if err != syscall.ENOENT {
			t.Errorf("%s of an account that is being brought: %v", what, err)
		}
	}
	_, err := v.Account(1)
	want("the counters", err)
	_, err = v.Lookup(RootIno(1), "new")
	want("a name", err)
	_, err = v.FolderIndex(sceneFolder, 0)
	want("a folder", err)
	for _, r := range list {
		if r.Key[0] != kindInode {
			continue
		}
		i := MakeIno(1, binary.BigEndian.Uint64(r.Key[1:]))
		in, err := from.Inode(i)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Inode(i)
		want("an inode", err)
		_, err = v.Xattr(i, "user.x")
		want("an attribute", err)
		_, err = v.Xattrs(i)
		want("the attributes", err)
		_, err = v.OpenDir(i)
		want("a directory", err)
		_, err = v.OpenContent(in)
		want("a content", err)
		_, err = v.Path(i)
		want("a path", err)
	}
}

// What is removed late, after it was restored, is left alone; what came before is not.
func TestRemoveAccountUntil(t *testing.T) {
	from := newScene(t)
	list := recordsOf(t, from.tree.View(), 1)
	r := newReplica(t, vfs.NewMem(), 10)
	index := uint64(0)
	apply := applier(t, r, &index)
	remove := func(until uint64) *raftpb.Command {
		return &raftpb.Command{Op: &raftpb.Command_RemoveAccount{RemoveAccount: &raftpb.RemoveAccount{Account: 1, Until: until}}}
	}
	const move = 30
	for _, whole := range []bool{false, true} {
		apply(0, &raftpb.Command{Op: &raftpb.Command_BeginImport{BeginImport: &raftpb.BeginImport{Account: 1, Move: move}}})
		apply(0, bring(1, list...))
		if whole {
			apply(0, end(1))
			apply(syscall.ESTALE, &raftpb.Command{Op: &raftpb.Command_FreezeAccount{FreezeAccount: &raftpb.FreezeAccount{Account: 1, Shard: 2, Move: move - 1}}})
		}
		apply(syscall.ESTALE, remove(move-1))
		apply(0, remove(move))
		apply(syscall.ENOENT, remove(move))
	}
}
