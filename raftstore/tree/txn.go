package tree

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// txn is the work of one command. It first checks, then changes copies of the records it has loaded, and queues its other
// writes; flush writes all. So a command that fails has written nothing. What it queues it does not read again.
type txn struct {
	b     *pebble.Batch
	index uint64
	now   int64
	tombs uint64

	inodes  []*loaded
	account *AccountRecord
	before  AccountRecord // as it was loaded
	counted bool          // the account's record changed
	writes  []write
	event   Event

	key []byte // of the read going on
	buf []byte // keys and values of writes
}

type loaded struct {
	*Inode
	dirty, gone bool
}

type write struct {
	kind       writeKind
	key, value []byte // value: for deleteRange the end
}

type writeKind uint8

const (
	writeSet writeKind = iota
	writeDelete
	writeDeleteRange
)

// begin makes x ready for a command; it keeps the memory of the one before.
func (x *txn) begin(b *pebble.Batch, index uint64, now int64, tombs uint64) {
	clear(x.inodes)
	clear(x.writes)
	*x = txn{b: b, index: index, now: now, tombs: tombs, inodes: x.inodes[:0], writes: x.writes[:0], key: x.key[:0], buf: x.buf[:0]}
}

// get reads a record: ENOENT. The value is good until the closer is closed.
func (x *txn) get(key []byte) ([]byte, io.Closer, error) {
	x.key = key
	return read(x.b, key)
}

func (x *txn) has(key []byte) (bool, error) {
	_, c, err := x.get(key)
	if err == syscall.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, c.Close()
}

// set queues a write. The value is not copied: it must not change before the command ends.
func (x *txn) set(key, value []byte) { x.writes = append(x.writes, write{writeSet, key, value}) }

func (x *txn) delete(key []byte) { x.writes = append(x.writes, write{writeDelete, key, nil}) }

func (x *txn) deleteRange(from, to []byte) {
	x.writes = append(x.writes, write{writeDeleteRange, from, to})
}

// deleteAll queues the removal of all that begins with the key.
func (x *txn) deleteAll(key []byte) { x.deleteRange(key, keyAfter(key)) }

// cut gives what was appended to x.buf since it had n octets. It stays good when x.buf grows into another place.
func (x *txn) cut(n int) []byte { return x.buf[n:len(x.buf):len(x.buf)] }

func (x *txn) entryKey(dir Ino, name string) []byte {
	n := len(x.buf)
	x.buf = append(appendIno(x.buf, kindEntry, dir), name...)
	return x.cut(n)
}

func (x *txn) changeKey(kind byte, folder Ino, m ModSeq, uid UID) []byte {
	n := len(x.buf)
	x.buf = binary.BigEndian.AppendUint64(appendIno(x.buf, kind, folder), uint64(m))
	x.buf = binary.BigEndian.AppendUint32(x.buf, uint32(uid))
	return x.cut(n)
}

func (x *txn) setEntry(dir Ino, de *DirEntry) {
	n := len(x.buf)
	x.buf = de.appendTo(x.buf)
	value := x.cut(n)
	x.set(x.entryKey(dir, de.Name), value)
}

// setPosition notes under the message's MODSEQ where it lies.
func (x *txn) setPosition(folder Ino, dir *loaded, de *DirEntry) {
	n := len(x.buf)
	p := position{dir.Role, de.Name}
	x.buf = p.appendTo(x.buf)
	value := x.cut(n)
	x.set(x.changeKey(kindModSeq, folder, de.ModSeq, de.UID), value)
}

// flush writes what the command changed.
func (x *txn) flush() error {
	for _, w := range x.writes {
		var err error
		switch w.kind {
		case writeSet:
			err = x.b.Set(w.key, w.value, nil)
		case writeDelete:
			err = x.b.Delete(w.key, nil)
		case writeDeleteRange:
			err = x.b.DeleteRange(w.key, w.value, nil)
		}
		if err != nil {
			return err
		}
	}
	for _, in := range x.inodes {
		var err error
		x.key = appendIno(x.key[:0], kindInode, in.Ino)
		switch {
		case in.gone:
			err = x.b.Delete(x.key, nil)
		case in.dirty:
			x.buf = in.appendTo(x.buf[:0])
			err = x.b.Set(x.key, x.buf, nil)
		}
		if err != nil {
			return err
		}
	}
	if x.counted {
		x.key = appendKind(x.key[:0], x.account.Account, kindAccount)
		x.buf = x.account.appendTo(x.buf[:0])
		return x.b.Set(x.key, x.buf, nil)
	}
	return nil
}

// inode loads an inode: ENOENT when it is not there.
func (x *txn) inode(i Ino) (*loaded, error) {
	for _, in := range x.inodes {
		if in.Ino == i {
			if in.gone {
				return nil, syscall.ENOENT
			}
			return in, nil
		}
	}
	b, c, err := x.get(appendIno(x.key[:0], kindInode, i))
	if err != nil {
		return nil, err
	}
	in, err := decodeInode(i, b)
	if err := closed(c, err); err != nil {
		return nil, err
	}
	l := &loaded{Inode: in}
	x.inodes = append(x.inodes, l)
	return l, nil
}

// named loads an inode that another record names: that it is not there is corruption, which no errno may hide.
func (x *txn) named(i Ino) (*loaded, error) {
	in, err := x.inode(i)
	if err == syscall.ENOENT {
		err = fmt.Errorf("%w: inode %d of account %d is named and not there", ErrCorrupt, i.Local(), i.Account())
	}
	return in, err
}

// folder is the folder of a directory that holds messages.
func (x *txn) folder(dir *loaded) (*loaded, error) {
	if !dir.Role.HoldsMessages() {
		return nil, fmt.Errorf("%w: inode %d of account %d has a message and is no box", ErrCorrupt, dir.Ino.Local(), dir.Ino.Account())
	}
	return x.named(dir.Links[0].Parent)
}

// directory loads an inode that must be a directory: ENOENT, ENOTDIR.
func (x *txn) directory(i Ino) (*loaded, error) {
	in, err := x.inode(i)
	if err != nil {
		return nil, err
	}
	if !in.IsDir() {
		return nil, syscall.ENOTDIR
	}
	return in, nil
}

// add takes a new inode into the transaction.
func (x *txn) add(in *Inode) *loaded {
	l := &loaded{Inode: in, dirty: true}
	x.inodes = append(x.inodes, l)
	return l
}

// entry reads the directory entry: ENOENT when the name is not there.
func (x *txn) entry(dir Ino, name string) (de DirEntry, err error) {
	b, c, err := x.get(append(appendIno(x.key[:0], kindEntry, dir), name...))
	if err != nil {
		return de, err
	}
	err = de.decode(dir, name, b)
	return de, closed(c, err)
}

// counters loads the record of the one account that the command is about: ENOENT.
func (x *txn) counters(a Account) (*AccountRecord, error) {
	if x.account != nil {
		return x.account, nil
	}
	b, c, err := x.get(appendKind(x.key[:0], a, kindAccount))
	if err != nil {
		return nil, err
	}
	r, err := decodeAccount(a, b)
	if err := closed(c, err); err != nil {
		return nil, err
	}
	x.account, x.before, x.event.Account = r, *r, a
	return r, nil
}

// modSeq is the MODSEQ of what the command changes: the index, and more where the account came from a shard that was further.
func (x *txn) modSeq() ModSeq { return ModSeq(x.index + x.account.ModSeqBase) }

// reserved tells whether a number was given out by ReserveInodes.
func (r *AccountRecord) reserved(i Ino) bool {
	return i.Account() == r.Account && i.Local() >= firstLocal && i.Local() < r.NextLocal
}

// charge counts octets and inodes more (or fewer) against the quota.
func (x *txn) charge(octets, files int64) {
	if octets != 0 || files != 0 {
		x.account.Bytes += uint64(octets)
		x.account.Files += uint64(files)
		x.counted = true
	}
}

// withinQuota checks what the whole command added: EDQUOT. What adds nothing always may be.
func (x *txn) withinQuota() error {
	r, was := x.account, &x.before
	if r == nil {
		return nil
	}
	if r.QuotaBytes > 0 && r.Bytes > was.Bytes && r.Bytes > r.QuotaBytes ||
		r.QuotaFiles > 0 && r.Files > was.Files && r.Files > r.QuotaFiles {
		return syscall.EDQUOT
	}
	return nil
}

func (x *txn) changed(kind ChangeKind, parent Ino, name string, in *Inode) {
	x.event.Changes = append(x.event.Changes, Change{kind, parent, name, in.Ino, in.IsDir()})
}

func (x *txn) folderChanged(f *loaded) {
	f.HighestModSeq = x.modSeq()
	f.dirty = true
	for _, c := range x.event.Folders {
		if c.Folder == f.Ino {
			return
		}
	}
	x.event.Folders = append(x.event.Folders, FolderChange{f.Ino, f.HighestModSeq})
}

// read reads a record: ENOENT. The value is good until the closer is closed.
func read(r pebble.Reader, key []byte) ([]byte, io.Closer, error) {
	b, c, err := r.Get(key)
	if err == pebble.ErrNotFound {
		err = syscall.ENOENT
	}
	return b, c, err
}

// closed closes what was read, and gives the first error.
func closed(c io.Closer, err error) error {
	if e := c.Close(); err == nil {
		err = e
	}
	return err
}
