package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/machine"
)

// View is the Reader of a replica on this node: it shows what has been applied there.
type View struct{ store *machine.Store }

// snapshot is a state of the store that does not change. It holds what it was taken of open.
type snapshot struct {
	*pebble.Snapshot
	of *machine.Handle
}

func (v *View) snapshot() *snapshot {
	h := v.store.Acquire()
	return &snapshot{h.NewSnapshot(), h}
}

// Close lets the state go.
func (s *snapshot) Close() error { return errors.Join(s.Snapshot.Close(), s.of.Release()) }

func newIter(r pebble.Reader, prefix []byte) (*pebble.Iterator, error) {
	return r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyAfter(prefix)})
}

// Account implements Reader.
func (v *View) Account(a Account) (*AccountRecord, error) {
	h := v.store.Acquire()
	defer h.Release()
	return account(h, a)
}

func account(r pebble.Reader, a Account) (*AccountRecord, error) {
	b, c, err := read(r, accountKey(a))
	if err != nil {
		return nil, err
	}
	rec, err := decodeAccount(a, b)
	return rec, closed(c, err)
}

// whole makes sure that the account is there, and not yet being brought: ENOENT. Else records of a tree that is half there were shown.
func whole(r pebble.Reader, a Account) error {
	_, c, err := read(r, accountKey(a))
	if err != nil {
		return err
	}
	return c.Close()
}

// Inode implements Reader.
func (v *View) Inode(i Ino) (*Inode, error) {
	h := v.store.Acquire()
	defer h.Release()
	return wholeInode(h, i)
}

// wholeInode is inode of an account that is there.
func wholeInode(r pebble.Reader, i Ino) (*Inode, error) {
	if err := whole(r, i.Account()); err != nil {
		return nil, err
	}
	return inode(r, i)
}

// inode reads an inode for showing.
func inode(r pebble.Reader, i Ino) (*Inode, error) {
	in, err := storedInode(r, i)
	if err == nil && in.IsDir() {
		in.Nlink = 2 + in.Subdirs
		in.Size = in.Entries * 64
	}
	return in, err
}

// storedInode reads an inode as it is stored.
func storedInode(r pebble.Reader, i Ino) (*Inode, error) {
	b, c, err := read(r, inodeKey(i))
	if err != nil {
		return nil, err
	}
	in, err := decodeInode(i, b)
	return in, closed(c, err)
}

// Lookup implements Reader.
func (v *View) Lookup(parent Ino, name string) (DirEntry, error) {
	h := v.store.Acquire()
	defer h.Release()
	if err := whole(h, parent.Account()); err != nil {
		return DirEntry{}, err
	}
	de, err := entry(h, parent, name)
	if err == nil {
		err = fillDir(h, &de)
	}
	return de, err
}

// entry reads a directory entry as it is stored.
func entry(r pebble.Reader, dir Ino, name string) (de DirEntry, err error) {
	b, c, err := read(r, entryKey(dir, name))
	if err != nil {
		return de, err
	}
	err = de.decode(dir, name, b)
	return de, closed(c, err)
}

// fillDir reads a directory's status, which its entry does not hold.
func fillDir(r pebble.Reader, de *DirEntry) error {
	if !de.Stat.IsDir() {
		return nil
	}
	in, err := inode(r, de.Ino)
	if err == nil {
		de.Stat = in.Stat
	}
	return err
}

// Xattr implements Reader.
func (v *View) Xattr(i Ino, name string) ([]byte, error) {
	h := v.store.Acquire()
	defer h.Release()
	if err := whole(h, i.Account()); err != nil {
		return nil, err
	}
	b, c, err := read(h, xattrKey(i, name))
	if err == syscall.ENOENT {
		err = syscall.ENODATA
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, b...), c.Close()
}

// Xattrs implements Reader.
func (v *View) Xattrs(i Ino) ([]string, error) {
	h := v.store.Acquire()
	defer h.Release()
	if err := whole(h, i.Account()); err != nil {
		return nil, err
	}
	it, err := newIter(h, inoKey(kindXattr, i))
	if err != nil {
		return nil, err
	}
	var names []string
	for ok := it.First(); ok; ok = it.Next() {
		names = append(names, string(it.Key()[inoPrefix:]))
	}
	return names, it.Close()
}

// Path implements Reader.
func (v *View) Path(i Ino) (string, error) {
	h := v.store.Acquire()
	defer h.Release()
	if err := whole(h, i.Account()); err != nil {
		return "", err
	}
	return path(h, i)
}

func path(r pebble.Reader, i Ino) (string, error) {
	var names []string
	for i.Local() != rootLocal {
		in, err := storedInode(r, i)
		if err != nil {
			return "", err
		}
		if len(in.Links) == 0 || len(names) == maxDepth {
			return "", syscall.ENOENT
		}
		names = append(names, in.Links[0].Name)
		i = in.Links[0].Parent
	}
	slices.Reverse(names)
	return strings.Join(names, "/"), nil
}

// Accounts implements Reader.
func (v *View) Accounts(fn func(Account) bool) error {
	h := v.store.Acquire()
	defer h.Release()
	return accounts(h, fn)
}

func accounts(r pebble.Reader, fn func(Account) bool) error {
	it, err := newIter(r, []byte{prefixTree})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		k := it.Key()
		if len(k) < keyPrefix {
			return closed(it, fmt.Errorf("%w: key", ErrCorrupt))
		}
		a := Account(binary.BigEndian.Uint32(k[1:5]))
		if !fn(a) {
			break
		}
		_, after := accountRange(a)
		ok = it.SeekGE(after)
	}
	return it.Close()
}
