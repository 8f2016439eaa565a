package tree

import (
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"mailraft/raftstore/raftpb"
)

func TestContentReader(t *testing.T) {
	skipRacing(t)
	s := newScene(t)
	defer s.close()
	v := s.tree.View()
	big, err := v.Inode(sceneBig)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(random[:MaxPiece], random[:10])
	r, err := v.OpenContent(big)
	if err != nil || r.Size() != int64(len(want)) {
		t.Fatal(r, err)
	}
	// It stays readable while the file gets another content and goes.
	s.want(0, &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{Inode: uint64(sceneBig), Content: inline(MakeIno(1, 50), "other")}})
	s.want(0, &raftpb.Command_RemoveAccount{RemoveAccount: &raftpb.RemoveAccount{Account: 1}})
	if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), want); err != nil {
		t.Error(err)
	}
	if n, err := r.ReadAt(make([]byte, 20), MaxPiece-5); n != 15 || err != io.EOF {
		t.Error(n, err)
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err != syscall.EINVAL {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := v.OpenContent(big); err != syscall.ENOENT {
		t.Error(err)
	}
}

func TestContentChanged(t *testing.T) {
	s := newScene(t)
	defer s.close()
	v := s.tree.View()
	before, err := v.Inode(sceneMsg)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := v.ReadContent(before, []byte("longer than it is")); err != nil || string(b) != "sealed" {
		t.Fatal(string(b), err)
	}
	s.want(0, &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{Inode: uint64(sceneMsg), Content: inline(MakeIno(1, 50), "other")}})
	if _, err := v.OpenContent(before); err != syscall.ESTALE {
		t.Error(err)
	}
	if _, err := v.ReadContent(before, nil); !errors.Is(err, syscall.ESTALE) {
		t.Error(err)
	}
}

func TestContentNotWhole(t *testing.T) {
	s := newScene(t)
	defer s.close()
	v := s.tree.View()
	big, err := v.Inode(sceneBig)
	if err != nil {
		t.Fatal(err)
	}
	s.set(pieceKey(sceneBig, 0), random[:100])
	if _, err := v.ReadContent(big, nil); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	r, err := v.OpenContent(big)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := r.ReadAt(make([]byte, 200), 0); n != 100 || !errors.Is(err, ErrCorrupt) || !errors.Is(err, syscall.EIO) {
		t.Error(n, err)
	}
}

func names(r DirReader) (all []string) {
	for de, ok := r.Next(); ok; de, ok = r.Next() {
		all = append(all, de.Name)
	}
	return all
}

func TestDirReader(t *testing.T) {
	s := newScene(t)
	defer s.close()
	r, err := s.tree.View().OpenDir(scenePlain)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.want(0, &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(scenePlain), Name: []byte("link")}})
	s.want(0, linkTo(sceneMsg, scenePlain, "later"))
	const all = "again empty file link sub"
	for after, want := range map[string]string{
		"": all, "again": "empty file link sub", "b": "empty file link sub", "link": "sub", "sub": "", "z": "", "agai": all,
	} {
		r.SeekAfter(after)
		if got := strings.Join(names(r), " "); got != want {
			t.Errorf("after %q: %s, want %s", after, got, want)
		}
		if _, ok := r.Next(); ok || r.Err() != nil {
			t.Errorf("after the end: %v, %v", ok, r.Err())
		}
	}
}

func TestViewErrors(t *testing.T) {
	s := newScene(t)
	defer s.close()
	v := s.tree.View()
	none := MakeIno(1, 99)
	if _, err := v.OpenDir(none); err != syscall.ENOENT {
		t.Error(err)
	}
	if _, err := v.OpenDir(sceneFile); err != syscall.ENOTDIR {
		t.Error(err)
	}
	if _, err := v.FolderIndex(none, 0); err != syscall.ENOENT {
		t.Error(err)
	}
	for _, i := range []Ino{scenePlain, sceneCur, sceneFile} {
		if _, err := v.FolderIndex(i, 0); err != syscall.ENOTDIR {
			t.Error(err)
		}
	}
	if _, err := v.Account(2); err != syscall.ENOENT {
		t.Error(err)
	}
	if _, err := v.Path(none); err != syscall.ENOENT {
		t.Error(err)
	}
	s.delete(entryKey(sceneNew, "m1"))
	if _, err := v.FolderIndex(sceneHome, 1); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestPath(t *testing.T) {
	s := newScene(t)
	defer s.close()
	for i, want := range map[Ino]string{sceneHome: "", sceneMsg: "new/m1", sceneFMsg: ".F/cur/m3", sceneSub: "plain/sub"} {
		if got, err := s.tree.View().Path(i); err != nil || got != want {
			t.Errorf("%d: %q, %v, want %q", i, got, err, want)
		}
	}
}

func TestHash(t *testing.T) {
	a, b := newScene(t), newScene(t)
	defer a.close()
	defer b.close()
	if a.hash() != b.hash() {
		t.Fatal("same commands, other hashes")
	}
	b.entry(scenePlain, "file", func(de *DirEntry) { de.Stat.Atime ^= 1 })
	if a.hash() == b.hash() {
		t.Fatal("one bit differs, and the hash does not")
	}
}
