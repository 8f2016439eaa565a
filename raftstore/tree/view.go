package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/machine"
)

// View reads what has been applied. It may be used by any number of goroutines.
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

// Account reads the account's counters: ENOENT.
func (v *View) Account(a Account) (*AccountRecord, error) {
	h := v.store.Acquire()
	defer h.Release()
	b, err := get(h, accountKey(a))
	if err != nil {
		return nil, err
	}
	return decodeAccount(a, b)
}

// Inode reads an inode: ENOENT. A directory's link count is two and one for each directory in it; its size counts its entries.
func (v *View) Inode(i Ino) (*Inode, error) {
	h := v.store.Acquire()
	defer h.Release()
	return inode(h, i)
}

func inode(r pebble.Reader, i Ino) (*Inode, error) {
	val, c, err := r.Get(inodeKey(i))
	if err == pebble.ErrNotFound {
		return nil, syscall.ENOENT
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	in, err := decodeInode(i, val)
	if err == nil && in.IsDir() {
		in.Nlink = 2 + in.Subdirs
		in.Size = in.Entries * 64
	}
	return in, err
}

// Lookup reads the entry name in the directory: ENOENT. That parent is a directory is the caller's to know.
func (v *View) Lookup(parent Ino, name string) (de DirEntry, err error) {
	h := v.store.Acquire()
	defer h.Release()
	val, c, err := h.Get(entryKey(parent, name))
	if err == pebble.ErrNotFound {
		return de, syscall.ENOENT
	}
	if err != nil {
		return de, err
	}
	defer c.Close()
	if err := de.decode(parent, name, val); err != nil {
		return de, err
	}
	return de, fillDir(h, &de)
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

// DirReader reads a directory as it was when it was opened, in the order of its names. It is for one goroutine.
type DirReader struct {
	snap   *snapshot
	it     *pebble.Iterator
	dir    Ino
	moved  bool // the iterator stands on the next entry
	ok     bool
	failed error
}

// OpenDir opens a directory for reading: ENOENT, ENOTDIR.
func (v *View) OpenDir(dir Ino) (*DirReader, error) {
	snap := v.snapshot()
	in, err := inode(snap, dir)
	if err == nil && !in.IsDir() {
		err = syscall.ENOTDIR
	}
	var it *pebble.Iterator
	if err == nil {
		it, err = newIter(snap, inoKey(kindEntry, dir))
	}
	if err != nil {
		snap.Close()
		return nil, err
	}
	r := &DirReader{snap: snap, it: it, dir: dir}
	r.moved, r.ok = true, it.First()
	return r, nil
}

// Next gives the next entry; false at the end, or when reading failed (Err).
func (r *DirReader) Next() (de DirEntry, ok bool) {
	if !r.moved {
		r.ok = r.it.Next()
	}
	r.moved = false
	if !r.ok || r.failed != nil {
		return de, false
	}
	val, err := r.it.ValueAndErr()
	if err == nil {
		err = de.decode(r.dir, string(r.it.Key()[keyPrefix+8:]), val)
	}
	if err == nil {
		err = fillDir(r.snap, &de)
	}
	r.failed = err
	return de, err == nil
}

// SeekAfter has Next go on behind that name ("": at the beginning).
func (r *DirReader) SeekAfter(name string) {
	k := entryKey(r.dir, name)
	r.moved, r.ok = true, r.it.SeekGE(k)
	if r.ok && name != "" && string(r.it.Key()) == string(k) {
		r.ok = r.it.Next()
	}
}

// Err is the error that ended reading.
func (r *DirReader) Err() error { return errors.Join(r.failed, r.it.Error()) }

// Close lets the snapshot go.
func (r *DirReader) Close() error { return errors.Join(r.it.Close(), r.snap.Close()) }

// ReadContent appends the sealed form of the file's content, whole, to buf[:0].
func (v *View) ReadContent(in *Inode, buf []byte) ([]byte, error) {
	h := v.store.Acquire()
	defer h.Release()
	buf = buf[:0]
	for n := uint32(0); uint64(len(buf)) < in.SealedSize; n++ {
		val, c, err := h.Get(pieceKey(MakeIno(in.Ino.Account(), in.Content), n))
		if err != nil {
			return nil, missingPiece(in, n, err)
		}
		buf = append(buf, val...)
		if err := c.Close(); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

func missingPiece(in *Inode, n uint32, err error) error {
	if err == pebble.ErrNotFound {
		// The content may have been replaced since in was read; if not, the store has lost it.
		return fmt.Errorf("piece %d of content %d of account %d: %w", n, in.Content, in.Ino.Account(), syscall.ESTALE)
	}
	return err
}

// ContentReader reads the sealed form of a content at random, as it was when opened, though the file be replaced or removed
// meanwhile. It may be used by many goroutines.
type ContentReader struct {
	snap    *snapshot
	content Ino
	size    int64
}

// OpenContent opens the content of a regular file.
func (v *View) OpenContent(in *Inode) (*ContentReader, error) {
	snap := v.snapshot()
	now, err := inode(snap, in.Ino)
	if err == nil && now.Content != in.Content {
		err = syscall.ESTALE
	}
	if err != nil {
		snap.Close()
		return nil, err
	}
	return &ContentReader{snap, MakeIno(in.Ino.Account(), in.Content), int64(in.SealedSize)}, nil
}

// Size is the length of the sealed form in octets.
func (r *ContentReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *ContentReader) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		if off >= r.size {
			return n, io.EOF
		}
		val, c, err := r.snap.Get(pieceKey(r.content, uint32(off/MaxPiece)))
		if err != nil {
			if err == pebble.ErrNotFound {
				err = syscall.EIO
			}
			return n, err
		}
		at := int(off % MaxPiece)
		if at >= len(val) {
			c.Close()
			return n, io.ErrUnexpectedEOF
		}
		k := copy(p[n:], val[at:])
		if err := c.Close(); err != nil {
			return n, err
		}
		n += k
		off += int64(k)
	}
	return n, nil
}

// Close lets the content go.
func (r *ContentReader) Close() error { return r.snap.Close() }

// Xattr reads an extended attribute: ENODATA.
func (v *View) Xattr(i Ino, name string) ([]byte, error) {
	h := v.store.Acquire()
	defer h.Release()
	b, err := get(h, xattrKey(i, name))
	if err == syscall.ENOENT {
		err = syscall.ENODATA
	}
	return b, err
}

// Xattrs lists the names of the inode's extended attributes, sorted.
func (v *View) Xattrs(i Ino) ([]string, error) {
	h := v.store.Acquire()
	defer h.Release()
	it, err := newIter(h, inoKey(kindXattr, i))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var names []string
	for ok := it.First(); ok; ok = it.Next() {
		names = append(names, string(it.Key()[keyPrefix+8:]))
	}
	return names, it.Error()
}

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

// FolderIndex reads the folder's messages; with since > 0 those alone that came or changed after it, and what vanished. When
// the tombstones do not reach back so far, it answers the whole folder, with Since 0. ENOENT, ENOTDIR for what is no folder.
func (v *View) FolderIndex(folder Ino, since ModSeq) (*FolderIndex, error) {
	snap := v.snapshot()
	defer snap.Close()
	in, err := inode(snap, folder)
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
		err = x.readSince(snap)
	}
	if err != nil {
		return nil, err
	}
	sort.Slice(x.Messages, func(i, j int) bool { return x.Messages[i].UID < x.Messages[j].UID })
	sort.Slice(x.Vanished, func(i, j int) bool { return x.Vanished[i].UID < x.Vanished[j].UID })
	return x, nil
}

func (x *FolderIndex) readAll(r pebble.Reader) error {
	x.Messages = make([]IndexEntry, 0, x.Folder.Messages)
	for _, box := range []struct {
		role Role
		name string
	}{{RoleCur, "cur"}, {RoleNew, "new"}} {
		var de DirEntry
		val, err := get(r, entryKey(x.Folder.Ino, box.name))
		if err == syscall.ENOENT {
			continue
		}
		if err == nil {
			err = de.decode(x.Folder.Ino, box.name, val)
		}
		if err != nil {
			return err
		}
		if err := x.readBox(r, de.Ino, box.role); err != nil {
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
	defer it.Close()
	var de DirEntry
	for ok := it.First(); ok; ok = it.Next() {
		val, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := de.decode(dir, string(it.Key()[keyPrefix+8:]), val); err != nil {
			return err
		}
		if de.UID != 0 {
			x.add(role, &de)
		}
	}
	return it.Error()
}

func (x *FolderIndex) add(box Role, de *DirEntry) {
	x.Messages = append(x.Messages, IndexEntry{de.UID, de.ModSeq, de.Stat.Size, de.Stat.Mtime, box, de.Name, de.Ino})
}

func (x *FolderIndex) readSince(r pebble.Reader) error {
	err := x.changes(r, kindModSeq, func(m ModSeq, uid UID, val []byte) error {
		p, err := decodePosition(val)
		if err != nil {
			return err
		}
		name := "cur"
		if p.box == RoleNew {
			name = "new"
		}
		var dir, de DirEntry
		b, err := get(r, entryKey(x.Folder.Ino, name))
		if err == nil {
			err = dir.decode(x.Folder.Ino, name, b)
		}
		if err == nil {
			b, err = get(r, entryKey(dir.Ino, p.name))
		}
		if err == nil {
			err = de.decode(dir.Ino, p.name, b)
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
	defer it.Close()
	for ok := it.SeekGE(changeKey(kind, x.Folder.Ino, x.Since+1, 0)); ok; ok = it.Next() {
		m, uid, err := splitChangeKey(it.Key())
		if err != nil {
			return err
		}
		val, err := it.ValueAndErr()
		if err == nil {
			err = fn(m, uid, val)
		}
		if err != nil {
			return err
		}
	}
	return it.Error()
}

func splitChangeKey(k []byte) (ModSeq, UID, error) {
	if len(k) != keyPrefix+8+8+4 {
		return 0, 0, fmt.Errorf("%w: change key", ErrCorrupt)
	}
	k = k[keyPrefix+8:]
	return ModSeq(binary.BigEndian.Uint64(k)), UID(binary.BigEndian.Uint32(k[8:])), nil
}

// Path is the inode's path below its account's home by its first name, for people: fsck, logs of the operator's own choice.
func (v *View) Path(i Ino) (string, error) {
	h := v.store.Acquire()
	defer h.Release()
	var parts []string
	for i.Local() != rootLocal {
		in, err := inode(h, i)
		if err != nil {
			return "", err
		}
		if len(in.Links) == 0 {
			return "", syscall.ENOENT
		}
		parts = append(parts, in.Links[0].Name)
		i = in.Links[0].Parent
	}
	for l, r := 0, len(parts)-1; l < r; l, r = l+1, r-1 {
		parts[l], parts[r] = parts[r], parts[l]
	}
	return strings.Join(parts, "/"), nil
}

// Accounts calls fn with the account numbers that have a tree here, ascending, until it answers false.
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
	defer it.Close()
	for ok := it.First(); ok; {
		k := it.Key()
		if len(k) < keyPrefix {
			return fmt.Errorf("%w: key", ErrCorrupt)
		}
		a := Account(binary.BigEndian.Uint32(k[1:5]))
		if !fn(a) {
			break
		}
		_, after := accountRange(a)
		ok = it.SeekGE(after)
	}
	return it.Error()
}

// orphans calls fn for every content that no inode names, until it answers false.
func orphans(r pebble.Reader, fn func(Ino, orphan) bool) error {
	var failed error
	err := accounts(r, func(a Account) bool {
		it, err := newIter(r, appendKind(nil, a, kindOrphan))
		if err != nil {
			failed = err
			return false
		}
		defer it.Close()
		for ok := it.First(); ok; ok = it.Next() {
			val, err := it.ValueAndErr()
			if err == nil {
				var o orphan
				if o, err = decodeOrphan(val); err == nil {
					if !fn(MakeIno(a, binary.BigEndian.Uint64(it.Key()[keyPrefix:])), o) {
						return false
					}
					continue
				}
			}
			failed = err
			return false
		}
		failed = it.Error()
		return failed == nil
	})
	return errors.Join(failed, err)
}
