package tree

import (
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Tree is the state machine. Apply and Committed are called by one goroutine; views are read by any.
type Tree struct {
	store  *machine.Store
	events []*Event // of commands whose batch is not committed yet

	mu          sync.Mutex
	subscribers map[int]func(*Event)
	nextSub     int
}

// New makes a tree over the store, whose keys that begin with 'a' are the tree's.
func New(store *machine.Store) *Tree {
	return &Tree{store: store, subscribers: map[int]func(*Event){}}
}

// View reads what has been applied.
func (t *Tree) View() *View { return &View{t.store} }

// Subscribe has fn called with what each applied command changed, after it is visible, on the applying goroutine: fn must
// only take note. cancel ends it.
func (t *Tree) Subscribe(fn func(*Event)) (cancel func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.nextSub
	t.nextSub++
	t.subscribers[id] = fn
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subscribers, id)
	}
}

// Committed tells the subscribers what the committed batches changed.
func (t *Tree) Committed() {
	if len(t.events) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ev := range t.events {
		for _, fn := range t.subscribers {
			fn(ev)
		}
	}
	t.events = t.events[:0]
}

// Apply adds what cmd changes to b, an indexed batch over the tree's store.
func (t *Tree) Apply(b *pebble.Batch, index uint64, cmd *raftpb.Command) (Result, error) {
	x := &txn{b: b, index: index, now: cmd.Now}
	value, err := x.apply(cmd)
	if errno, ok := err.(syscall.Errno); ok {
		return Result{Errno: errno, Index: index}, nil
	}
	if err != nil {
		return Result{}, err
	}
	x.flush()
	if len(x.event.Changes) > 0 || len(x.event.Folders) > 0 {
		ev := x.event
		ev.Index, ev.Session = index, cmd.GetRequest().GetSession()
		t.events = append(t.events, &ev)
	}
	return Result{Value: value, Index: index}, nil
}

// txn is the work of one command. It first checks, then changes copies of the records it has loaded, and queues its other
// writes; flush writes all. So a command that fails has written nothing.
type txn struct {
	b     *pebble.Batch
	index uint64
	now   int64

	inodes  []*loaded
	account *AccountRecord
	counted bool // the account's record changed
	writes  []write
	event   Event
}

type loaded struct {
	*Inode
	dirty, gone bool
}

type write struct {
	key, value []byte // value nil: delete
	end        []byte // delete all from key to end
}

func (x *txn) apply(cmd *raftpb.Command) (uint64, error) {
	switch op := cmd.Op.(type) {
	case *raftpb.Command_CreateAccount:
		return 0, x.createAccount(op.CreateAccount)
	case *raftpb.Command_RemoveAccount:
		return 0, x.removeAccount(Account(op.RemoveAccount.Account))
	case *raftpb.Command_SetQuota:
		return 0, x.setQuota(op.SetQuota)
	case *raftpb.Command_ReserveInodes:
		return x.reserveInodes(op.ReserveInodes)
	case *raftpb.Command_Create:
		return op.Create.Inode, x.create(op.Create)
	case *raftpb.Command_Link:
		return op.Link.Inode, x.link(op.Link)
	case *raftpb.Command_Unlink:
		return 0, x.unlink(op.Unlink)
	case *raftpb.Command_Rename:
		return x.rename(op.Rename)
	case *raftpb.Command_SetAttr:
		return 0, x.setAttr(op.SetAttr)
	case *raftpb.Command_SetContent:
		return 0, x.setContent(op.SetContent)
	case *raftpb.Command_PutPiece:
		return 0, x.putPiece(op.PutPiece)
	case *raftpb.Command_DropContent:
		return 0, x.dropContent(op.DropContent)
	case *raftpb.Command_SetXattr:
		return 0, x.setXattr(op.SetXattr)
	case *raftpb.Command_RemoveXattr:
		return 0, x.removeXattr(op.RemoveXattr)
	case *raftpb.Command_ReapOrphans:
		return x.reapOrphans(op.ReapOrphans)
	}
	return 0, syscall.EOPNOTSUPP
}

func (x *txn) get(key []byte) ([]byte, error) { return get(x.b, key) }

func (x *txn) has(key []byte) (bool, error) {
	_, err := x.get(key)
	if err == syscall.ENOENT {
		return false, nil
	}
	return err == nil, err
}

func (x *txn) set(key, value []byte)       { x.writes = append(x.writes, write{key: key, value: value}) }
func (x *txn) delete(key []byte)           { x.writes = append(x.writes, write{key: key}) }
func (x *txn) deleteRange(from, to []byte) { x.writes = append(x.writes, write{key: from, end: to}) }

// flush writes what the command changed. Writes to an indexed batch fail only for a batch that was closed.
func (x *txn) flush() {
	for _, w := range x.writes {
		switch {
		case w.end != nil:
			x.b.DeleteRange(w.key, w.end, nil)
		case w.value == nil:
			x.b.Delete(w.key, nil)
		default:
			x.b.Set(w.key, w.value, nil)
		}
	}
	for _, in := range x.inodes {
		switch {
		case in.gone:
			x.b.Delete(inodeKey(in.Ino), nil)
		case in.dirty:
			x.b.Set(inodeKey(in.Ino), in.encode(), nil)
		}
	}
	if x.counted {
		x.b.Set(accountKey(x.account.Account), x.account.encode(), nil)
	}
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
	b, err := x.get(inodeKey(i))
	if err != nil {
		return nil, err
	}
	in, err := decodeInode(i, b)
	if err != nil {
		return nil, err
	}
	l := &loaded{Inode: in}
	x.inodes = append(x.inodes, l)
	return l, nil
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
	b, err := x.get(entryKey(dir, name))
	if err != nil {
		return de, err
	}
	return de, de.decode(dir, name, b)
}

// counters loads the record of the one account that the command is about: ENOENT.
func (x *txn) counters(a Account) (*AccountRecord, error) {
	if x.account != nil {
		return x.account, nil
	}
	b, err := x.get(accountKey(a))
	if err != nil {
		return nil, err
	}
	x.account, err = decodeAccount(a, b)
	x.event.Account = a
	return x.account, err
}

// reserved tells whether a number was given out by ReserveInodes.
func (r *AccountRecord) reserved(i Ino) bool {
	return i.Account() == r.Account && i.Local() >= firstLocal && i.Local() < r.NextLocal
}

// charge counts octets and inodes more (or fewer) against the quota: EDQUOT. What makes it less always may be.
func (x *txn) charge(octets, files int64) error {
	r := x.account
	bytes, n := r.Bytes+uint64(octets), r.Files+uint64(files)
	if octets > 0 && r.QuotaBytes > 0 && bytes > r.QuotaBytes || files > 0 && r.QuotaFiles > 0 && n > r.QuotaFiles {
		return syscall.EDQUOT
	}
	if octets != 0 || files != 0 {
		r.Bytes, r.Files = bytes, n
		x.counted = true
	}
	return nil
}

func (x *txn) changed(kind ChangeKind, parent Ino, name string, in *Inode) {
	x.event.Changes = append(x.event.Changes, Change{kind, parent, name, in.Ino, in.IsDir()})
}

func (x *txn) folderChanged(f *loaded) {
	f.HighestModSeq = ModSeq(x.index)
	f.dirty = true
	for _, c := range x.event.Folders {
		if c.Folder == f.Ino {
			return
		}
	}
	x.event.Folders = append(x.event.Folders, FolderChange{f.Ino, f.HighestModSeq})
}

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
	}
	for _, c := range b {
		if c == '/' || c == 0 {
			return "", syscall.EINVAL
		}
	}
	if len(name) >= len(ReservedPrefix) && name[:len(ReservedPrefix)] == ReservedPrefix {
		return "", syscall.EPERM
	}
	return name, nil
}

// ReservedPrefix begins the names that the mount itself serves in every folder; no file may be called so.
const ReservedPrefix = ".mailraft-"

func get(r pebble.Reader, key []byte) ([]byte, error) {
	v, c, err := r.Get(key)
	if err == pebble.ErrNotFound {
		return nil, syscall.ENOENT
	}
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), v...)
	return b, c.Close()
}
