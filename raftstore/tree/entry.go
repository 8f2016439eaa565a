package tree

import "syscall"

// insert gives in the name dir/name, which must be free. A message keeps the UID it had in the same folder, else it gets the
// folder's next one (uid 0). The counters of the directory and the folder follow.
func (x *txn) insert(dir *loaded, name string, in *loaded, uid UID) error {
	de := DirEntry{Name: name, Ino: in.Ino}
	if isMessage(dir.Role, in.Mode, name) {
		folder, err := x.inode(dir.Links[0].Parent)
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
		de.UID, de.ModSeq = uid, ModSeq(x.index)
		pos := position{dir.Role, name}
		x.set(changeKey(kindModSeq, folder.Ino, de.ModSeq, uid), pos.encode())
	}
	in.Links = append(in.Links, LinkName{dir.Ino, name})
	if !in.IsDir() {
		in.Nlink = uint32(len(in.Links))
	}
	in.Ctime = x.now
	in.dirty = true
	de.Stat = in.Stat
	x.set(entryKey(dir.Ino, name), de.encode())
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
		folder, err := x.inode(dir.Links[0].Parent)
		if err != nil {
			return err
		}
		x.delete(changeKey(kindModSeq, folder.Ino, de.ModSeq, de.UID))
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
	x.delete(entryKey(dir.Ino, de.Name))
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
	x.set(changeKey(kindVanished, folder.Ino, ModSeq(x.index), uid), []byte{recordVersion})
	folder.Vanished++
	const lot = maxTombs / 16
	if folder.Vanished < maxTombs+lot {
		return nil
	}
	return x.forget(folder, lot)
}

// forget drops the n oldest tombstones of the folder.
func (x *txn) forget(folder *loaded, n int) error {
	it, err := newIter(x.b, inoKey(kindVanished, folder.Ino))
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok && n > 0; ok = it.Next() {
		m, _, err := splitChangeKey(it.Key())
		if err != nil {
			return err
		}
		x.delete(append([]byte(nil), it.Key()...))
		folder.Vanished--
		folder.VanishedFloor = max(folder.VanishedFloor, m)
		n--
	}
	return it.Error()
}

// drop ends an inode that has no name left, with its content and attributes.
func (x *txn) drop(in *loaded) error {
	in.gone = true
	if in.Xattrs > 0 {
		from := inoKey(kindXattr, in.Ino)
		x.deleteRange(from, keyAfter(from))
	}
	if in.Role.IsFolder() {
		for _, kind := range []byte{kindModSeq, kindVanished} {
			from := inoKey(kind, in.Ino)
			x.deleteRange(from, keyAfter(from))
		}
	}
	x.dropPieces(in.Inode)
	return x.charge(-int64(in.Size), -1)
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
	from := inoKey(kindContent, id)
	x.deleteRange(from, keyAfter(from))
}

// touchNames writes a changed inode's status into its directory entries, which hold a copy. moved says that its messages
// count as changed: their MODSEQ moves on.
func (x *txn) touchNames(in *loaded, moved bool) error {
	in.dirty = true
	if in.IsDir() {
		return nil
	}
	for _, l := range in.Links {
		de, err := x.entry(l.Parent, l.Name)
		if err != nil {
			return err
		}
		de.Stat = in.Stat
		if de.UID != 0 && moved {
			dir, err := x.directory(l.Parent)
			if err != nil {
				return err
			}
			folder, err := x.directory(dir.Links[0].Parent)
			if err != nil {
				return err
			}
			x.delete(changeKey(kindModSeq, folder.Ino, de.ModSeq, de.UID))
			de.ModSeq = ModSeq(x.index)
			pos := position{dir.Role, l.Name}
			x.set(changeKey(kindModSeq, folder.Ino, de.ModSeq, de.UID), pos.encode())
			x.folderChanged(folder)
		}
		x.set(entryKey(l.Parent, l.Name), de.encode())
	}
	return nil
}
