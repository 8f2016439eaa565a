package tree

import (
	"fmt"
	"syscall"
)

// insert gives in the name dir/name, which must be free. A message keeps the UID it had in the same folder, else it gets the
// folder's next one (uid 0). The counters of the directory and the folder follow.
func (x *txn) insert(dir *loaded, name string, in *loaded, uid UID) error {
	de := DirEntry{Name: name, Ino: in.Ino}
	if isMessage(dir.Role, in.Mode, name) {
		folder, err := x.folder(dir)
		if err != nil {
			return err
		}
		if uid == 0 {
			if folder.UIDNext == 1<<32-1 {
				return syscall.ENOSPC // RFC 9051, 2.3.1.1: the folder has to be made anew
			}
			uid = folder.UIDNext
			folder.UIDNext++
		}
		folder.Messages++
		x.folderChanged(folder)
		de.UID, de.ModSeq = uid, x.modSeq()
		x.setPosition(folder.Ino, dir, &de)
	}
	in.Links = append(in.Links, LinkName{dir.Ino, name})
	if !in.IsDir() {
		in.Nlink = uint32(len(in.Links))
	}
	in.Ctime = x.now
	in.dirty = true
	de.Stat = in.Stat
	x.setEntry(dir.Ino, &de)
	dir.Entries++
	if in.IsDir() {
		dir.Subdirs++
	}
	dir.Mtime, dir.Ctime, dir.dirty = x.now, x.now, true
	x.changed(EntryAdded, dir.Ino, name, in.Inode)
	return nil
}

// remove takes the name de from dir. kept says that the message goes on in the same folder under its UID, so that there is no
// tombstone. The inode stays, with one name fewer; drop ends it.
func (x *txn) remove(dir *loaded, de *DirEntry, in *loaded, kept bool) error {
	if de.UID != 0 {
		folder, err := x.folder(dir)
		if err != nil {
			return err
		}
		x.delete(x.changeKey(kindModSeq, folder.Ino, de.ModSeq, de.UID))
		folder.Messages--
		x.folderChanged(folder)
		if !kept {
			if err := x.bury(folder, de.UID); err != nil {
				return err
			}
		}
	}
	for n, l := range in.Links {
		if l.Parent == dir.Ino && l.Name == de.Name {
			in.Links = append(in.Links[:n], in.Links[n+1:]...)
			break
		}
	}
	if !in.IsDir() {
		in.Nlink = uint32(len(in.Links))
	}
	in.Ctime, in.dirty = x.now, true
	x.delete(x.entryKey(dir.Ino, de.Name))
	dir.Entries--
	if in.IsDir() {
		dir.Subdirs--
	}
	dir.Mtime, dir.Ctime, dir.dirty = x.now, x.now, true
	x.changed(EntryRemoved, dir.Ino, de.Name, in.Inode)
	return nil
}

// bury leaves a tombstone: the UID vanished now (RFC 7162, 3.2.10). Of too many the oldest go, in lots.
func (x *txn) bury(folder *loaded, uid UID) error {
	x.set(x.changeKey(kindVanished, folder.Ino, x.modSeq(), uid), tombstone)
	folder.Vanished++
	lot := max(x.tombs/16, 1)
	if folder.Vanished < x.tombs+lot {
		return nil
	}
	return x.forget(folder, lot)
}

// forget drops the n oldest tombstones of the folder.
func (x *txn) forget(folder *loaded, n uint64) error {
	it, err := newIter(x.b, inoKey(kindVanished, folder.Ino))
	if err != nil {
		return err
	}
	oldest := changeKey(kindVanished, folder.Ino, folder.VanishedFloor+1, 0)
	for ok := it.SeekGE(oldest); ok && n > 0; ok = it.Next() {
		m, _, err := splitChangeKey(it.Key())
		if err != nil {
			return closed(it, err)
		}
		folder.Vanished--
		folder.VanishedFloor = m
		n--
	}
	x.deleteRange(oldest, changeKey(kindVanished, folder.Ino, folder.VanishedFloor+1, 0))
	return it.Close()
}

// drop ends an inode that has no name left, with its content and attributes.
func (x *txn) drop(in *loaded) error {
	in.gone = true
	if in.Role.IsFolder() {
		x.deleteAll(inoKey(kindModSeq, in.Ino))
		x.deleteAll(inoKey(kindVanished, in.Ino))
	}
	x.dropPieces(in.Inode)
	x.charge(-int64(in.Size), -1)
	return x.dropXattrs(in.Inode)
}

// dropPieces drops the stored content of the inode.
func (x *txn) dropPieces(in *Inode) {
	if in.Content == 0 {
		return
	}
	id := MakeIno(in.Ino.Account(), in.Content)
	if in.SealedSize <= MaxPiece {
		x.delete(pieceKey(id, 0)) // a point delete costs later reads less than a range
		return
	}
	x.deleteAll(inoKey(kindContent, id))
}

// touchNames writes a changed inode's status into some of its directory entries, which hold a copy. moved says that its
// messages count as changed: their MODSEQ moves on.
func (x *txn) touchNames(in *loaded, names []LinkName, moved bool) error {
	in.dirty = true
	if in.IsDir() {
		return nil
	}
	for _, l := range names {
		de, err := x.entry(l.Parent, l.Name)
		if err == syscall.ENOENT {
			err = fmt.Errorf("%w: inode %d of account %d has lost its name %q", ErrCorrupt, in.Ino.Local(), in.Ino.Account(), l.Name)
		}
		if err != nil {
			return err
		}
		de.Stat = in.Stat
		if de.UID != 0 && moved {
			dir, err := x.named(l.Parent)
			if err != nil {
				return err
			}
			folder, err := x.folder(dir)
			if err != nil {
				return err
			}
			x.delete(x.changeKey(kindModSeq, folder.Ino, de.ModSeq, de.UID))
			de.ModSeq = x.modSeq()
			x.setPosition(folder.Ino, dir, &de)
			x.folderChanged(folder)
		}
		x.setEntry(l.Parent, &de)
	}
	return nil
}
