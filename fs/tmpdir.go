package fs

import (
	"sync"

	"mailraft/raftstore/tree"
)

// tmpDirs remembers the tmp/ directories in which the tree has nothing, so that a delivery need not ask the store about them: what is
// not staged there is not there.
type tmpDirs struct {
	mu sync.RWMutex // held for a map operation
	m  map[tree.Ino]*tree.Inode
}

// get finds a directory that is known to be empty in the tree; nil when it is not.
func (t *tmpDirs) get(dir tree.Ino) *tree.Inode {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[dir]
}

// add remembers a directory. unchanged says, when it is asked afterwards, whether in is still true: a change that is applied
// meanwhile may have come too early to be forgotten by.
func (t *tmpDirs) add(in *tree.Inode, unchanged func() bool) {
	if in.Role != tree.RoleTmp || in.Entries > 0 {
		return
	}
	t.mu.Lock()
	if len(t.m) >= maxGate {
		clear(t.m)
	}
	t.m[in.Ino] = in
	t.mu.Unlock()
	if !unchanged() {
		t.forget(in.Ino)
	}
}

func (t *tmpDirs) forget(dir tree.Ino) {
	t.mu.RLock()
	known := t.m[dir] != nil
	t.mu.RUnlock()
	if known {
		t.mu.Lock()
		delete(t.m, dir)
		t.mu.Unlock()
	}
}

// applied forgets the directories that a change is about. It is called by the goroutine that applies.
func (t *tmpDirs) applied(changes []tree.Change) {
	for i := range changes {
		c := &changes[i]
		switch {
		case c.Kind == tree.AttrChanged:
			t.forget(c.Ino)
		case c.Dir:
			t.forget(c.Ino)
			t.forget(c.Parent)
		}
	}
}

// directory reads a directory that something is to be made in: ENOENT.
func (m *mount) directory(a *account, dir tree.Ino) (*tree.Inode, error) {
	if in := m.tmps.get(dir); in != nil {
		return in, nil
	}
	mark := m.inval.changes(dir)
	in, err := a.view.Inode(dir)
	if err == nil {
		m.tmps.add(in, func() bool { return m.inval.changes(dir) == mark })
	}
	return in, err
}
