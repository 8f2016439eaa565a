package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// Problem is something in the store that can't be what Apply wrote.
type Problem struct {
	Account Account // 0: of none
	Path    string  // below the account's home, where it is known
	Key     []byte  // of the record
	What    string
}

// String is the problem in one line.
func (p Problem) String() string {
	s := fmt.Sprintf("account %d", p.Account)
	if p.Path != "" {
		s += fmt.Sprintf(", %q", p.Path)
	}
	return fmt.Sprintf("%s: %s (key %x)", s, p.What, p.Key)
}

// Check reads all that the tree has stored, in one consistent state of it, and reports what is wrong. An error means that the
// store can't be read. It keeps 12 octets a file in memory, and little else.
func Check(v *View, report func(Problem)) error { return CheckContents(v, report, nil) }

// CheckContents is Check, with a call for each content that is complete: head gets its first octets (its first piece; not to be
// kept) and answers what is wrong with them, nil for nothing.
func CheckContents(v *View, report func(Problem), head func(in *Inode, first []byte) error) error {
	snap := v.snapshot()
	c := &checker{r: snap, report: report, head: head}
	err := c.accounts()
	if err == nil {
		err = c.stray()
	}
	return errors.Join(err, snap.Close())
}

// checker walks one account after the other. Wherever one record points to another, it looks whether that is there and points
// back, so that each record is vouched for from both ends.
type checker struct {
	r      pebble.Reader
	report func(Problem)
	head   func(*Inode, []byte) error

	account    Account
	counters   AccountRecord
	bytes      uint64 // found so far
	files      uint64
	contents   []uint64            // local numbers that inodes name
	parents    map[uint64]uint64   // of directories: local numbers
	validities map[uint32]struct{} // of folders
}

func (c *checker) problem(path string, key []byte, format string, args ...any) {
	c.report(Problem{Account: c.account, Path: path, Key: bytes.Clone(key), What: fmt.Sprintf(format, args...)})
}

// found reports a problem with the record of an inode.
func (c *checker) found(in *Inode, format string, args ...any) {
	p, err := path(c.r, in.Ino)
	if err != nil {
		p = ""
	}
	c.problem(p, inodeKey(in.Ino), format, args...)
}

// corrupt reports an error that is one of the record itself, and gives any other back.
func (c *checker) corrupt(key []byte, err error) error {
	if errors.Is(err, ErrCorrupt) {
		c.problem("", key, "%v", err)
		return nil
	}
	return err
}

// stray looks for keys that are no tree's.
func (c *checker) stray() error {
	c.account = 0
	it, err := c.r.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixTree}, UpperBound: []byte{prefixLast + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		switch it.Key()[0] {
		case prefixTree:
			ok = it.SeekGE([]byte{prefixTree + 1})
		case prefixOrphan:
			if err := c.orphan(it); err != nil {
				return closed(it, err)
			}
			ok = it.Next()
		default:
			c.problem("", it.Key(), "unknown key")
			ok = it.Next()
		}
	}
	return it.Close()
}

// orphan checks the record of a content that no inode names.
func (c *checker) orphan(it *pebble.Iterator) error {
	c.account = 0
	id, o, err := orphanAt(it)
	if err != nil {
		return c.corrupt(it.Key(), err)
	}
	c.account = id.Account()
	a, err := account(c.r, c.account)
	switch {
	case err == syscall.ENOENT:
		importing, err := c.hasRecord(importKey(c.account))
		if err == nil && !importing {
			c.problem("", it.Key(), "pieces of an account that is not there")
		}
		if err != nil || importing {
			return err
		}
	case errors.Is(err, ErrCorrupt):
	case err != nil:
		return err
	case !a.reserved(id):
		c.problem("", it.Key(), "content number %d was never given out", id.Local())
	}
	var octets uint64
	var pieces, top uint32
	broken := ""
	err = c.pieces(id, func(n uint32, b []byte) {
		octets += uint64(len(b))
		pieces++
		top = n
		if len(b) < MaxPiece && n != o.top {
			broken = ", and one before the last is short"
		}
	})
	if err == nil && (octets != o.octets || pieces != o.pieces || top != o.top || broken != "") {
		c.problem("", it.Key(), "%d pieces of %d octets up to %d, recorded are %d of %d up to %d%s", pieces, octets, top, o.pieces, o.octets, o.top, broken)
	}
	return err
}

// accounts checks the records of all accounts.
func (c *checker) accounts() error {
	it, err := newIter(c.r, []byte{prefixTree})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		k := it.Key()
		if len(k) < keyPrefix {
			c.account = 0
			c.problem("", k, "unknown key")
			ok = it.Next()
			continue
		}
		c.account = Account(binary.BigEndian.Uint32(k[1:]))
		if err := c.checkAccount(); err != nil {
			return closed(it, err)
		}
		_, after := accountRange(c.account)
		ok = it.SeekGE(after)
	}
	return it.Close()
}

func (c *checker) checkAccount() error {
	c.bytes, c.files, c.contents = 0, 0, c.contents[:0]
	c.parents, c.validities = map[uint64]uint64{}, map[uint32]struct{}{}
	c.counters = AccountRecord{}
	key := accountKey(c.account)
	a, err := account(c.r, c.account)
	switch {
	case err == nil && (c.account == 0 || c.account > MaxAccount):
		c.problem("", key, "there is no such account number")
	case err == nil:
	case err == syscall.ENOENT:
		if importing, err := c.hasRecord(importKey(c.account)); importing || err != nil {
			return err
		}
		c.problem("", key, "records of an account that is not there")
	default:
		if err := c.corrupt(key, err); err != nil {
			return err
		}
	}
	if a != nil {
		c.counters = *a
	}
	for _, walk := range []func() error{c.kinds, c.inodes, c.reachable, c.entries, c.changes, c.xattrs, c.namedContents} {
		if err := walk(); err != nil {
			return err
		}
	}
	if a != nil && (a.Bytes != c.bytes || a.Files != c.files) {
		c.problem("", key, "%d octets in %d files, recorded are %d in %d", c.bytes, c.files, a.Bytes, a.Files)
	}
	return nil
}

// kinds looks for keys of no known kind.
func (c *checker) kinds() error {
	from, to := accountRange(c.account)
	it, err := c.r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		k := it.Key()
		known := len(k) >= keyPrefix
		if known {
			switch k[keyPrefix-1] {
			case kindAccount:
				known = len(k) == keyPrefix
			case kindContent, kindEntry, kindInode, kindModSeq, kindVanished, kindXattr:
				ok = it.SeekGE(appendKind(nil, c.account, k[keyPrefix-1]+1))
				continue
			default:
				known = false
			}
		}
		if !known {
			c.problem("", k, "unknown key")
		}
		ok = it.Next()
	}
	return it.Close()
}

// each calls fn for all records of a kind whose key has the length (0: any) and names an inode number that can be. fn must not
// keep what it gets.
func (c *checker) each(kind byte, length int, fn func(i Ino, key, val []byte) error) error {
	return c.walk(appendKind(nil, c.account, kind), length, fn)
}

func (c *checker) walk(prefix []byte, length int, fn func(i Ino, key, val []byte) error) error {
	it, err := newIter(c.r, prefix)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		k := it.Key()
		if len(k) < inoPrefix || length > 0 && len(k) != length {
			c.problem("", k, "unknown key")
			continue
		}
		local := binary.BigEndian.Uint64(k[keyPrefix:])
		if local == 0 || local > maxLocal {
			c.problem("", k, "unknown key")
			continue
		}
		val, err := it.ValueAndErr()
		if err == nil {
			err = fn(MakeIno(c.account, local), k, val)
		}
		if err != nil {
			return closed(it, err)
		}
	}
	return it.Close()
}

// groups calls fn for each inode number that records of a kind are about.
func (c *checker) groups(kind byte, fn func(i Ino, key []byte) error) error {
	it, err := newIter(c.r, appendKind(nil, c.account, kind))
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		k := it.Key()
		local := uint64(0)
		if len(k) >= inoPrefix {
			local = binary.BigEndian.Uint64(k[keyPrefix:])
		}
		if local == 0 || local > maxLocal {
			c.problem("", k, "unknown key")
			ok = it.Next()
			continue
		}
		i := MakeIno(c.account, local)
		if err := fn(i, k); err != nil {
			return closed(it, err)
		}
		ok = it.SeekGE(keyAfter(inoKey(kind, i)))
	}
	return it.Close()
}

// pieces calls fn for the pieces of a content.
func (c *checker) pieces(id Ino, fn func(n uint32, b []byte)) error {
	return c.walk(inoKey(kindContent, id), pieceLen, func(_ Ino, k, val []byte) error {
		fn(binary.BigEndian.Uint32(k[inoPrefix:]), val)
		return nil
	})
}

// inode reads an inode that another record names; nil when it is not there or can't be read, which is reported where it lies.
func (c *checker) inode(i Ino) (*Inode, error) {
	in, err := storedInode(c.r, i)
	if err == syscall.ENOENT || errors.Is(err, ErrCorrupt) {
		return nil, nil
	}
	return in, err
}

// hasRecord tells whether there is such a record, were it damaged.
func (c *checker) hasRecord(key []byte) (bool, error) {
	_, closer, err := read(c.r, key)
	if err == syscall.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, closer.Close()
}

// namedContents looks for pieces that nothing names, and contents that two inodes name.
func (c *checker) namedContents() error {
	slices.Sort(c.contents)
	return c.groups(kindContent, func(id Ino, key []byte) error {
		at, named := slices.BinarySearch(c.contents, id.Local())
		if named {
			if at+1 < len(c.contents) && c.contents[at+1] == id.Local() {
				c.problem("", key, "content %d is named by two inodes", id.Local())
			}
			named, err := c.hasRecord(orphanKey(id))
			if named {
				c.problem("", key, "content %d is named by an inode and recorded as an orphan", id.Local())
			}
			return err
		}
		orphan, err := c.hasRecord(orphanKey(id))
		if err == nil && !orphan {
			c.problem("", key, "content %d is not named by any inode, nor recorded as an orphan", id.Local())
		}
		return err
	})
}

// xattrs checks that extended attributes are of inodes, as many as those say.
func (c *checker) xattrs() error {
	return c.groups(kindXattr, func(i Ino, key []byte) error {
		there, err := c.hasRecord(inodeKey(i))
		if err == nil && !there {
			c.problem("", key, "attribute of inode %d, which is not there", i.Local())
		}
		return err
	})
}

// reachable checks that the way up from every directory ends at the home.
func (c *checker) reachable() error {
	home := map[uint64]bool{rootLocal: true} // from where it is known that one gets there
	for _, local := range slices.Sorted(maps.Keys(c.parents)) {
		way := []uint64{}
		up := local
		for !home[up] && len(way) <= len(c.parents) {
			way = append(way, up)
			parent, ok := c.parents[up]
			if !ok {
				break
			}
			up = parent
		}
		if !home[up] {
			c.problem("", inodeKey(MakeIno(c.account, local)), "inode %d can't be reached from the home", local)
			continue
		}
		for _, l := range way {
			home[l] = true
		}
	}
	return nil
}
