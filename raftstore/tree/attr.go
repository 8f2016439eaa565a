package tree

import (
	"strings"
	"syscall"

	"mailraft/raftstore/raftpb"
)

// setAttr sets permissions, owner and times: ENOENT. A new modification time is a message's new INTERNALDATE: its MODSEQ moves.
func (x *txn) setAttr(c *raftpb.SetAttr) error {
	in, err := x.inode(Ino(c.Inode))
	if err != nil {
		return err
	}
	if _, err := x.counters(in.Ino.Account()); err != nil {
		return err
	}
	if c.Mode != nil {
		in.Mode = in.Mode&syscall.S_IFMT | *c.Mode&0o7777
	}
	if c.Uid != nil {
		in.UID = *c.Uid
	}
	if c.Gid != nil {
		in.GID = *c.Gid
	}
	moved := c.Mtime != nil && *c.Mtime != in.Mtime
	if c.Mtime != nil {
		in.Mtime = *c.Mtime
	}
	if c.Atime != nil {
		in.Atime = *c.Atime
	}
	in.Ctime = x.now
	x.changed(AttrChanged, 0, "", in.Inode)
	return x.touchNames(in, in.Links, moved)
}

func checkXattr(name string, value []byte) error {
	switch {
	case len(name) > MaxName || name == "":
		return syscall.ERANGE
	case !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.mailraft."):
		return syscall.EOPNOTSUPP
	case len(value) > MaxXattr:
		return syscall.E2BIG
	}
	return nil
}

// setXattr sets an extended attribute (xattr(7)): ENOENT, EEXIST, ENODATA, E2BIG, ERANGE, EDQUOT, ENOSPC for one too many; EOPNOTSUPP
// for anything but the user's own.
func (x *txn) setXattr(c *raftpb.SetXattr) error {
	if err := checkXattr(c.Name, c.Value); err != nil {
		return err
	}
	in, err := x.inode(Ino(c.Inode))
	if err != nil {
		return err
	}
	was, there, err := x.valueSize(xattrKey(in.Ino, c.Name))
	switch {
	case err != nil:
		return err
	case c.Create && there:
		return syscall.EEXIST
	case c.Replace && !there:
		return syscall.ENODATA
	case !there && in.Xattrs >= MaxXattrs:
		return syscall.ENOSPC
	}
	if _, err := x.counters(in.Ino.Account()); err != nil {
		return err
	}
	if !there {
		in.Xattrs++
	}
	x.set(xattrKey(in.Ino, c.Name), c.Value)
	x.charge(int64(len(c.Value)-was), 0)
	in.Ctime = x.now
	x.changed(AttrChanged, 0, "", in.Inode)
	return x.touchNames(in, in.Links, false)
}

// removeXattr removes an extended attribute: ENOENT, ENODATA.
func (x *txn) removeXattr(c *raftpb.RemoveXattr) error {
	in, err := x.inode(Ino(c.Inode))
	if err != nil {
		return err
	}
	was, there, err := x.valueSize(xattrKey(in.Ino, c.Name))
	if err == nil && !there {
		err = syscall.ENODATA
	}
	if err != nil {
		return err
	}
	if _, err := x.counters(in.Ino.Account()); err != nil {
		return err
	}
	in.Xattrs--
	x.delete(xattrKey(in.Ino, c.Name))
	x.charge(-int64(was), 0)
	in.Ctime = x.now
	x.changed(AttrChanged, 0, "", in.Inode)
	return x.touchNames(in, in.Links, false)
}

// valueSize is the length of a value, and whether it is there.
func (x *txn) valueSize(key []byte) (octets int, there bool, err error) {
	b, c, err := x.get(key)
	if err == syscall.ENOENT {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return len(b), true, c.Close()
}

// dropXattrs drops the inode's attributes.
func (x *txn) dropXattrs(in *Inode) error {
	if in.Xattrs == 0 {
		return nil
	}
	it, err := newIter(x.b, inoKey(kindXattr, in.Ino))
	if err != nil {
		return err
	}
	octets := 0
	for ok := it.First(); ok; ok = it.Next() {
		b, err := it.ValueAndErr()
		if err != nil {
			return closed(it, err)
		}
		octets += len(b)
	}
	x.charge(-int64(octets), 0)
	x.deleteAll(inoKey(kindXattr, in.Ino))
	return it.Close()
}
