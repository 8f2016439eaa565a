package fs

import (
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"mailraft/fs/staging"
	"mailraft/raftstore/tree"
)

// file is an inode that lives in this mount's memory: it has names in a tmp/, or handles. All of them share it, so that each
// sees at once what another wrote.
//
// Locks: io before mu. Neither is held while the kernel is notified; io alone is held while sealing and committing, which keeps
// waiting only those who use the content of this very file.
type file struct {
	ino   tree.Ino
	acct  *account
	users int // handles, staged names, and requests under way; guarded by the table's shard

	io      sync.Mutex
	buf     *staging.File // the content when it is or was written here; nil: it is in sealed or pin
	sealed  *content      // the content sealed, but not committed
	pin     *pinned       // the committed content as it was opened
	reader  contentReader // opens pin or sealed
	used    bool          // the inode number has been used as a content's name
	message bool          // it is a message, or will be one; known of pinned accounts alone
	direct  bool          // it was written past the kernel's pages since it was sealed
	// uncertain says that a delivery got no answer: it may have been committed, or may be yet.
	uncertain bool

	mu        sync.Mutex
	stat      tree.Stat       // as last seen; the truth while the inode is local. Nlink counts committed names
	links     []tree.LinkName // committed names under which the kernel may know it, perhaps some more; never changed in place
	target    string          // a staged symbolic link's
	xattrs    map[string][]byte
	names     uint32 // staged names
	handles   int    // open ones
	committed bool   // the shard has, or had, the inode
	gone      bool   // the shard has it no more
	dirty     bool   // the content was changed since it was committed, or sealed
}

// contentReader reads what a sealed content is to whoever opens the file: what is in it, or what encloses it.
type contentReader interface {
	io.ReaderAt
	Close() error
}

// isLocal tells whether the shard does not have the inode, so that f itself is all there is. Called with mu.
func (f *file) isLocal() bool { return !f.committed || f.gone }

func (f *file) local() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.isLocal()
}

func (f *file) isDirty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirty
}

// isSealed tells whether the content, if it is clean, can be read without the buffer: the pieces of one that is not committed cannot.
// Called with io.
func (f *file) isSealed() bool {
	return f.pin != nil || f.sealed != nil && !f.sealed.pieces
}

// touched notes a change of the content: its size, and the time. Called with io.
func (f *file) touched(now int64) {
	size := uint64(f.buf.Size())
	f.mu.Lock()
	f.dirty = true
	f.stat.Size = size
	f.stat.Mtime, f.stat.Ctime = now, now
	f.mu.Unlock()
}

// clean notes that the content is sealed or committed.
func (f *file) clean() {
	f.mu.Lock()
	f.dirty = false
	f.mu.Unlock()
}

// overlay puts into a committed status what this mount knows better.
func (f *file) overlay(st *tree.Stat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirty {
		st.Size, st.Mtime = f.stat.Size, f.stat.Mtime
		st.Ctime = max(st.Ctime, f.stat.Ctime)
	}
	f.stat = *st
	st.Nlink += f.names
}

// localStat is the status of a local inode; ok is false for others.
func (f *file) localStat() (st tree.Stat, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st = f.stat
	st.Nlink = f.names
	return st, f.isLocal()
}

// lost notes that the shard has the inode no more, and answers what is left of its status.
func (f *file) lost() tree.Stat {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = f.committed
	st := f.stat
	st.Nlink = f.names
	return st
}

// status is the inode's status with all that is known here.
func (f *file) status() (tree.Stat, error) {
	if st, ok := f.localStat(); ok {
		return st, nil
	}
	in, err := f.acct.view.Inode(f.ino)
	switch err {
	case nil:
		f.overlay(&in.Stat)
		return in.Stat, nil
	case syscall.ENOENT:
		return f.lost(), nil
	}
	return tree.Stat{}, err
}

// files is the table of the files in memory, by inode number.
type files struct {
	count  atomic.Int64
	shards [64]filesShard
}

type filesShard struct {
	mu sync.Mutex // held for a map operation
	m  map[tree.Ino]*file
}

func newFiles() *files {
	t := new(files)
	for i := range t.shards {
		t.shards[i].m = map[tree.Ino]*file{}
	}
	return t
}

func (t *files) shard(i tree.Ino) *filesShard { return &t.shards[uint64(i)%uint64(len(t.shards))] }

// get finds a file, for the caller to put back; nil when it is not in memory.
func (t *files) get(i tree.Ino) *file {
	if t.count.Load() == 0 {
		return nil
	}
	s := t.shard(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.m[i]
	if f != nil {
		f.users++
	}
	return f
}

// open finds a file or takes in a committed one, for the caller to put back.
func (t *files) open(i tree.Ino, a *account) *file {
	s := t.shard(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.m[i]
	if f == nil {
		f = &file{ino: i, acct: a, committed: true, used: true}
		s.m[i] = f
		t.count.Add(1)
	}
	f.users++
	return f
}

// add takes in a new file, which has one user.
func (t *files) add(f *file) {
	f.users = 1
	s := t.shard(f.ino)
	s.mu.Lock()
	s.m[f.ino] = f
	s.mu.Unlock()
	t.count.Add(1)
}

// hold adds a user to a file that has one.
func (t *files) hold(f *file) {
	s := t.shard(f.ino)
	s.mu.Lock()
	f.users++
	s.mu.Unlock()
}

// drop takes a user away and tells whether it was the last: then the file is the caller's to destroy.
func (t *files) drop(f *file) (last bool) {
	s := t.shard(f.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.users--
	if f.users > 0 {
		return false
	}
	delete(s.m, f.ino)
	t.count.Add(-1)
	return true
}

// each calls fn with every file, with a user more.
func (t *files) each(fn func(*file), put func(*file)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		list := make([]*file, 0, len(s.m))
		for _, f := range s.m {
			f.users++
			list = append(list, f)
		}
		s.mu.Unlock()
		for _, f := range list {
			fn(f)
			put(f)
		}
	}
}

// put ends a use of a file. What was staged and never got a name is dropped with it, its pieces too. What was written and could not be
// committed goes as well, and from what the kernel has of the file.
func (m *mount) put(f *file) {
	if !m.files.drop(f) {
		return
	}
	if !f.local() && f.isDirty() {
		m.inval.content(f.ino)
	}
	f.io.Lock()
	defer f.io.Unlock()
	m.destroy(f)
}

// destroy gives back what a file holds. Called with io.
func (m *mount) destroy(f *file) {
	f.closeBuffer()
	m.discard(f)
	f.unpin()
}
