package fs

import (
	"sync"
	"sync/atomic"

	"mailraft/raftstore/tree"
)

// recentFiles keeps the committed files that were opened last, with their sealed contents: opening one of them again asks the store
// nothing, as long as nothing was applied in its account since. Mounts of one store share it. It has two generations; when the young one is full, the old one goes.
type recentFiles struct {
	mu         sync.Mutex // held for a map operation
	young, old map[tree.Ino]*recentFile
	octets     int // of the young generation

	changes [1024]atomic.Uint64 // per account (some accounts share a count): each mount counts each
}

// recentFile is a file as it was when the account's changes were counted as mark.
type recentFile struct {
	mark  uint64
	stat  tree.Stat
	links []tree.LinkName
	pin   *pinned // whose content is inline
}

// maxRecent bounds a generation, in octets: of sealed contents, and of what each takes beside it.
const (
	maxRecent  = 16 << 20
	recentCost = 512
)

func newRecentFiles() *recentFiles {
	return &recentFiles{young: map[tree.Ino]*recentFile{}}
}

// changed takes note of a change in the account, before whoever made it hears that it is made.
func (t *recentFiles) changed(a tree.Account) { count(&t.changes, a).Add(1) }

// changedAll takes note that anything may have changed.
func (t *recentFiles) changedAll() {
	for i := range t.changes {
		t.changes[i].Add(1)
	}
}

// get finds a file that nothing has changed since; mark is the count of the account's changes now.
func (t *recentFiles) get(i tree.Ino, mark uint64) *recentFile {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.young[i]
	if r == nil {
		if r = t.old[i]; r != nil && r.mark == mark {
			delete(t.old, i)
			t.add(i, r)
		}
	}
	if r == nil || r.mark != mark {
		return nil
	}
	return r
}

func (t *recentFiles) put(i tree.Ino, r *recentFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(i, r)
}

// add is called with mu.
func (t *recentFiles) add(i tree.Ino, r *recentFile) {
	if was := t.young[i]; was != nil {
		t.octets -= was.cost()
	}
	if t.octets+r.cost() > maxRecent {
		t.young, t.old, t.octets = map[tree.Ino]*recentFile{}, t.young, 0
	}
	t.young[i] = r
	t.octets += r.cost()
}

func (r *recentFile) cost() int { return cap(r.pin.inline) + recentCost }

// refresh has a clean committed file show what the shard holds now, from memory if that is known to be the newest: ENOENT when the
// shard holds it no more. Called with io.
func (m *mount) refresh(f *file) error {
	if err := m.refreshContent(f); err != nil {
		return err
	}
	return m.placed(f)
}

func (m *mount) refreshContent(f *file) error {
	mark := count(&m.recent.changes, f.ino.Account()).Load() // counted before the store is read: what comes later makes it differ
	if r := m.recent.get(f.ino, mark); r != nil && !f.isDirty() {
		st := r.stat
		f.overlay(&st)
		f.mu.Lock()
		f.linked(r.links...)
		f.mu.Unlock()
		if f.pin == nil || f.pin.id != r.pin.id {
			f.show(r.pin)
		}
		return nil
	}
	stored, err := f.reread()
	if err == nil && f.pin != nil && f.pin.at == nil && !f.isDirty() {
		m.recent.put(f.ino, &recentFile{mark, stored, f.linkNames(), f.pin})
	}
	return err
}
