package tree

import (
	"maps"
	"slices"
	"strings"
	"syscall"

	"mailraft/raftstore/raftpb"
)

// create makes an inode and its first name, with content when there is some. EEXIST, ENOENT, ENOTDIR, EISDIR, EDQUOT, EFBIG,
// ENAMETOOLONG; EPERM for devices and reserved names; EXDEV in tmp/, whose files are never replicated; EINVAL for a number that
// was not reserved or a content that does not fit.
func (x *txn) create(c *raftpb.Create) error {
	name, err := checkName(c.Name)
	if err != nil {
		return err
	}
	dir, err := x.directory(Ino(c.Parent))
	if err != nil {
		return err
	}
	r, err := x.counters(dir.Ino.Account())
	if err != nil {
		return err
	}
	i := Ino(c.Inode)
	if !r.reserved(i) {
		return syscall.EINVAL
	}
	if ok, err := x.has(appendIno(x.key[:0], kindInode, i)); ok || err != nil {
		if err == nil {
			err = syscall.EINVAL
		}
		return err
	}
	in, err := x.newInode(i, dir, name, c)
	if err != nil {
		return err
	}
	if dir.Role == RoleTmp && !in.IsDir() {
		return syscall.EXDEV
	}

	old, err := x.entry(dir.Ino, name)
	switch {
	case err == syscall.ENOENT:
	case err != nil:
		return err
	case !c.Replace || in.IsDir():
		return syscall.EEXIST
	case old.Stat.IsDir():
		return syscall.EISDIR
	default:
		if err := x.replace(dir, &old); err != nil {
			return err
		}
	}
	if in.IsRegular() {
		if err := x.setPieces(in, c.Content); err != nil {
			return err
		}
	}
	x.charge(int64(in.Size), 1)
	return x.insert(dir, name, x.add(in), 0)
}

// newInode makes the inode that a Create asks for, without names and content.
func (x *txn) newInode(i Ino, dir *loaded, name string, c *raftpb.Create) (*Inode, error) {
	mtime := c.Mtime
	if mtime == 0 {
		mtime = x.now
	}
	in := &Inode{Ino: i, Stat: Stat{
		Mode: c.Mode & (syscall.S_IFMT | 0o7777), UID: c.Uid, GID: c.Gid, Mtime: mtime, Ctime: x.now, Atime: x.now,
	}}
	switch c.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		var err error
		if in, err = x.newDirectory(i, c.Mode, c.Uid, c.Gid, roleOf(dir.Role, name)); err != nil {
			return nil, err
		}
		in.Mtime = mtime
	case syscall.S_IFREG:
	case syscall.S_IFLNK:
		if len(c.Target) == 0 {
			return nil, syscall.ENOENT
		}
		if len(c.Target) > MaxTarget {
			return nil, syscall.ENAMETOOLONG
		}
		in.Target, in.Size = string(c.Target), uint64(len(c.Target))
	case syscall.S_IFIFO, syscall.S_IFSOCK:
	default:
		return nil, syscall.EPERM
	}
	if len(c.Xattrs) > MaxXattrs {
		return nil, syscall.ENOSPC
	}
	if len(c.Xattrs) > 0 {
		in.Xattrs = uint32(len(c.Xattrs))
		for _, name := range slices.Sorted(maps.Keys(c.Xattrs)) { // a map's own order differs from replica to replica
			if err := checkXattr(name, c.Xattrs[name]); err != nil {
				return nil, err
			}
			x.set(xattrKey(i, name), c.Xattrs[name])
			x.charge(int64(len(c.Xattrs[name])), 0)
		}
	}
	return in, nil
}

// replace removes the entry old, not a directory, to make room for another of its name.
func (x *txn) replace(dir *loaded, old *DirEntry) error {
	in, err := x.named(old.Ino)
	if err != nil {
		return err
	}
	return x.removeName(dir, old, in)
}

// removeName removes one name, and the inode when it was the last.
func (x *txn) removeName(dir *loaded, de *DirEntry, in *loaded) error {
	if err := x.remove(dir, de, in, false); err != nil {
		return err
	}
	if len(in.Links) == 0 {
		return x.drop(in)
	}
	return x.touchNames(in, in.Links, false)
}

// link gives a file one more name. EEXIST, ENOENT, ENOTDIR, EPERM for directories, EXDEV to another account or into tmp/,
// EMLINK.
func (x *txn) link(c *raftpb.Link) error {
	name, err := checkName(c.Name)
	if err != nil {
		return err
	}
	in, err := x.inode(Ino(c.Inode))
	if err != nil {
		return err
	}
	dir, err := x.directory(Ino(c.Parent))
	if err != nil {
		return err
	}
	switch {
	case in.IsDir():
		return syscall.EPERM
	case dir.Ino.Account() != in.Ino.Account() || dir.Role == RoleTmp:
		return syscall.EXDEV
	}
	if _, err := x.entry(dir.Ino, name); err != syscall.ENOENT {
		if err == nil {
			err = syscall.EEXIST
		}
		return err
	}
	if len(in.Links) >= MaxLinks {
		return syscall.EMLINK
	}
	if _, err := x.counters(in.Ino.Account()); err != nil {
		return err
	}
	if err := x.insert(dir, name, in, 0); err != nil {
		return err
	}
	return x.touchOthers(in)
}

// touchOthers is touchNames for all names but the one that was inserted last.
func (x *txn) touchOthers(in *loaded) error {
	return x.touchNames(in, in.Links[:len(in.Links)-1], false)
}

// unlink removes a name, of a file or of an empty directory. ENOENT, ENOTDIR, EISDIR, ENOTEMPTY; EBUSY for INBOX's own cur, new
// and tmp.
func (x *txn) unlink(c *raftpb.Unlink) error {
	dir, err := x.directory(Ino(c.Parent))
	if err != nil {
		return err
	}
	de, err := x.entry(dir.Ino, string(c.Name))
	if err != nil {
		return err
	}
	if _, err := x.counters(dir.Ino.Account()); err != nil {
		return err
	}
	in, err := x.named(de.Ino)
	if err != nil {
		return err
	}
	switch {
	case c.Directory && !in.IsDir():
		return syscall.ENOTDIR
	case !c.Directory && in.IsDir():
		return syscall.EISDIR
	case in.IsDir() && in.Entries > 0:
		return syscall.ENOTEMPTY
	case in.isFixed(dir):
		return syscall.EBUSY
	}
	return x.removeName(dir, &de, in)
}

// isFixed tells whether the directory must stay where it is: INBOX's cur, new and tmp, without which no mail comes in.
func (in *Inode) isFixed(parent *loaded) bool { return parent.Role == RoleRoot && in.Role > RoleFolder }

// checkName checks a new entry's name: EINVAL, EEXIST, ENAMETOOLONG, EPERM for the names that package fs serves itself.
func checkName(b []byte) (string, error) {
	name := string(b)
	switch {
	case name == "":
		return "", syscall.ENOENT
	case name == "." || name == "..":
		return "", syscall.EEXIST
	case len(name) > MaxName:
		return "", syscall.ENAMETOOLONG
	case strings.ContainsAny(name, "/\x00"):
		return "", syscall.EINVAL
	case strings.HasPrefix(name, ReservedPrefix):
		return "", syscall.EPERM
	}
	return name, nil
}

// ReservedPrefix begins the names that the mount itself serves in every folder; no file may be called so.
const ReservedPrefix = ".mailraft-"
