package tree

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"mailraft/raftstore/raftpb"
)

// errno applies a command of the scene and commits it.
func (s *scene) errno(op any) syscall.Errno {
	s.t.Helper()
	r := s.try(command(op))
	s.commit()
	return r.Errno
}

func (s *scene) want(errno syscall.Errno, op any) {
	s.t.Helper()
	if got := s.errno(op); got != errno {
		s.t.Fatalf("%v answers %v, want %v", op, got, errno)
	}
}

// sound has Check find nothing.
func (s *scene) sound() {
	s.t.Helper()
	if err := Check(s.tree.View(), func(p Problem) { s.t.Fatalf("check: %v", p) }); err != nil {
		s.t.Fatalf("check: %v", err)
	}
}

func linkTo(i, dir Ino, name string) *raftpb.Command_Link {
	return &raftpb.Command_Link{Link: &raftpb.Link{Inode: uint64(i), Parent: uint64(dir), Name: []byte(name)}}
}

func mkdir(dir Ino, name string, i Ino) *raftpb.Command_Create {
	return &raftpb.Command_Create{Create: &raftpb.Create{Parent: uint64(dir), Name: []byte(name), Inode: uint64(i), Mode: syscall.S_IFDIR | 0o700}}
}

func TestLinks(t *testing.T) {
	skipRacing(t)
	s := newScene(t)
	defer s.close()
	for n := 1; n < MaxLinks; n++ {
		s.do(linkTo(sceneFile, scenePlain, fmt.Sprintf("%0200d", n)))
	}
	s.want(syscall.EMLINK, linkTo(sceneFile, scenePlain, "more"))
	s.sound()
}

// A directory is not moved to below very many others, but within its directory, wherever that is.
func TestDepth(t *testing.T) {
	s := newScene(t)
	defer s.close()
	s.do(&raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: 1, Count: 2 * maxDepth}})
	s.commit()
	at := func(n int) Ino { return MakeIno(1, uint64(1000+n)) }
	s.do(mkdir(sceneHome, "deep", at(0)))
	for n := 1; n <= maxDepth; n++ {
		s.do(mkdir(at(n-1), "d", at(n)))
	}
	move := func(from Ino, name string, to Ino) *raftpb.Command_Rename {
		return &raftpb.Command_Rename{Rename: &raftpb.Rename{OldParent: uint64(from), OldName: []byte(name), NewParent: uint64(to), NewName: []byte("x")}}
	}
	s.want(syscall.EINVAL, move(sceneHome, "deep", at(maxDepth-1)))
	s.want(syscall.ELOOP, move(scenePlain, "sub", at(maxDepth-1)))
	s.want(0, move(scenePlain, "sub", at(maxDepth-2)))
	s.want(0, move(at(maxDepth-1), "d", at(maxDepth-1)))
	s.want(0, move(at(maxDepth-1), "x", sceneHome))
	s.sound()
}

func TestXattrLimits(t *testing.T) {
	s := newScene(t)
	defer s.close()
	set := func(name string, value []byte) *raftpb.Command_SetXattr {
		return &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{Inode: uint64(sceneSub), Name: name, Value: value}}
	}
	s.want(syscall.E2BIG, set("user.a", make([]byte, MaxXattr+1)))
	for n := range MaxXattrs {
		s.do(set(fmt.Sprintf("user.%d", n), nil))
	}
	s.want(syscall.ENOSPC, set("user.more", nil))
	s.want(0, set("user.7", make([]byte, MaxXattr)))
	s.sound()
	if names, err := s.tree.View().Xattrs(sceneSub); err != nil || len(names) != MaxXattrs {
		t.Fatal(len(names), err)
	}
}

// An attribute without a value is there; of two that can't be, each replica names the same.
func TestCreateXattrs(t *testing.T) {
	s := newScene(t)
	defer s.close()
	c := mkdir(sceneHome, "d", MakeIno(1, 30))
	c.Create.Xattrs = map[string][]byte{"user.a": nil, "user.b": {}}
	s.want(0, c)
	s.sound()
	if v, err := s.tree.View().Xattr(MakeIno(1, 30), "user.a"); err != nil || len(v) != 0 {
		t.Fatal(v, err)
	}
	c = mkdir(sceneHome, "e", MakeIno(1, 31))
	c.Create.Xattrs = map[string][]byte{"other": nil, strings.Repeat("x", 256): nil, "user.z": make([]byte, MaxXattr+1)}
	for range 20 {
		s.want(syscall.EOPNOTSUPP, c)
	}
	c.Create.Xattrs = map[string][]byte{}
	for n := range MaxXattrs + 1 {
		c.Create.Xattrs[fmt.Sprintf("user.%d", n)] = nil
	}
	s.want(syscall.ENOSPC, c)
}

func TestNumbersUsedUp(t *testing.T) {
	s := newScene(t)
	defer s.close()
	s.inode(sceneHome, func(in *Inode) { in.UIDNext = 1<<32 - 1 })
	s.want(syscall.ENOSPC, linkTo(sceneFile, sceneNew, "m9"))
	s.account(func(a *AccountRecord) { a.NextLocal = maxLocal - 1 })
	reserve := &raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: 1, Count: 2}}
	s.want(syscall.ENOSPC, reserve)
	s.account(func(a *AccountRecord) { a.UIDValidity = 1<<32 - 1 })
	s.want(syscall.ENOSPC, mkdir(sceneHome, ".G", MakeIno(1, 30)))
	s.want(0, mkdir(sceneHome, "g", MakeIno(1, 30)))
}

// A clock that is far off must not use up the UIDVALIDITYs, nor make one of them 0.
func TestWrongClock(t *testing.T) {
	s := newScene(t)
	defer s.close()
	last := uint32(0)
	for n, now := range []int64{1 << 62, -1 << 62, 1 << 62, 0, 1 << 62} {
		cmd := command(mkdir(sceneHome, fmt.Sprintf(".%d", n), MakeIno(1, uint64(30+n))))
		cmd.Now = now
		s.index++
		if r := s.apply(s.index, cmd); r.Errno != 0 {
			t.Fatal(r.Errno)
		}
		s.commit()
		in, err := s.tree.View().Inode(MakeIno(1, uint64(30+n)))
		if err != nil || in.UIDValidity <= last {
			t.Fatalf("UIDVALIDITY %d after %d, %v", in.UIDValidity, last, err)
		}
		last = in.UIDValidity
	}
	s.sound()
}

// Pieces under the name of a content that is in use already would be an orphan, whose end is the end of the content.
func TestLatePiece(t *testing.T) {
	s := newScene(t)
	defer s.close()
	put := func(content Ino, n uint32) *raftpb.Command_PutPiece {
		return &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{Account: 1, Content: uint64(content), Number: n, Data: []byte("late")}}
	}
	s.want(syscall.EINVAL, put(sceneBig, 2))
	s.want(syscall.EINVAL, put(sceneMsg, 1))
	s.want(0, put(sceneOrphan, 0)) // as it is there already
	s.want(syscall.EINVAL, put(sceneOrphan, 1))
	late := MakeIno(1, 40)
	s.want(0, put(late, 1))
	c := mkdir(scenePlain, "x", late)
	c.Create.Mode, c.Create.Content = syscall.S_IFREG, inline(late, "inline")
	s.want(syscall.EINVAL, c)
	s.want(0, &raftpb.Command_ReapOrphans{ReapOrphans: &raftpb.ReapOrphans{Before: 1 << 62}})
	r := s.try(command(&raftpb.Command_ReapOrphans{ReapOrphans: &raftpb.ReapOrphans{Before: 1 << 62, Limit: 10}}))
	s.commit()
	if r.Value != 2 {
		t.Fatalf("reaped %d contents, want 2", r.Value)
	}
	s.sound()
}

// Over the quota, what does not add to it goes on: an account must be able to get below.
func TestOverQuota(t *testing.T) {
	s := newScene(t)
	defer s.close()
	s.account(func(a *AccountRecord) { a.QuotaBytes, a.QuotaFiles = 1, 1 })
	c := mkdir(scenePlain, "file", MakeIno(1, 40))
	c.Create.Mode, c.Create.Replace, c.Create.Content = syscall.S_IFREG, true, inline(MakeIno(1, 40), "file")
	s.want(0, c)
	c.Create.Inode, c.Create.Content = uint64(MakeIno(1, 41)), inline(MakeIno(1, 41), "longer")
	s.want(syscall.EDQUOT, c)
	s.want(syscall.EDQUOT, mkdir(scenePlain, "d", MakeIno(1, 42)))
	s.want(0, &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{Inode: uint64(sceneMsg)}})
	s.sound()
}

// The values of attributes count as files' octets do, and go with their inode.
func TestXattrsAreCharged(t *testing.T) {
	s := newScene(t)
	defer s.close()
	used := func() uint64 {
		t.Helper()
		s.sound()
		a, err := s.tree.View().Account(1)
		if err != nil {
			t.Fatal(err)
		}
		return a.Bytes
	}
	before := used()
	set := func(i Ino, octets int) *raftpb.Command_SetXattr {
		return &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{Inode: uint64(i), Name: "user.big", Value: make([]byte, octets)}}
	}
	s.want(0, set(sceneHome, 1000))
	s.want(0, set(sceneFile, 1000))
	s.want(0, set(sceneFile, 500))
	if n := used(); n != before+1500 {
		t.Errorf("%d octets, want %d", n, before+1500)
	}
	s.account(func(a *AccountRecord) { a.QuotaBytes = before + 1600 })
	s.want(syscall.EDQUOT, set(sceneFile, 601))
	c := mkdir(scenePlain, "d", MakeIno(1, 40))
	c.Create.Xattrs = map[string][]byte{"user.big": make([]byte, 101)}
	s.want(syscall.EDQUOT, c)
	c.Create.Xattrs["user.big"] = make([]byte, 100)
	s.want(0, c)
	s.want(0, set(sceneFile, 400))
	s.want(0, &raftpb.Command_RemoveXattr{RemoveXattr: &raftpb.RemoveXattr{Inode: uint64(sceneHome), Name: "user.big"}})
	s.want(0, &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(scenePlain), Name: []byte("d"), Directory: true}})
	s.want(0, &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(scenePlain), Name: []byte("file")}})
	if n := used(); n != before-uint64(len("file")+len("x")) {
		t.Errorf("%d octets, want %d", n, before-uint64(len("file")+len("x")))
	}
}

// What a record names and is not there is damage of this replica: it must stop, not answer what others would not.
func TestApplyStopsAtDamage(t *testing.T) {
	unlink := &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(scenePlain), Name: []byte("again")}}
	for name, damage := range map[string]func(s *scene){
		"inode lost":       func(s *scene) { s.delete(inodeKey(sceneBig)) },
		"other name lost":  func(s *scene) { s.delete(entryKey(sceneCur, "m2:2,S")) },
		"inode corrupt":    func(s *scene) { s.set(inodeKey(sceneBig), []byte{1}) },
		"entry corrupt":    func(s *scene) { s.set(entryKey(scenePlain, "again"), []byte{1}) },
		"account corrupt":  func(s *scene) { s.set(accountKey(1), []byte{1}) },
		"directory is not": func(s *scene) { s.set(inodeKey(scenePlain), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			defer s.close()
			damage(s)
			b := s.db.NewIndexedBatch()
			defer b.Close()
			if _, err := s.tree.Apply(b, 1000, command(unlink)); !errors.Is(err, ErrCorrupt) || !b.Empty() {
				t.Fatalf("%v, wrote %d", err, b.Count())
			}
		})
	}
}

// A directory that lost its place is damage too, before anything is done with what is in it.
func TestApplyStopsAtADamagedDirectory(t *testing.T) {
	unlink := &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(sceneCur), Name: []byte("m2:2,S")}}
	rename := &raftpb.Command_Rename{Rename: &raftpb.Rename{
		OldParent: uint64(sceneCur), OldName: []byte("m2:2,S"), NewParent: uint64(sceneCur), NewName: []byte("m2:2,"),
	}}
	for name, damage := range map[string]func(in *Inode){
		"no name":   func(in *Inode) { in.Links = nil },
		"two names": func(in *Inode) { in.Links = append(in.Links, in.Links[0]) },
		"no box":    func(in *Inode) { in.Role = RolePlain },
		"home":      func(in *Inode) { in.Role, in.Links = RoleRoot, nil },
	} {
		for _, op := range []any{unlink, rename} {
			t.Run(name, func(t *testing.T) {
				s := newScene(t)
				defer s.close()
				s.inode(sceneCur, damage)
				b := s.db.NewIndexedBatch()
				defer b.Close()
				if _, err := s.tree.Apply(b, 1000, command(op)); !errors.Is(err, ErrCorrupt) || !b.Empty() {
					t.Fatalf("%v, wrote %d", err, b.Count())
				}
			})
		}
	}
}

func TestSubscribe(t *testing.T) {
	s := newScene(t)
	defer s.close()
	var got []*Event
	cancel := s.tree.Subscribe(func(ev *Event) { got = append(got, ev) })
	cmd := command(linkTo(sceneFile, sceneNew, "m5"))
	cmd.Request = &raftpb.Request{Session: 77}
	s.try(cmd)
	if len(got) != 0 {
		t.Fatal("event before its batch was committed")
	}
	s.commit()
	if len(got) != 1 || got[0].Session != 77 || got[0].Account != 1 || got[0].Index != s.index || len(got[0].Folders) != 1 {
		t.Fatalf("%+v", got)
	}
	cancel()
	s.want(0, linkTo(sceneFile, sceneNew, "m6"))
	if len(got) != 1 {
		t.Fatal("event after cancel")
	}
}

// cur, new and tmp stay what they are, and in the folder whose UIDs they have.
func TestBoxesStay(t *testing.T) {
	s := newScene(t)
	defer s.close()
	s.want(0, mkdir(sceneHome, ".G", MakeIno(1, 30)))
	s.want(0, mkdir(MakeIno(1, 30), "new", MakeIno(1, 31)))
	rename := func(from Ino, name string, to Ino, newName string) *raftpb.Command_Rename {
		return &raftpb.Command_Rename{Rename: &raftpb.Rename{OldParent: uint64(from), OldName: []byte(name), NewParent: uint64(to), NewName: []byte(newName)}}
	}
	s.want(syscall.EXDEV, rename(sceneFolder, "cur", MakeIno(1, 30), "cur"))
	s.want(syscall.EXDEV, rename(sceneFolder, "cur", sceneFolder, "new"))
	s.want(syscall.EXDEV, rename(sceneFolder, "cur", scenePlain, "cur"))
	s.want(syscall.EXDEV, rename(scenePlain, "sub", sceneFolder, "new"))
	s.want(syscall.EXDEV, rename(sceneHome, "plain", sceneHome, ".H"))
	s.want(syscall.EXDEV, rename(sceneHome, ".F", scenePlain, ".F"))
	s.want(syscall.EXDEV, rename(scenePlain, "file", sceneTmp, "file"))
	s.want(syscall.EBUSY, rename(sceneHome, "cur", sceneHome, "old"))
	s.want(0, rename(sceneFolder, "cur", sceneFolder, "cur"))
	s.want(0, rename(sceneHome, ".F", sceneHome, ".H"))
	s.want(0, rename(scenePlain, "sub", sceneTmp, "sub"))
	s.sound()
}
