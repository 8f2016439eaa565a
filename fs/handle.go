package fs

import (
	"sync"

	"mailraft/raftstore/tree"
)

// handle is what the kernel's file handle stands for: exactly one of them is set.
type handle struct {
	file *openFile
	dir  *openDir
	text []byte // a virtual file's, generated at open

	index indexFile // which one, with text
}

// account is whose it is; 0: nobody's.
func (h *handle) account() tree.Account {
	switch {
	case h.file != nil:
		return h.file.ino.Account()
	case h.dir != nil:
		return h.dir.ino.Account()
	}
	return h.index.folder.Account()
}

// openFile is a file as one open(2) has it.
type openFile struct {
	*file
	uid    uint32 // who opened it: requests that the kernel makes by itself are nobody's
	write  bool
	direct bool // past the kernel's pages
	own    bool // it made, truncated or wrote the content, so it may go on without the key; guarded by the file's io
}

// handles numbers the open handles.
type handles struct {
	mu   sync.RWMutex // held for a table operation
	list []*handle
	free []uint64
}

// add numbers a handle. Numbers are used again after remove.
func (t *handles) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free); n > 0 {
		fh := t.free[n-1]
		t.free = t.free[:n-1]
		t.list[fh] = h
		return fh
	}
	t.list = append(t.list, h)
	return uint64(len(t.list) - 1)
}

// get finds a handle; nil when the number is none's.
func (t *handles) get(fh uint64) *handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if fh >= uint64(len(t.list)) {
		return nil
	}
	return t.list[fh]
}

func (t *handles) remove(fh uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fh >= uint64(len(t.list)) || t.list[fh] == nil {
		return nil
	}
	h := t.list[fh]
	t.list[fh] = nil
	t.free = append(t.free, fh)
	return h
}

// closed takes a handle out. Up to now its account was in use.
func (m *mount) closed(fh uint64) *handle {
	h := m.handles.remove(fh)
	if h != nil {
		m.cfg.Keys.Use(uint64(h.account()))
	}
	return h
}

// accounts are those that have open handles.
func (t *handles) accounts() map[tree.Account]struct{} {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := map[tree.Account]struct{}{}
	for _, h := range t.list {
		if h != nil {
			all[h.account()] = struct{}{}
		}
	}
	return all
}
