package fs

import (
	"sync"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// openDirs knows the directories that are open, whose status can be asked for after they were removed.
type openDirs struct {
	mu sync.Mutex // held for a map operation
	m  map[tree.Ino]*countedDir
}

type countedDir struct {
	handles int
	stat    tree.Stat
}

func (t *openDirs) open(d *openDir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.m[d.ino]
	if c == nil {
		c = new(countedDir)
		t.m[d.ino] = c
	}
	c.handles++
	c.stat = d.stat
}

func (t *openDirs) close(d *openDir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.m[d.ino]
	if c == nil {
		return
	}
	if c.handles--; c.handles == 0 {
		delete(t.m, d.ino)
	}
}

// change changes the status of a directory, if it is open.
func (t *openDirs) change(i tree.Ino, by *raftpb.SetAttr) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.m[i]
	if c == nil {
		return false
	}
	apply(&c.stat, by)
	return true
}

// status is that of a directory that is open, but has been removed.
func (t *openDirs) status(i tree.Ino) (st tree.Stat, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.m[i]
	if c == nil {
		return st, false
	}
	st = c.stat
	st.Nlink = 0
	return st, true
}
