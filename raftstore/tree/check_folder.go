package tree

import (
	"errors"
	"slices"
	"syscall"
)

// entries checks every directory entry of the account, and each directory's counts.
func (c *checker) entries() error {
	// Directories that the entries lead to are counted against their inodes; those without an entry are looked at in folders.
	seen := map[uint64]bool{}
	err := c.groups(kindEntry, func(dir Ino, key []byte) error {
		in, err := c.inode(dir)
		if err != nil {
			return err
		}
		if in == nil || !in.IsDir() {
			there, err := c.hasRecord(inodeKey(dir))
			if err == nil && (!there || in != nil) {
				c.problem("", key, "entry in inode %d, which is no directory", dir.Local())
			}
			return err
		}
		seen[dir.Local()] = true
		return c.list(in)
	})
	if err != nil {
		return err
	}
	return c.each(kindInode, inoPrefix, func(i Ino, key, val []byte) error {
		in, err := decodeInode(i, val)
		if err == nil && in.IsDir() && !seen[i.Local()] && (in.Entries != 0 || in.Subdirs != 0) {
			c.found(in, "it is empty, recorded are %d entries, %d directories", in.Entries, in.Subdirs)
		}
		return nil // records that can't be read are reported
	})
}

// list checks the entries of one directory.
func (c *checker) list(dir *Inode) error {
	var folder *Inode
	if dir.Role.HoldsMessages() && len(dir.Links) == 1 {
		var err error
		if folder, err = c.inode(dir.Links[0].Parent); err != nil {
			return err
		}
	}
	var entries uint64
	var subdirs uint32
	err := c.walk(inoKey(kindEntry, dir.Ino), 0, func(_ Ino, key, val []byte) error {
		var de DirEntry
		entries++
		if err := de.decode(dir.Ino, string(key[inoPrefix:]), val); err != nil {
			return c.corrupt(key, err)
		}
		if de.Stat.IsDir() {
			subdirs++
		}
		return c.entry(dir, folder, key, &de)
	})
	if err == nil && (entries != dir.Entries || subdirs != dir.Subdirs) {
		c.found(dir, "it has %d entries, %d of them directories, recorded are %d and %d", entries, subdirs, dir.Entries, dir.Subdirs)
	}
	return err
}

// entry checks that an entry leads to an inode that has this name, and what it says of a message.
func (c *checker) entry(dir, folder *Inode, key []byte, de *DirEntry) error {
	report := func(format string, args ...any) {
		p, err := path(c.r, dir.Ino)
		if err != nil {
			p = ""
		}
		c.problem(p+"/"+de.Name, key, format, args...)
	}
	if badName(de.Name) {
		report("no file can be called so")
	}
	in, err := c.inode(de.Ino)
	if err != nil {
		return err
	}
	if in == nil {
		there, err := c.hasRecord(inodeKey(de.Ino))
		if err == nil && !there {
			report("leads to inode %d, which is not there", de.Ino.Local())
		}
		return err
	}
	if !slices.Contains(in.Links, LinkName{dir.Ino, de.Name}) {
		report("leads to inode %d, which has no such name", de.Ino.Local())
	}
	switch {
	case in.IsDir() && in.Role != roleOf(dir.Role, de.Name):
		report("directory has role %d under a name of role %d", in.Role, roleOf(dir.Role, de.Name))
	case !in.IsDir() && dir.Role == RoleTmp:
		report("file in a directory for what is not replicated")
	case isMessage(dir.Role, in.Mode, de.Name) != (de.UID != 0):
		report("has UID %d", de.UID)
	case de.UID == 0 && de.ModSeq != 0:
		report("is no message and has MODSEQ %d", de.ModSeq)
	case de.UID != 0 && folder != nil:
		if de.UID >= folder.UIDNext || de.ModSeq > folder.HighestModSeq || de.ModSeq == 0 {
			report("UID %d, MODSEQ %d in a folder with UIDNEXT %d, HIGHESTMODSEQ %d", de.UID, de.ModSeq, folder.UIDNext, folder.HighestModSeq)
		}
		pos, closer, err := read(c.r, changeKey(kindModSeq, folder.Ino, de.ModSeq, de.UID))
		if err == syscall.ENOENT {
			report("UID %d has no change at MODSEQ %d", de.UID, de.ModSeq)
			return nil
		}
		if err != nil {
			return err
		}
		p, err := decodePosition(pos)
		if err == nil && p != (position{dir.Role, de.Name}) {
			report("the change of UID %d at MODSEQ %d tells of %q", de.UID, de.ModSeq, p.name)
		}
		return closer.Close() // a record that can't be read is reported where it lies
	}
	return nil
}

// changes checks the folders' changes and tombstones.
func (c *checker) changes() error {
	for _, kind := range []byte{kindModSeq, kindVanished} {
		err := c.groups(kind, func(f Ino, key []byte) error {
			in, err := c.inode(f)
			if err != nil {
				return err
			}
			if in == nil || !in.Role.IsFolder() {
				there, err := c.hasRecord(inodeKey(f))
				if err == nil && (!there || in != nil) {
					c.problem("", key, "change of inode %d, which is no folder", f.Local())
				}
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return c.each(kindInode, inoPrefix, func(i Ino, key, val []byte) error {
		in, err := decodeInode(i, val)
		if err != nil || !in.Role.IsFolder() {
			return nil // records that can't be read are reported
		}
		return c.folder(in)
	})
}

// folder checks a folder's messages and tombstones against its counts.
func (c *checker) folder(f *Inode) error {
	var dirs [RoleTmp]Ino
	inBoxes := uint64(0)
	for _, box := range boxes {
		de, err := entry(c.r, f.Ino, box.name)
		if err != nil && err != syscall.ENOENT && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if err != nil {
			continue
		}
		dirs[box.role] = de.Ino
		n, err := c.messages(de.Ino)
		if err != nil {
			return err
		}
		inBoxes += n
	}
	if inBoxes != f.Messages {
		c.found(f, "folder has %d messages, recorded are %d", inBoxes, f.Messages)
	}
	uids := make([]UID, 0, min(f.Messages, 1<<20))
	err := c.changesOf(f, kindModSeq, func(m ModSeq, uid UID, key, val []byte) error {
		uids = append(uids, uid)
		p, err := decodePosition(val)
		if err != nil {
			return c.corrupt(key, err)
		}
		de, err := entry(c.r, dirs[p.box], p.name)
		switch {
		case errors.Is(err, ErrCorrupt):
			return nil // reported where it lies
		case err != nil && err != syscall.ENOENT:
			return err
		case err != nil || de.UID != uid || de.ModSeq != m:
			c.found(f, "change of UID %d at MODSEQ %d tells of %q, which is another message or none", uid, m, p.name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(uids)
	for n, uid := range uids {
		if n > 0 && uids[n-1] == uid {
			c.found(f, "UID %d is there twice", uid)
		}
	}
	return c.tombstones(f, uids)
}

// tombstones checks what vanished from the folder, that has messages of the UIDs.
func (c *checker) tombstones(f *Inode, uids []UID) error {
	var gone []UID
	err := c.changesOf(f, kindVanished, func(m ModSeq, uid UID, key, val []byte) error {
		gone = append(gone, uid)
		if err := decodeTombstone(val); err != nil {
			return c.corrupt(key, err)
		}
		if _, there := slices.BinarySearch(uids, uid); there || uid >= f.UIDNext || uid == 0 {
			c.found(f, "UID %d has vanished and is there, or never was", uid)
		}
		if m <= f.VanishedFloor || m > f.HighestModSeq {
			c.found(f, "UID %d vanished at MODSEQ %d, which is not between %d and %d", uid, m, f.VanishedFloor, f.HighestModSeq)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if uint64(len(gone)) != f.Vanished {
		c.found(f, "folder has %d tombstones, recorded are %d", len(gone), f.Vanished)
	}
	slices.Sort(gone)
	for n, uid := range gone {
		if n > 0 && gone[n-1] == uid {
			c.found(f, "UID %d has vanished twice", uid)
		}
	}
	return nil
}

func (c *checker) changesOf(f *Inode, kind byte, fn func(m ModSeq, uid UID, key, val []byte) error) error {
	return c.walk(inoKey(kind, f.Ino), changeLen, func(_ Ino, key, val []byte) error {
		m, uid, err := splitChangeKey(key)
		if err != nil {
			return c.corrupt(key, err)
		}
		return fn(m, uid, key, val)
	})
}

// messages counts the messages in a directory.
func (c *checker) messages(dir Ino) (n uint64, err error) {
	err = c.walk(inoKey(kindEntry, dir), 0, func(_ Ino, key, val []byte) error {
		var de DirEntry
		if de.decode(dir, string(key[inoPrefix:]), val) == nil && de.UID != 0 {
			n++
		}
		return nil
	})
	return n, err
}
