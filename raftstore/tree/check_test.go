package tree

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/raftstore/raftpb"
)

// Inodes of the scene.
var (
	sceneHome   = RootIno(1)
	sceneCur    = MakeIno(1, 2)
	sceneNew    = MakeIno(1, 3)
	sceneTmp    = MakeIno(1, 4)
	sceneMsg    = MakeIno(1, 10) // new/m1, UID 1
	sceneBig    = MakeIno(1, 11) // cur/m2:2,S, UID 2, and plain/again; two pieces
	sceneFolder = MakeIno(1, 12) // .F
	sceneFCur   = MakeIno(1, 13)
	scenePlain  = MakeIno(1, 14) // plain
	sceneFile   = MakeIno(1, 15) // plain/file with an attribute
	sceneLink   = MakeIno(1, 16) // plain/link, symbolic
	sceneSub    = MakeIno(1, 17) // plain/sub
	sceneFMsg   = MakeIno(1, 18) // .F/cur/m3, UID 1 there; UID 2 has vanished
	sceneGone   = MakeIno(1, 19)
	sceneOrphan = MakeIno(1, 20) // content of which two pieces have come
	sceneEmpty  = MakeIno(1, 21) // plain/empty
)

// scene is a small tree that has something of everything.
type scene struct {
	*replica
	index uint64
}

func newScene(t fataler) *scene {
	t.Helper()
	s := &scene{replica: newReplica(t, vfs.NewMem(), maxTombs), index: 100}
	s.do(&raftpb.Command_CreateAccount{CreateAccount: &raftpb.CreateAccount{Account: 1, Uid: 8, Gid: 8}})
	s.do(&raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: 1, Count: 100}})
	s.create(sceneNew, "m1", sceneMsg, syscall.S_IFREG, inline(sceneMsg, "sealed"))
	s.piece(sceneBig, 1, random[:10])
	s.piece(sceneBig, 0, random[:MaxPiece])
	s.create(sceneCur, "m2:2,S", sceneBig, syscall.S_IFREG, &raftpb.Content{Id: uint64(sceneBig), SealedSize: MaxPiece + 10, Size: 7})
	s.create(sceneHome, ".F", sceneFolder, syscall.S_IFDIR, nil)
	s.create(sceneFolder, "cur", sceneFCur, syscall.S_IFDIR, nil)
	s.create(sceneHome, "plain", scenePlain, syscall.S_IFDIR, nil)
	s.create(scenePlain, "file", sceneFile, syscall.S_IFREG, inline(sceneFile, "file"))
	s.create(scenePlain, "empty", sceneEmpty, syscall.S_IFREG, nil)
	s.create(scenePlain, "sub", sceneSub, syscall.S_IFDIR, nil)
	s.do(&raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(scenePlain), Name: []byte("link"), Inode: uint64(sceneLink), Mode: syscall.S_IFLNK | 0o777, Target: []byte("file"),
	}})
	s.do(&raftpb.Command_Link{Link: &raftpb.Link{Inode: uint64(sceneBig), Parent: uint64(scenePlain), Name: []byte("again")}})
	s.do(&raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{Inode: uint64(sceneFile), Name: "user.a", Value: []byte("x")}})
	s.create(sceneFCur, "m3", sceneFMsg, syscall.S_IFREG, inline(sceneFMsg, "third"))
	s.create(sceneFCur, "m4", sceneGone, syscall.S_IFREG, nil)
	s.do(&raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(sceneFCur), Name: []byte("m4")}})
	s.piece(sceneOrphan, 0, random[:MaxPiece])
	s.piece(sceneOrphan, 2, random[:3])
	s.commit()
	return s
}

func inline(id Ino, sealed string) *raftpb.Content {
	return &raftpb.Content{Id: uint64(id), SealedSize: uint64(len(sealed)), Size: uint64(len(sealed)), Inline: []byte(sealed)}
}

// try applies one command of the scene.
func (s *scene) try(c *raftpb.Command) Result {
	s.t.Helper()
	s.index++
	c.Now = 1_700_000_000e9 + int64(s.index)
	return s.apply(s.index, c)
}

// do applies one that must succeed.
func (s *scene) do(op any) {
	s.t.Helper()
	if r := s.try(command(op)); r.Errno != 0 {
		s.t.Fatalf("%T: %v", op, r.Errno)
	}
}

func command(op any) *raftpb.Command {
	c := &raftpb.Command{Version: 1}
	switch op := op.(type) {
	case *raftpb.Command_CreateAccount:
		c.Op = op
	case *raftpb.Command_RemoveAccount:
		c.Op = op
	case *raftpb.Command_ReserveInodes:
		c.Op = op
	case *raftpb.Command_Create:
		c.Op = op
	case *raftpb.Command_Link:
		c.Op = op
	case *raftpb.Command_Unlink:
		c.Op = op
	case *raftpb.Command_Rename:
		c.Op = op
	case *raftpb.Command_SetContent:
		c.Op = op
	case *raftpb.Command_PutPiece:
		c.Op = op
	case *raftpb.Command_ResealContent:
		c.Op = op
	case *raftpb.Command_FenceKeys:
		c.Op = op
	case *raftpb.Command_SetXattr:
		c.Op = op
	case *raftpb.Command_RemoveXattr:
		c.Op = op
	case *raftpb.Command_ReapOrphans:
		c.Op = op
	}
	return c
}

func (s *scene) create(dir Ino, name string, i Ino, kind uint32, content *raftpb.Content) {
	s.t.Helper()
	s.do(&raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(dir), Name: []byte(name), Inode: uint64(i), Mode: kind | 0o600, Content: content,
	}})
}

func (s *scene) piece(content Ino, n uint32, b []byte) {
	s.t.Helper()
	s.do(&raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{Account: 1, Content: uint64(content), Number: n, Data: b}})
}

// What follows writes to the store behind Apply's back.

func (s *scene) set(key, value []byte) {
	s.t.Helper()
	if err := s.db.Set(key, value, pebble.NoSync); err != nil {
		s.t.Fatalf("set: %v", err)
	}
}

func (s *scene) delete(key []byte) {
	s.t.Helper()
	if _, c, err := s.db.Get(key); err != nil {
		s.t.Fatalf("there is no key %x: %v", key, err)
	} else if err := c.Close(); err != nil {
		s.t.Fatalf("get: %v", err)
	}
	if err := s.db.Delete(key, pebble.NoSync); err != nil {
		s.t.Fatalf("delete: %v", err)
	}
}

func (s *scene) inode(i Ino, change func(*Inode)) {
	s.t.Helper()
	in, err := storedInode(s.db, i)
	if err != nil {
		s.t.Fatalf("inode %d: %v", i, err)
	}
	change(in)
	s.set(inodeKey(i), in.appendTo(nil))
}

func (s *scene) entry(dir Ino, name string, change func(*DirEntry)) {
	s.t.Helper()
	de, err := entry(s.db, dir, name)
	if err != nil {
		s.t.Fatalf("entry %q: %v", name, err)
	}
	change(&de)
	s.set(entryKey(dir, name), de.appendTo(nil))
}

func (s *scene) account(change func(*AccountRecord)) {
	s.t.Helper()
	a, err := account(s.db, 1)
	if err != nil {
		s.t.Fatalf("account: %v", err)
	}
	change(a)
	s.set(accountKey(1), a.appendTo(nil))
}

// message gives a message's entry.
func (s *scene) message(dir Ino, name string) DirEntry {
	s.t.Helper()
	de, err := entry(s.db, dir, name)
	if err != nil {
		s.t.Fatalf("entry %q: %v", name, err)
	}
	return de
}

func (s *scene) changeKey(folder, dir Ino, name string) []byte {
	de := s.message(dir, name)
	return changeKey(kindModSeq, folder, de.ModSeq, de.UID)
}

func (s *scene) lastModSeq() ModSeq {
	s.t.Helper()
	in, err := storedInode(s.db, sceneFolder)
	if err != nil {
		s.t.Fatalf("folder: %v", err)
	}
	return in.HighestModSeq
}

// tombstoneKey is the key of the one tombstone of the scene.
func (s *scene) tombstoneKey() []byte { return changeKey(kindVanished, sceneFolder, s.lastModSeq(), 2) }

var damages = []struct {
	name   string
	damage func(s *scene)
	want   string // in one of the problems
}{
	// Records that can't be read.
	{"inode record", func(s *scene) { s.set(inodeKey(sceneMsg), []byte{1, 2, 3}) }, "inode 10 of account 1: stored record is corrupt"},
	{"entry record", func(s *scene) { s.set(entryKey(sceneNew, "m1"), []byte{9}) }, `entry "m1" in inode 3 of account 1: stored record is corrupt`},
	{"account record", func(s *scene) { s.set(accountKey(1), nil) }, "account 1: stored record is corrupt"},
	{"change record", func(s *scene) { s.set(s.changeKey(sceneHome, sceneNew, "m1"), []byte{1, 1, 0}) }, "stored record is corrupt: box"},
	{"tombstone record", func(s *scene) { s.set(s.tombstoneKey(), []byte{1, 1}) }, "octets behind its end"},
	{"orphan record", func(s *scene) { s.set(orphanKey(sceneOrphan), []byte{1}) }, "stored record is corrupt: time"},
	{"newer record", func(s *scene) { s.set(inodeKey(sceneMsg), []byte{2}) }, "record of version 2"},

	// Names.
	{"inode lost", func(s *scene) { s.delete(inodeKey(sceneFile)) }, "leads to inode 15, which is not there"},
	{"entry lost", func(s *scene) { s.delete(entryKey(scenePlain, "file")) }, `its name "file" in inode 14 is not there`},
	{"entry too many", func(s *scene) {
		s.entry(scenePlain, "file", func(de *DirEntry) { de.Name = "ghost"; s.set(entryKey(scenePlain, "ghost"), de.appendTo(nil)) })
	}, "leads to inode 15, which has no such name"},
	{"entry leads elsewhere", func(s *scene) { s.entry(scenePlain, "file", func(de *DirEntry) { de.Ino = sceneMsg }) }, `its name "file" in inode 14 leads to inode 10`},
	{"link count", func(s *scene) { s.inode(sceneBig, func(in *Inode) { in.Nlink = 3 }) }, "link count is 3, it has 2 names"},
	{"no name", func(s *scene) { s.inode(sceneFile, func(in *Inode) { in.Links, in.Nlink = nil, 0 }) }, "link count is 0, it has 0 names"},
	{"one name twice", func(s *scene) {
		s.inode(sceneBig, func(in *Inode) { in.Links = append(in.Links, in.Links[0]); in.Nlink++ })
	}, "twice"},
	{"status", func(s *scene) { s.entry(scenePlain, "again", func(de *DirEntry) { de.Stat.Mtime++ }) }, "has another status"},
	{"bad name", func(s *scene) {
		s.entry(scenePlain, "file", func(de *DirEntry) { s.set(entryKey(scenePlain, "a/b"), de.appendTo(nil)) })
	}, "no file can be called so"},
	{"entry below a file", func(s *scene) {
		s.entry(scenePlain, "file", func(de *DirEntry) { s.set(entryKey(sceneMsg, "x"), de.appendTo(nil)) })
	}, "entry in inode 10, which is no directory"},
	{"entry below nothing", func(s *scene) {
		s.entry(scenePlain, "file", func(de *DirEntry) { s.set(entryKey(MakeIno(1, 90), "x"), de.appendTo(nil)) })
	}, "entry in inode 90, which is no directory"},
	{"circle", func(s *scene) {
		s.delete(entryKey(sceneHome, "plain"))
		s.inode(scenePlain, func(in *Inode) { in.Links = []LinkName{{sceneSub, "plain"}} })
		s.set(entryKey(sceneSub, "plain"), (&DirEntry{Name: "plain", Ino: scenePlain, Stat: Stat{Mode: syscall.S_IFDIR}}).appendTo(nil))
	}, "inode 14 can't be reached from the home"},

	// Directories.
	{"role", func(s *scene) { s.inode(scenePlain, func(in *Inode) { in.Role = RoleCur }) }, "directory has role 3 under a name of role 0"},
	{"entries", func(s *scene) { s.inode(scenePlain, func(in *Inode) { in.Entries++ }) }, "it has 5 entries, 1 of them directories, recorded are 6 and 1"},
	{"subdirs", func(s *scene) { s.inode(scenePlain, func(in *Inode) { in.Subdirs-- }) }, "recorded are 5 and 0"},
	{"entries of none", func(s *scene) { s.inode(sceneSub, func(in *Inode) { in.Entries = 2 }) }, "it is empty, recorded are 2 entries"},
	{"directory's link count", func(s *scene) { s.inode(sceneSub, func(in *Inode) { in.Nlink = 2 }) }, "directory's record has a link count"},
	{"directory with two names", func(s *scene) {
		s.inode(sceneSub, func(in *Inode) { in.Links = append(in.Links, LinkName{sceneHome, "x"}) })
	}, "names or role of a directory"},
	{"home with a name", func(s *scene) { s.inode(sceneHome, func(in *Inode) { in.Links = []LinkName{{scenePlain, "x"}} }) }, "names or role of a directory"},
	{"home's role", func(s *scene) { s.inode(sceneHome, func(in *Inode) { in.Role = RoleFolder }) }, "names or role of a directory"},
	{"home's tmp lost", func(s *scene) { s.delete(inodeKey(sceneTmp)) }, `the home's own directory "tmp" is not there`},
	{"home lost", func(s *scene) { s.delete(inodeKey(sceneHome)) }, `the home's own directory "" is not there`},
	{"file in tmp", func(s *scene) {
		s.entry(scenePlain, "file", func(de *DirEntry) { s.set(entryKey(sceneTmp, "file"), de.appendTo(nil)) })
	}, "file in a directory for what is not replicated"},

	// Inodes.
	{"kind", func(s *scene) { s.inode(sceneFile, func(in *Inode) { in.Mode = syscall.S_IFBLK }) }, "is of no known kind"},
	{"mode", func(s *scene) { s.inode(sceneFile, func(in *Inode) { in.Mode |= 1 << 20 }) }, "has unknown bits"},
	{"target", func(s *scene) { s.inode(sceneLink, func(in *Inode) { in.Target = "elsewhere" }) }, "symbolic link of 4 octets has a target of 9"},
	{"target of a file", func(s *scene) { s.inode(sceneFile, func(in *Inode) { in.Target = "x" }) }, "no symbolic link and has a target"},
	{"content of a link", func(s *scene) { s.inode(sceneLink, func(in *Inode) { in.Content = 9 }) }, "no regular file and has a content"},
	{"number never given out", func(s *scene) { s.account(func(a *AccountRecord) { a.NextLocal = 18 }) }, "inode number 18 was never given out"},
	{"reserved number", func(s *scene) {
		s.inode(sceneFile, func(in *Inode) { s.set(inodeKey(MakeIno(1, 6)), in.appendTo(nil)) })
	}, "inode number 6 was never given out"},
	{"octets", func(s *scene) { s.account(func(a *AccountRecord) { a.Bytes++ }) }, "27 octets in 10 files, recorded are 28 in 10"},
	{"files", func(s *scene) { s.account(func(a *AccountRecord) { a.Files-- }) }, "27 octets in 10 files, recorded are 27 in 9"},

	// Messages.
	{"messages", func(s *scene) { s.inode(sceneHome, func(in *Inode) { in.Messages = 3 }) }, "folder has 2 messages, recorded are 3"},
	{"UIDNEXT", func(s *scene) { s.inode(sceneHome, func(in *Inode) { in.UIDNext = 2 }) }, "UID 2, MODSEQ 106 in a folder with UIDNEXT 2"},
	{"no UIDNEXT", func(s *scene) { s.inode(sceneHome, func(in *Inode) { in.UIDNext = 0 }) }, "UIDNEXT is 0"},
	{"HIGHESTMODSEQ", func(s *scene) { s.inode(sceneHome, func(in *Inode) { in.HighestModSeq = 105 }) }, "HIGHESTMODSEQ 105"},
	{"UID twice", func(s *scene) {
		s.delete(s.changeKey(sceneHome, sceneCur, "m2:2,S"))
		s.entry(sceneCur, "m2:2,S", func(de *DirEntry) { de.UID = 1 })
		s.set(s.changeKey(sceneHome, sceneCur, "m2:2,S"), (&position{RoleCur, "m2:2,S"}).appendTo(nil))
	}, "UID 1 is there twice"},
	{"message without UID", func(s *scene) { s.entry(sceneNew, "m1", func(de *DirEntry) { de.UID = 0 }) }, "has UID 0"},
	{"UID of no message", func(s *scene) { s.entry(scenePlain, "file", func(de *DirEntry) { de.UID = 7 }) }, "has UID 7"},
	{"MODSEQ of no message", func(s *scene) { s.entry(scenePlain, "file", func(de *DirEntry) { de.ModSeq = 7 }) }, "is no message and has MODSEQ 7"},
	{"change lost", func(s *scene) { s.delete(s.changeKey(sceneHome, sceneNew, "m1")) }, "UID 1 has no change at MODSEQ"},
	{"change too many", func(s *scene) {
		s.set(changeKey(kindModSeq, sceneHome, 3, 1), (&position{RoleNew, "m1"}).appendTo(nil))
	}, `change of UID 1 at MODSEQ 3 tells of "m1", which is another message or none`},
	{"change elsewhere", func(s *scene) {
		s.set(s.changeKey(sceneHome, sceneNew, "m1"), (&position{RoleNew, "m9"}).appendTo(nil))
	}, `the change of UID 1 at MODSEQ 103 tells of "m9"`},
	{"change of no folder", func(s *scene) {
		s.set(changeKey(kindModSeq, scenePlain, 3, 1), (&position{RoleNew, "m1"}).appendTo(nil))
	}, "change of inode 14, which is no folder"},
	{"UIDVALIDITY twice", func(s *scene) {
		s.inode(sceneFolder, func(in *Inode) { s.inode(sceneHome, func(home *Inode) { in.UIDValidity = home.UIDValidity }) })
	}, "is another folder's too"},
	{"UIDVALIDITY", func(s *scene) { s.inode(sceneFolder, func(in *Inode) { in.UIDValidity++ }) }, "was never given out"},

	// Tombstones.
	{"tombstone lost", func(s *scene) { s.delete(s.tombstoneKey()) }, "folder has 0 tombstones, recorded are 1"},
	{"tombstone of what is there", func(s *scene) { s.set(changeKey(kindVanished, sceneFolder, s.lastModSeq()-1, 1), tombstone) }, "UID 1 has vanished and is there"},
	{"tombstone of what never was", func(s *scene) { s.set(changeKey(kindVanished, sceneFolder, s.lastModSeq()-1, 9), tombstone) }, "UID 9 has vanished and is there, or never was"},
	{"tombstone twice", func(s *scene) { s.set(changeKey(kindVanished, sceneFolder, s.lastModSeq()-1, 2), tombstone) }, "UID 2 has vanished twice"},
	{"tombstone forgotten", func(s *scene) { s.inode(sceneFolder, func(in *Inode) { in.VanishedFloor = in.HighestModSeq }) }, "which is not between"},
	{"floor", func(s *scene) { s.inode(sceneFolder, func(in *Inode) { in.VanishedFloor = in.HighestModSeq + 1 }) }, "forgotten are tombstones"},
	{"tombstone of no folder", func(s *scene) { s.set(changeKey(kindVanished, MakeIno(1, 90), 3, 1), tombstone) }, "change of inode 90, which is no folder"},

	// Contents.
	{"piece lost", func(s *scene) { s.delete(pieceKey(sceneBig, 0)) }, "pieces of content 11 are not the 524298 octets sealed"},
	{"last piece lost", func(s *scene) { s.delete(pieceKey(sceneBig, 1)) }, "pieces of content 11 are not"},
	{"piece too many", func(s *scene) { s.set(pieceKey(sceneMsg, 1), []byte("x")) }, "pieces of content 10 are not"},
	{"short piece", func(s *scene) { s.set(pieceKey(sceneMsg, 0), []byte("seale")) }, "pieces of content 10 are not the 6 octets sealed"},
	{"octets between pieces", func(s *scene) {
		s.set(pieceKey(sceneBig, 0), random[:MaxPiece-1])
		s.set(pieceKey(sceneBig, 1), random[:11])
	}, "pieces of content 11 are not"},
	{"size without content", func(s *scene) { s.inode(sceneEmpty, func(in *Inode) { in.Size = 4 }) }, "4 octets, sealed 0, and no content"},
	{"content of no file", func(s *scene) { s.set(pieceKey(MakeIno(1, 30), 0), []byte("x")) }, "content 30 is not named by any inode, nor recorded as an orphan"},
	{"content of two files", func(s *scene) { s.inode(sceneFMsg, func(in *Inode) { in.Content = 10 }) }, "content 10 is named by two inodes"},
	{"named orphan", func(s *scene) { s.set(orphanKey(sceneMsg), (&orphan{octets: 6, pieces: 1}).appendTo(nil)) }, "content 10 is named by an inode and recorded as an orphan"},
	{"content never given out", func(s *scene) { s.inode(sceneMsg, func(in *Inode) { in.Content = 1 << 30 }) }, "content number 1073741824 was never given out"},
	{"orphan's pieces", func(s *scene) { s.delete(pieceKey(sceneOrphan, 2)) }, "1 pieces of 524288 octets up to 0, recorded are 2 of 524291 up to 2"},
	{"orphan of no account", func(s *scene) {
		s.set(orphanKey(MakeIno(5, 9)), (&orphan{octets: 1, pieces: 1}).appendTo(nil))
	}, "pieces of an account that is not there"},
	{"orphan never given out", func(s *scene) { s.set(orphanKey(MakeIno(1, 900)), (&orphan{}).appendTo(nil)) }, "content number 900 was never given out"},

	// Attributes.
	{"attributes", func(s *scene) { s.delete(xattrKey(sceneFile, "user.a")) }, "it has 0 attributes, recorded are 1"},
	{"attribute of nothing", func(s *scene) { s.set(xattrKey(MakeIno(1, 90), "user.a"), nil) }, "attribute of inode 90, which is not there"},
	{"attribute's name", func(s *scene) { s.set(xattrKey(sceneFile, "security.x"), nil) }, `attribute "security.x" can't be`},

	// Keys.
	{"kind of record", func(s *scene) { s.set(appendIno(nil, 'q', sceneMsg), nil) }, "unknown key"},
	{"long key", func(s *scene) { s.set(append(inodeKey(sceneMsg), 0), nil) }, "unknown key"},
	{"short key", func(s *scene) { s.set(inodeKey(sceneMsg)[:10], nil) }, "unknown key"},
	{"shortest key", func(s *scene) { s.set([]byte{prefixTree, 0, 0}, nil) }, "unknown key"},
	{"account key", func(s *scene) { s.set(append(accountKey(1), 0), nil) }, "unknown key"},
	{"long number", func(s *scene) { k := inodeKey(sceneMsg); k[keyPrefix] = 1; s.set(k, nil) }, "unknown key"},
	{"long number of an entry", func(s *scene) { k := entryKey(sceneNew, "m1"); k[keyPrefix] = 1; s.set(k, nil) }, "unknown key"},
	{"long change key", func(s *scene) { s.set(append(s.changeKey(sceneHome, sceneNew, "m1"), 0), nil) }, "unknown key"},
	{"long piece key", func(s *scene) { s.set(append(pieceKey(sceneMsg, 0), 0), nil) }, "unknown key"},
	{"long orphan key", func(s *scene) { s.set(append(orphanKey(sceneMsg), 0), nil) }, "key of an orphan"},
	{"letter", func(s *scene) { s.set([]byte("b"), nil) }, "unknown key"},
	{"account lost", func(s *scene) { s.delete(accountKey(1)) }, "records of an account that is not there"},
	{"account number", func(s *scene) { s.account(func(a *AccountRecord) { s.set(accountKey(1<<30), a.appendTo(nil)) }) }, "there is no such account number"},
}

func TestCheckNamesDamage(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			s := newScene(t)
			defer s.close()
			d.damage(s)
			var all []string
			if err := Check(s.tree.View(), func(p Problem) { all = append(all, p.String()) }); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, d.want) {
				t.Errorf("reported is\n%s\nwanted %s", got, d.want)
			}
		})
	}
}

func TestCheckFindsNothing(t *testing.T) {
	s := newScene(t)
	defer s.close()
	heads := map[string]string{}
	err := CheckContents(s.tree.View(), func(p Problem) { t.Error(p) }, func(in *Inode, first []byte) error {
		p, err := s.tree.View().Path(in.Ino)
		heads[p] = string(first[:4])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if heads["new/m1"] != "seal" || heads[".F/cur/m3"] != "thir" || len(heads) != 4 {
		t.Errorf("contents begin with %q", heads)
	}
}

func TestCheckReportsHead(t *testing.T) {
	s := newScene(t)
	defer s.close()
	var got []string
	report := func(p Problem) { got = append(got, p.String()) }
	err := CheckContents(s.tree.View(), report, func(in *Inode, first []byte) error {
		if in.Ino == sceneMsg {
			return errors.New("no seal")
		}
		return nil
	})
	const want = `account 1, "new/m1": content 10: no seal (key 610000000169000000000000000a)`
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%q, %v; want %s", got, err, want)
	}
}
