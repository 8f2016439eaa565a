package tree

import (
	"errors"
	"strings"
	"syscall"
)

// inodes checks every inode of the account, with its names, its content and its attributes.
func (c *checker) inodes() error {
	err := c.each(kindInode, inoPrefix, func(i Ino, key, val []byte) error {
		in, err := decodeInode(i, val)
		if err != nil {
			return c.corrupt(key, err)
		}
		if i.Local() >= firstLocal {
			c.files++
			c.bytes += in.Size
		}
		c.fields(in)
		if in.IsDir() {
			c.directory(in)
		} else if err := c.content(in); err != nil {
			return err
		}
		if err := c.names(in); err != nil {
			return err
		}
		return c.countXattrs(in)
	})
	if err != nil {
		return err
	}
	return c.fixed()
}

// fixed checks the directories that every account has.
func (c *checker) fixed() error {
	if c.counters.Account == 0 {
		return nil // the account's record is not there; that is reported
	}
	for n, name := range []string{"", "cur", "new", "tmp"} {
		i := MakeIno(c.account, uint64(rootLocal+n))
		in, err := c.inode(i)
		if err != nil {
			return err
		}
		if in == nil || !in.IsDir() || n > 0 && (in.Links[0] != LinkName{RootIno(c.account), name}) {
			c.problem(name, inodeKey(i), "the home's own directory %q is not there, or is not whole", name)
		}
	}
	return nil
}

// fields checks what an inode says of itself.
func (c *checker) fields(in *Inode) {
	local := in.Ino.Local()
	if local >= c.counters.NextLocal && c.counters.Account != 0 || local > rootLocal+3 && local < firstLocal {
		c.found(in, "inode number %d was never given out", local)
	}
	kind := in.Mode & syscall.S_IFMT
	switch kind {
	case syscall.S_IFDIR, syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK:
		if in.Target != "" {
			c.found(in, "it is no symbolic link and has a target")
		}
	case syscall.S_IFLNK:
		if in.Target == "" || in.Size != uint64(len(in.Target)) {
			c.found(in, "symbolic link of %d octets has a target of %d", in.Size, len(in.Target))
		}
	default:
		c.found(in, "mode %o is of no known kind", in.Mode)
	}
	if in.Mode&^(syscall.S_IFMT|0o7777) != 0 {
		c.found(in, "mode %o has unknown bits", in.Mode)
	}
	if kind != syscall.S_IFREG && (in.Content != 0 || in.SealedSize != 0 || in.Size != 0 && kind != syscall.S_IFLNK) {
		c.found(in, "it is no regular file and has a content")
	}
	if in.IsDir() {
		if in.Nlink != 0 {
			c.found(in, "directory's record has a link count")
		}
	} else if len(in.Links) == 0 || int(in.Nlink) != len(in.Links) {
		c.found(in, "link count is %d, it has %d names", in.Nlink, len(in.Links))
	}
}

// directory checks a directory's place, role and folder numbers; what is in it is counted where entries are walked.
func (c *checker) directory(in *Inode) {
	local := in.Ino.Local()
	if local != rootLocal {
		c.parents[local] = in.Links[0].Parent.Local()
	}
	if !in.Role.IsFolder() {
		return
	}
	if in.UIDValidity == 0 || in.UIDValidity > c.counters.UIDValidity && c.counters.Account != 0 {
		c.found(in, "UIDVALIDITY %d was never given out", in.UIDValidity)
	}
	if _, twice := c.validities[in.UIDValidity]; twice {
		c.found(in, "UIDVALIDITY %d is another folder's too", in.UIDValidity)
	}
	c.validities[in.UIDValidity] = struct{}{}
	if in.UIDNext == 0 || in.VanishedFloor > in.HighestModSeq {
		c.found(in, "UIDNEXT is %d, forgotten are tombstones up to %d of %d", in.UIDNext, in.VanishedFloor, in.HighestModSeq)
	}
}

// names checks that the entries that an inode names are there and lead back to it.
func (c *checker) names(in *Inode) error {
	for n, l := range in.Links {
		for _, before := range in.Links[:n] {
			if l == before {
				c.found(in, "it has the name %q twice", l.Name)
			}
		}
		de, err := entry(c.r, l.Parent, l.Name)
		switch {
		case err == syscall.ENOENT:
			c.found(in, "its name %q in inode %d is not there", l.Name, l.Parent.Local())
		case errors.Is(err, ErrCorrupt):
		case err != nil:
			return err
		case de.Ino != in.Ino:
			c.found(in, "its name %q in inode %d leads to inode %d", l.Name, l.Parent.Local(), de.Ino.Local())
		case de.Stat.IsDir() != in.IsDir() || !in.IsDir() && de.Stat != in.Stat:
			c.found(in, "its name %q in inode %d has another status: %+v, the inode %+v", l.Name, l.Parent.Local(), de.Stat, in.Stat)
		}
	}
	return nil
}

// content checks that the content's pieces are all there.
func (c *checker) content(in *Inode) error {
	if in.Content == 0 {
		if in.SealedSize != 0 || in.Size != 0 && in.IsRegular() {
			c.found(in, "%d octets, sealed %d, and no content", in.Size, in.SealedSize)
		}
		return nil
	}
	c.contents = append(c.contents, in.Content)
	if in.Content >= c.counters.NextLocal && c.counters.Account != 0 {
		c.found(in, "content number %d was never given out", in.Content)
	}
	if in.Size > MaxContent || in.SealedSize == 0 {
		c.found(in, "%d octets, sealed %d", in.Size, in.SealedSize)
	}
	var octets uint64
	whole := true
	var wrong error
	err := c.pieces(MakeIno(c.account, in.Content), func(n uint32, b []byte) {
		if uint64(n)*MaxPiece != octets || octets >= in.SealedSize || uint64(len(b)) != min(in.SealedSize-octets, MaxPiece) {
			whole = false
		} else if n == 0 && c.head != nil {
			wrong = c.head(in, b)
		}
		octets += uint64(len(b))
	})
	switch {
	case err != nil:
	case !whole || octets != in.SealedSize:
		c.found(in, "the pieces of content %d are not the %d octets sealed", in.Content, in.SealedSize)
	case wrong != nil:
		c.found(in, "content %d: %v", in.Content, wrong)
	}
	return err
}

// countXattrs checks the number and the names of the inode's attributes.
func (c *checker) countXattrs(in *Inode) error {
	n := uint32(0)
	err := c.walk(inoKey(kindXattr, in.Ino), 0, func(_ Ino, k, val []byte) error {
		n++
		c.bytes += uint64(len(val))
		if name := string(k[inoPrefix:]); checkXattr(name, val) != nil {
			c.found(in, "attribute %q can't be", name)
		}
		return nil
	})
	if err == nil && n != in.Xattrs {
		c.found(in, "it has %d attributes, recorded are %d", n, in.Xattrs)
	}
	return err
}

// badName tells whether no entry can be called so.
func badName(name string) bool {
	return name == "" || name == "." || name == ".." || len(name) > MaxName || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ReservedPrefix)
}
