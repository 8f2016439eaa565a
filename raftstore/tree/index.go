package tree

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// IndexEntry is one message of a folder.
type IndexEntry struct {
	UID    UID
	ModSeq ModSeq
	Size   uint64 // octets of the message
	Mtime  int64  // nanoseconds: INTERNALDATE
	Box    Role   // RoleCur or RoleNew
	Name   string
	Ino    Ino
}

// Vanished is a tombstone: the UID left the folder.
type Vanished struct {
	UID    UID
	ModSeq ModSeq
}

// FolderIndex is what a folder holds, or what changed in it.
type FolderIndex struct {
	Folder   *Inode
	Since    ModSeq       // 0: Messages is the whole folder
	Messages []IndexEntry // by UID
	Vanished []Vanished   // by UID
}

// FolderIndex implements Reader.
func (v *View) FolderIndex(folder Ino, since ModSeq) (*FolderIndex, error) {
	snap := v.snapshot()
	defer snap.Close()
	in, err := wholeInode(snap, folder)
	if err != nil {
		return nil, err
	}
	if !in.Role.IsFolder() {
		return nil, syscall.ENOTDIR
	}
	x := &FolderIndex{Folder: in}
	if since == 0 || since < in.VanishedFloor {
		err = x.readAll(snap)
	} else {
		x.Since = since
		if since < in.HighestModSeq {
			err = x.readSince(snap)
		}
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(x.Messages, func(a, b IndexEntry) int { return cmp.Compare(a.UID, b.UID) })
	slices.SortFunc(x.Vanished, func(a, b Vanished) int { return cmp.Compare(a.UID, b.UID) })
	return x, nil
}

// boxes are the directories of a folder that hold messages.
var boxes = []struct {
	role Role
	name string
}{{RoleCur, "cur"}, {RoleNew, "new"}}

// readAll reads the messages of the folder.
func (x *FolderIndex) readAll(r pebble.Reader) error {
	x.Messages = make([]IndexEntry, 0, min(x.Folder.Messages, 1<<20))
	for _, box := range boxes {
		de, err := entry(r, x.Folder.Ino, box.name)
		if err == syscall.ENOENT {
			continue
		}
		if err == nil {
			err = x.readBox(r, de.Ino, box.role)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *FolderIndex) readBox(r pebble.Reader, dir Ino, role Role) error {
	it, err := newIter(r, inoKey(kindEntry, dir))
	if err != nil {
		return err
	}
	var de DirEntry
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var val []byte
		if val, err = it.ValueAndErr(); err == nil {
			err = de.decode(dir, string(it.Key()[inoPrefix:]), val)
		}
		if err == nil && de.UID != 0 {
			x.add(role, &de)
		}
	}
	return closed(it, err)
}

func (x *FolderIndex) add(box Role, de *DirEntry) {
	x.Messages = append(x.Messages, IndexEntry{de.UID, de.ModSeq, de.Stat.Size, de.Stat.Mtime, box, de.Name, de.Ino})
}

// readSince reads what came, changed and vanished behind x.Since.
func (x *FolderIndex) readSince(r pebble.Reader) error {
	var dirs [RoleTmp]Ino
	for _, box := range boxes {
		de, err := entry(r, x.Folder.Ino, box.name)
		if err != nil && err != syscall.ENOENT {
			return err
		}
		dirs[box.role] = de.Ino
	}
	err := x.changes(r, kindModSeq, func(m ModSeq, uid UID, val []byte) error {
		p, err := decodePosition(val)
		if err != nil {
			return err
		}
		de, err := entry(r, dirs[p.box], p.name)
		if err == syscall.ENOENT || err == nil && (de.UID != uid || de.ModSeq != m) {
			err = fmt.Errorf("%w: message %d of inode %d of account %d is not where its change says",
				ErrCorrupt, uid, x.Folder.Ino.Local(), x.Folder.Ino.Account())
		}
		if err == nil {
			x.add(p.box, &de)
		}
		return err
	})
	if err != nil {
		return err
	}
	return x.changes(r, kindVanished, func(m ModSeq, uid UID, _ []byte) error {
		x.Vanished = append(x.Vanished, Vanished{uid, m})
		return nil
	})
}

// changes calls fn for the folder's keys of a kind behind x.Since.
func (x *FolderIndex) changes(r pebble.Reader, kind byte, fn func(ModSeq, UID, []byte) error) error {
	it, err := newIter(r, inoKey(kind, x.Folder.Ino))
	if err != nil {
		return err
	}
	for ok := it.SeekGE(changeKey(kind, x.Folder.Ino, x.Since+1, 0)); ok && err == nil; ok = it.Next() {
		var m ModSeq
		var uid UID
		var val []byte
		if m, uid, err = splitChangeKey(it.Key()); err == nil {
			val, err = it.ValueAndErr()
		}
		if err == nil {
			err = fn(m, uid, val)
		}
	}
	return closed(it, err)
}
