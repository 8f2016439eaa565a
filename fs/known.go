package fs

import (
	"sync"
	"sync/atomic"

	"mailraft/raftstore/tree"
)

// knownDirs knows the directories that the kernel may know, and under which name. When all that it has cached of an account is to be
// forgotten, dropping the name of the account's home drops what lies below; but not what is in use: directories that are somebody's
// working directory or hold an open file. The kernel tells of none of them, so each name is dropped.
type knownDirs struct {
	mu       sync.RWMutex // held for map operations
	given    uint64       // calls of give
	accounts map[tree.Account]map[tree.Ino]*knownDir

	detached atomic.Int64 // how many are
}

type knownDir struct {
	tree.LinkName
	given    uint64 // what knownDirs.given was when the kernel was told of it last
	detached bool   // its name was dropped and not given since, so whoever is in it reaches what the kernel knows below by no path
}

// give notes that the kernel is told of a directory. Called before it is.
func (t *knownDirs) give(i, parent tree.Ino, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	set := t.accounts[i.Account()]
	if set == nil {
		set = map[tree.Ino]*knownDir{}
		t.accounts[i.Account()] = set
	}
	t.given++
	t.detach(set[i], false)
	set[i] = &knownDir{LinkName: tree.LinkName{Parent: parent, Name: name}, given: t.given}
}

// move notes the new name of a directory that may be known: in the kernel, a rename has moved it.
func (t *knownDirs) move(i, parent tree.Ino, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.accounts[i.Account()][i]; d != nil {
		d.LinkName = tree.LinkName{Parent: parent, Name: name}
	}
}

// get tells when the kernel was told of the directory last; 0: it does not know it.
func (t *knownDirs) get(i tree.Ino) (given uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if d := t.accounts[i.Account()][i]; d != nil {
		given = d.given
	}
	return given
}

// forget takes the directory out, unless the kernel was told of it since.
func (t *knownDirs) forget(i tree.Ino, given uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	set := t.accounts[i.Account()]
	d := set[i]
	if d == nil || d.given != given {
		return
	}
	t.detach(d, false)
	delete(set, i)
	if len(set) == 0 {
		delete(t.accounts, i.Account())
	}
}

// detach is called with mu.
func (t *knownDirs) detach(d *knownDir, detached bool) {
	if d == nil || d.detached == detached {
		return
	}
	d.detached = detached
	if detached {
		t.detached.Add(1)
	} else {
		t.detached.Add(-1)
	}
}

// isDetached tells whether nothing that is found in the directory may be cached, as it could not be dropped.
func (t *knownDirs) isDetached(i tree.Ino) bool {
	if t.detached.Load() == 0 {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	d := t.accounts[i.Account()][i]
	return d != nil && d.detached
}

// drop calls fn with those of the account's directories that pick picks, for it to drop their names: again with those that the kernel
// is told of meanwhile, which may be dropped or not.
func (t *knownDirs) drop(a tree.Account, pick func(parent tree.Ino) bool, fn func(i tree.Ino, l tree.LinkName)) {
	for since := uint64(0); ; {
		dirs, given := t.detachSince(a, since, pick)
		if len(dirs) == 0 {
			return
		}
		for i, l := range dirs {
			fn(i, l)
		}
		since = given
	}
}

// detachSince detaches the directories that the kernel was told of since, and answers them, and the count up to which they are all.
func (t *knownDirs) detachSince(a tree.Account, since uint64, pick func(parent tree.Ino) bool) (map[tree.Ino]tree.LinkName, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dirs := map[tree.Ino]tree.LinkName{}
	for i, d := range t.accounts[a] {
		if d.given > since && pick(d.Parent) {
			t.detach(d, true)
			dirs[i] = d.LinkName
		}
	}
	return dirs, t.given
}

// has tells whether the kernel may know a directory of the account.
func (t *knownDirs) has(a tree.Account) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.accounts[a]) > 0
}

// list answers the accounts that directories are known of.
func (t *knownDirs) list() []tree.Account {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]tree.Account, 0, len(t.accounts))
	for a := range t.accounts {
		list = append(list, a)
	}
	return list
}
