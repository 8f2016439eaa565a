package tree

import (
	"syscall"

	"mailraft/raftstore/raftpb"
)

// rename moves a name, as rename(2) and renameat2(2) do, and answers the inode moved. A message that stays in its folder keeps
// its UID; in another folder it gets a new one. ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EBUSY, EINVAL (a directory into
// itself); ELOOP (a directory to below too many others); EXDEV to another account, into tmp/, and for a directory that would become
// something else to the Maildir++.
func (x *txn) rename(c *raftpb.Rename) (uint64, error) {
	newName, err := checkName(c.NewName)
	if err != nil {
		return 0, err
	}
	from, err := x.directory(Ino(c.OldParent))
	if err != nil {
		return 0, err
	}
	to, err := x.directory(Ino(c.NewParent))
	if err != nil {
		return 0, err
	}
	de, err := x.entry(from.Ino, string(c.OldName))
	if err != nil {
		return 0, err
	}
	if from.Ino.Account() != to.Ino.Account() {
		return 0, syscall.EXDEV
	}
	if _, err := x.counters(from.Ino.Account()); err != nil {
		return 0, err
	}
	in, err := x.named(de.Ino)
	if err != nil {
		return 0, err
	}
	if err := x.movable(in, from, to, newName); err != nil {
		return 0, err
	}
	target, err := x.entry(to.Ino, newName)
	if err != nil && err != syscall.ENOENT {
		return 0, err
	}
	there := err == nil
	switch {
	case c.Exchange && !there:
		return 0, syscall.ENOENT
	case c.NoReplace && there:
		return 0, syscall.EEXIST
	case there && target.Ino == de.Ino:
		return uint64(in.Ino), nil // rename(2): two names of one file: nothing happens
	case c.Exchange:
		return uint64(in.Ino), x.exchange(from, &de, in, to, &target)
	}
	if there {
		if err := x.overwrite(in, to, &target); err != nil {
			return 0, err
		}
	}
	return uint64(in.Ino), x.move(from, &de, in, to, newName)
}

// maxDepth bounds the way up to the home. There may be more directories above each other, but none is moved to below so many: every
// replica walks all the way while nothing else is applied, and a damaged store could make it a circle.
const maxDepth = 1000

// movable tells whether in may go from one directory to another under that name.
func (x *txn) movable(in, from, to *loaded, name string) error {
	if in.isFixed(from) {
		return syscall.EBUSY
	}
	if !in.IsDir() {
		if to.Role == RoleTmp {
			return syscall.EXDEV
		}
		return nil
	}
	for up, depth := to, 0; from.Ino != to.Ino; depth++ { // what stays in its directory does not come to be below itself
		if up.Ino == in.Ino {
			return syscall.EINVAL
		}
		if depth >= maxDepth {
			return syscall.ELOOP
		}
		if len(up.Links) == 0 {
			break
		}
		parent, err := x.named(up.Links[0].Parent)
		if err != nil {
			return err
		}
		up = parent
	}
	role := roleOf(to.Role, name)
	if role != in.Role || role > RoleFolder && from.Ino != to.Ino {
		return syscall.EXDEV
	}
	return nil
}

// overwrite removes the name that in is about to take.
func (x *txn) overwrite(in, to *loaded, target *DirEntry) error {
	old, err := x.named(target.Ino)
	if err != nil {
		return err
	}
	switch {
	case in.IsDir() && !old.IsDir():
		return syscall.ENOTDIR
	case !in.IsDir() && old.IsDir():
		return syscall.EISDIR
	case old.IsDir() && old.Entries > 0:
		return syscall.ENOTEMPTY
	case old.isFixed(to):
		return syscall.EBUSY
	}
	return x.removeName(to, target, old)
}

// move takes in from one name to another, free one.
func (x *txn) move(from *loaded, de *DirEntry, in, to *loaded, newName string) error {
	uid := x.keptUID(from, de, in, to, newName)
	if err := x.remove(from, de, in, uid != 0); err != nil {
		return err
	}
	if err := x.insert(to, newName, in, uid); err != nil {
		return err
	}
	return x.touchOthers(in)
}

// keptUID is the UID that a message keeps when it moves: that of its old name if it stays in the folder, else 0.
func (x *txn) keptUID(from *loaded, de *DirEntry, in, to *loaded, newName string) UID {
	if de.UID == 0 || !isMessage(from.Role, in.Mode, de.Name) || !isMessage(to.Role, in.Mode, newName) || from.Links[0].Parent != to.Links[0].Parent {
		return 0
	}
	return de.UID
}

// exchange swaps two names (RENAME_EXCHANGE).
func (x *txn) exchange(from *loaded, de *DirEntry, in, to *loaded, target *DirEntry) error {
	other, err := x.named(target.Ino)
	if err != nil {
		return err
	}
	if err := x.movable(other, to, from, de.Name); err != nil {
		return err
	}
	uid := x.keptUID(from, de, in, to, target.Name)
	otherUID := x.keptUID(to, target, other, from, de.Name)
	if err := x.remove(from, de, in, uid != 0); err != nil {
		return err
	}
	if err := x.remove(to, target, other, otherUID != 0); err != nil {
		return err
	}
	if err := x.insert(to, target.Name, in, uid); err != nil {
		return err
	}
	if err := x.insert(from, de.Name, other, otherUID); err != nil {
		return err
	}
	if err := x.touchOthers(in); err != nil {
		return err
	}
	return x.touchOthers(other)
}
