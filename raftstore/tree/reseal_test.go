package tree

import (
	"bytes"
	"syscall"
	"testing"

	"mailraft/raftstore/raftpb"
)

func resealed(i, was Ino, c *raftpb.Content) *raftpb.Command_ResealContent {
	return &raftpb.Command_ResealContent{ResealContent: &raftpb.ResealContent{Inode: uint64(i), Was: uint64(was), Content: c}}
}

// withKey is a content of a message of size octets, sealed to a key pair.
func withKey(c *raftpb.Content, size, key uint64) *raftpb.Content {
	c.Size, c.Key = size, key
	return c
}

// A content that is sealed anew is stored in place of the one before, and nothing else that anybody sees changes; what the account uses neither.
func TestResealContent(t *testing.T) {
	s := newScene(t)
	defer s.close()
	v := s.tree.View()
	for _, file := range []Ino{sceneMsg, sceneBig} {
		before := there(v.Inode(file))(t)
		account := *there(v.Account(1))(t)
		index := there(v.FolderIndex(sceneHome, 0))(t)
		events := len(s.events)
		now := MakeIno(1, 60+file.Local())
		sealed := random[:MaxPiece+20]
		s.piece(now, 0, sealed[:MaxPiece])
		s.piece(now, 1, sealed[MaxPiece:])
		s.want(0, resealed(file, MakeIno(1, before.Content), &raftpb.Content{Id: uint64(now), SealedSize: uint64(len(sealed)), Size: before.Size, Key: 1}))
		after := there(v.Inode(file))(t)
		if got, err := v.ReadContent(after, nil); err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("the content is not the one that was sealed: %d octets, %v", len(got), err)
		}
		want := *before
		want.Content, want.SealedSize, want.Key = now.Local(), uint64(len(sealed)), 1
		same(t, "inode", after, &want)
		same(t, "account", *there(v.Account(1))(t), account)
		same(t, "folder", there(v.FolderIndex(sceneHome, 0))(t), index)
		if len(s.events) != events+1 {
			t.Fatalf("%d events", len(s.events)-events)
		}
		ev := s.events[events]
		same(t, "changes", ev.Changes, []Change{{Kind: ContentResealed, Ino: file}})
		same(t, "changed folders", len(ev.Folders), 0)
		if _, err := v.OpenContent(before); err != syscall.ESTALE {
			t.Errorf("the content that was replaced: %v", err)
		}
	}
	s.sound()
}

// Only what was read is replaced, and only by the same message under a newer key.
func TestStaleReseal(t *testing.T) {
	s := newScene(t)
	defer s.close()
	size := uint64(len("sealed"))
	next := func() Ino { s.index++; return MakeIno(1, s.index-60) }
	first := next()
	s.want(0, resealed(sceneMsg, sceneMsg, withKey(inline(first, "sealed anew"), size, 2)))
	for what, c := range map[string]struct {
		errno syscall.Errno
		op    any
	}{
		"by another node, later":   {syscall.ESTALE, resealed(sceneMsg, sceneMsg, withKey(inline(next(), "twice"), size, 2))},
		"to the same key":          {syscall.EINVAL, resealed(sceneMsg, first, withKey(inline(next(), "same key"), size, 2))},
		"to an older key":          {syscall.EINVAL, resealed(sceneMsg, first, withKey(inline(next(), "old key"), size, 1))},
		"another message":          {syscall.EINVAL, resealed(sceneMsg, first, withKey(inline(next(), "other"), size+1, 3))},
		"nothing":                  {syscall.EINVAL, resealed(sceneMsg, first, nil)},
		"what has no content":      {syscall.EINVAL, resealed(sceneEmpty, 0, withKey(inline(next(), "x"), 0, 3))},
		"a directory":              {syscall.EISDIR, resealed(scenePlain, first, withKey(inline(next(), "x"), size, 3))},
		"a symbolic link":          {syscall.EINVAL, resealed(sceneLink, first, withKey(inline(next(), "x"), size, 3))},
		"a file that is gone":      {syscall.ENOENT, resealed(sceneGone, first, withKey(inline(next(), "x"), size, 3))},
		"pieces that did not come": {syscall.EINVAL, resealed(sceneMsg, first, &raftpb.Content{Id: uint64(next()), SealedSize: 3, Size: size, Key: 3})},
	} {
		if got := s.errno(c.op); got != c.errno {
			t.Errorf("%s: %v, want %v", what, got, c.errno)
		}
	}
	// What is written meanwhile wins.
	written := next()
	s.want(0, &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{Inode: uint64(sceneMsg), Content: withKey(inline(written, "other"), 5, 2)}})
	s.want(syscall.ESTALE, resealed(sceneMsg, first, withKey(inline(next(), "late"), size, 3)))
	if got, err := s.tree.View().ReadContent(there(s.tree.View().Inode(sceneMsg))(t), nil); err != nil || string(got) != "other" {
		t.Errorf("%q, %v", got, err)
	}
	s.sound()
}

// Behind the fence nothing is named any more that is sealed to a key before it; what was named stays, and goes on to the new one.
func TestFenceKeys(t *testing.T) {
	s := newScene(t)
	defer s.close()
	fence := func(key uint64) *raftpb.Command_FenceKeys {
		return &raftpb.Command_FenceKeys{FenceKeys: &raftpb.FenceKeys{Account: 1, Key: key}}
	}
	s.want(0, fence(2))
	s.want(0, fence(1)) // is not lowered
	create := func(local, key uint64) *raftpb.Command_Create {
		i := MakeIno(1, local)
		return &raftpb.Command_Create{Create: &raftpb.Create{
			Parent: uint64(sceneNew), Name: []byte{'n', byte(local)}, Inode: uint64(i), Mode: syscall.S_IFREG, Content: withKey(inline(i, "x"), 1, key),
		}}
	}
	s.want(syscall.EKEYREVOKED, create(60, 0))
	s.want(syscall.EKEYREVOKED, create(60, 1))
	s.want(0, create(60, 2))
	s.want(0, create(61, 3))
	set := func(local, key uint64) *raftpb.Command_SetContent {
		return &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{Inode: uint64(sceneFile), Content: withKey(inline(MakeIno(1, local), "y"), 1, key)}}
	}
	s.want(syscall.EKEYREVOKED, set(62, 1))
	s.want(syscall.EKEYREVOKED, resealed(sceneMsg, sceneMsg, withKey(inline(MakeIno(1, 63), "z"), 6, 1)))
	if in := there(s.tree.View().Inode(sceneMsg))(t); in.Key != 0 || in.Content != sceneMsg.Local() {
		t.Errorf("what was there has changed: %+v", in)
	}
	s.want(0, resealed(sceneMsg, sceneMsg, withKey(inline(MakeIno(1, 63), "z"), 6, 2)))
	s.create(scenePlain, "nothing", MakeIno(1, 64), syscall.S_IFREG, nil) // is sealed to nobody
	s.commit()
	s.want(0, set(65, 2))
	s.want(syscall.ENOENT, &raftpb.Command_FenceKeys{FenceKeys: &raftpb.FenceKeys{Account: 2, Key: 1}})
	s.sound()
}

// An account that is over its quota, because that was lowered, can be sealed anew all the same.
func TestResealOverQuota(t *testing.T) {
	s := newScene(t)
	defer s.close()
	s.try(&raftpb.Command{Op: &raftpb.Command_SetQuota{SetQuota: &raftpb.SetQuota{Account: 1, Bytes: 1}}})
	s.commit()
	now := MakeIno(1, 60)
	piece := func(number uint32, data []byte, reseals bool) *raftpb.Command_PutPiece {
		return &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{Account: 1, Content: uint64(now), Number: number, Data: data, Reseals: reseals}}
	}
	s.want(syscall.EDQUOT, piece(0, random[:MaxPiece], false))
	s.want(0, piece(0, random[:MaxPiece], true))
	s.want(0, piece(1, random[:5], true))
	s.want(0, resealed(sceneBig, sceneBig, &raftpb.Content{Id: uint64(now), SealedSize: MaxPiece + 5, Size: 7, Key: 1}))
	s.sound()
}

// there is what was read, which must be there.
func there[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
