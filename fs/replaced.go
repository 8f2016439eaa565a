package fs

import (
	"slices"
	"syscall"

	"mailraft/raftstore/tree"
)

// replaced takes note that a shard's state, or all shards', or one account's, is another one, and that nobody told what changed. It is called by
// the goroutine that applies.
func (v *invalidator) replaced(ev *tree.Event) {
	m := v.mount
	if ev.Account != 0 {
		v.countAll(ev.Account)
		m.tmps.clear(func(a tree.Account) bool { return a == ev.Account })
		v.queue(ev.Account).add(func(*invalidator) { m.forgetAccount(ev.Account) })
		return
	}
	for i := range v.all { // some are other shards': they lose what they had counted on, and no more
		v.all[i].Add(1)
		v.others[i].Add(1)
	}
	m.recent.changedAll()
	m.tmps.clear(func(tree.Account) bool { return true })
	v.queue(0).add(func(v *invalidator) {
		for _, a := range m.cachedAccounts() {
			if sh, err := m.store.Shard(a); ev.Shard == 0 || err != nil || sh.ID() == ev.Shard {
				v.queue(a).add(func(*invalidator) { m.forgetAccount(a) })
			}
		}
	})
}

// countAll has whatever is being read of the account, or was, taken for changed.
func (v *invalidator) countAll(a tree.Account) {
	v.changed(a)
	count(&v.others, a).Add(1)
}

// directoryReplaced takes note that the directory's state is another one. It is called by the goroutine that applies.
func (v *invalidator) directoryReplaced() {
	m := v.mount
	m.gate.forgetAll()
	v.countAll(0)
	v.queue(0).add(func(v *invalidator) {
		m.dirs.drop(0, func(tree.Ino) bool { return true }, v.dropDir)
		for _, a := range m.cachedAccounts() {
			v.queue(a).add(func(v *invalidator) {
				m.dirs.drop(a, isTop, v.dropDir) // the homes
				m.dropStagedOf(a)
			})
		}
	})
}

// cachedAccounts are those that the kernel or this mount may have something of.
func (m *mount) cachedAccounts() []tree.Account {
	list := append(m.dirs.list(), m.staged.accounts()...)
	m.files.each(func(f *file) { list = append(list, f.acct.number) }, m.put)
	slices.Sort(list)
	list = slices.Compact(list)
	return slices.DeleteFunc(list, func(a tree.Account) bool { return a == 0 })
}

// barrierName is no file's: the kernel has nothing under it.
const barrierName = tree.ReservedPrefix + "none"

// dropDir has the kernel forget a directory's name and status, and the names below but for those of directories and open files: each of
// those is to be dropped itself. Called with no lock held.
func (v *invalidator) dropDir(i tree.Ino, l tree.LinkName) {
	// The kernel waits here until what is being looked up in the directory is there to be dropped.
	v.kernel.EntryNotify(uint64(i), barrierName)
	v.kernel.EntryNotify(uint64(l.Parent), l.Name)
	v.attrNotify(i)
}

// forgetAccount has the kernel forget all that it has cached of an account, open files show what they hold now, and what is staged go
// if its directory has gone. It is called by the account's notifying goroutine, with no lock held.
func (m *mount) forgetAccount(a tree.Account) {
	m.dirs.drop(a, func(tree.Ino) bool { return true }, m.inval.dropDir)
	var open []*file
	m.files.each(func(f *file) {
		if f.acct.number != a || f.local() {
			return
		}
		for _, l := range f.linkNames() {
			m.inval.kernel.EntryNotify(uint64(l.Parent), l.Name)
		}
		m.files.hold(f)
		open = append(open, f)
	}, m.put)
	for _, i := range m.cached.list(a) {
		m.inval.contentNotify(i)
	}
	if len(open) == 0 && !m.staged.has(a) {
		return
	}
	m.background.Go(func() { // it asks the shard, which may not answer soon
		for _, f := range open {
			m.contentChanged(f.ino)
			m.inval.content(f.ino)
			m.put(f)
		}
		m.dropStagedOf(a)
	})
}

// dropStagedOf gives up what is staged in the account's directories that are no more.
func (m *mount) dropStagedOf(a tree.Account) {
	for _, dir := range m.staged.directories(a) {
		m.directoryRemoved(dir)
	}
}

// forgetDir takes note that the kernel has forgotten a directory, or so it seems: as for forgotten.
func (m *mount) forgetDir(i tree.Ino) {
	given := m.dirs.get(i)
	if given == 0 {
		return
	}
	m.inval.queue(i.Account()).add(func(v *invalidator) {
		if v.kernel.InodeNotify(uint64(i), -1, 0).Ok() {
			return
		}
		m.dirs.forget(i, given)
	})
}

// notedNames takes note of the new names that a command has given: the kernel has what it knew under them now, if this mount asked for
// it. It is called by the goroutine that applies.
func (m *mount) notedNames(changes []tree.Change) {
	for i := range changes {
		c := &changes[i]
		switch {
		case c.Kind != tree.EntryAdded:
		case c.Dir:
			m.dirs.move(c.Ino, c.Parent, c.Name)
		default:
			m.files.named(c.Ino, tree.LinkName{Parent: c.Parent, Name: c.Name})
		}
	}
}

// linkNames are the committed names under which the kernel may know the file.
func (f *file) linkNames() []tree.LinkName {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.links)
}

// maxLinkNames bounds the names noted of an open file: beyond, the oldest go.
const maxLinkNames = 64

// linked adds to the committed names. Called with mu.
func (f *file) linked(names ...tree.LinkName) {
	if f.links == nil {
		f.links = names
		return
	}
	for _, l := range names {
		if slices.Contains(f.links, l) {
			continue
		}
		if len(f.links) >= maxLinkNames {
			f.links = f.links[1:]
		}
		f.links = append(slices.Clip(f.links), l) // a copy: others may have it
	}
}

// named notes a committed name of a file, if it is in memory.
func (t *files) named(i tree.Ino, l tree.LinkName) {
	if t.count.Load() == 0 {
		return
	}
	s := t.shard(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.m[i]; f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.linked(l)
	}
}

// directories are those of the account in which something is staged.
func (s *staged) directories(a tree.Account) []tree.Ino {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []tree.Ino
	for dir := range s.dirs {
		if dir.Account() == a {
			list = append(list, dir)
		}
	}
	return list
}

// has tells whether something is staged in the account.
func (s *staged) has(a tree.Account) bool { return len(s.directories(a)) > 0 }

// accounts are those in which something is staged.
func (s *staged) accounts() []tree.Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []tree.Account
	for dir := range s.dirs {
		list = append(list, dir.Account())
	}
	return list
}

// clear forgets the directories of the accounts that which picks.
func (t *tmpDirs) clear(which func(tree.Account) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.m {
		if which(i.Account()) {
			delete(t.m, i)
		}
	}
}

// forgetAll has all accounts' records read again.
func (g *gate) forgetAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changes++
	clear(g.accounts)
}

// isGone tells whether the error says that what was asked for is not there, and not that this could not be found out.
func isGone(err error) bool { return err != nil && errnoOf(err) == syscall.ENOENT }
