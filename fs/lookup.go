package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/tree"
)

// Lookup implements fuse.RawFileSystem. A hit is what has been applied on this node; a miss is never stale, and never cached.
func (m *mount) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent := tree.Ino(in.NodeId)
	var err error
	switch {
	case isVirtual(parent):
		err = syscall.ENOTDIR
	case isTop(parent):
		err = m.lookupTop(parent, name, out)
	default:
		err = m.lookup(parent, name, out)
	}
	if err != nil {
		return m.status("lookup", in.NodeId, err)
	}
	return fuse.OK
}

// lookup finds a name in an account's directory.
func (m *mount) lookup(parent tree.Ino, name string, out *fuse.EntryOut) error {
	if f := m.staged.get(parent, name); f != nil {
		defer m.put(f)
		return m.entryOf(f, out)
	}
	a, err := m.gate.of(parent)
	if err != nil {
		return err
	}
	if isReserved(name) {
		return m.indexes.lookup(a, parent, name, out)
	}
	if m.tmps.get(parent) != nil {
		return syscall.ENOENT
	}
	mark := m.inval.foreign(parent)
	de, err := a.view.Lookup(parent, name)
	if err == syscall.ENOENT {
		// What is missing from a tmp/ is missing on this mount: only sub-directories come from elsewhere.
		role, rerr := m.gate.role(a, parent)
		if rerr != nil {
			return rerr
		}
		if role == tree.RoleTmp {
			return err
		}
		view, rerr := a.home.ReadIndex(m.time.context())
		if rerr != nil {
			return rerr
		}
		de, err = view.Lookup(parent, name)
	}
	if err != nil {
		return err
	}
	m.fillDirEntry(parent, &de, out)
	if m.inval.foreign(parent) != mark || m.dirs.isDetached(parent) {
		uncached(out) // it may have changed since it was read, and been invalidated before the kernel has it
	}
	return nil
}

// fillDirEntry tells the kernel an entry of the tree.
func (m *mount) fillDirEntry(parent tree.Ino, de *tree.DirEntry, out *fuse.EntryOut) {
	if de.Stat.IsDir() {
		m.dirs.give(de.Ino, parent, de.Name)
	}
	if f := m.files.get(de.Ino); f != nil {
		f.overlay(&de.Stat)
		m.put(f)
	}
	fillEntry(out, de.Ino, &de.Stat)
}

// entryOf tells the kernel the entry that leads to a file.
func (m *mount) entryOf(f *file, out *fuse.EntryOut) error {
	st, err := f.status()
	if err == nil {
		fillEntry(out, f.ino, &st)
		if f.sizeWillChange() {
			out.AttrValid = 0
		}
	}
	return err
}

// lookupTop finds a domain, or an account's home in one.
func (m *mount) lookupTop(parent tree.Ino, name string, out *fuse.EntryOut) error {
	mark := m.inval.foreign(parent)
	i, st, err := m.findTop(parent, name)
	if errors.Is(err, syscall.ENOENT) {
		if rerr := m.store.Directory().ReadIndex(m.time.context()); rerr != nil {
			return rerr
		}
		i, st, err = m.findTop(parent, name)
	}
	if err != nil {
		return err
	}
	m.dirs.give(i, parent, name)
	home := m.inval.foreign(i)
	if !isTop(i) { // read again: what changed before the kernel was known to be told of it, nobody told the kernel
		if st, err = m.statInode(i); err != nil {
			return err
		}
	}
	fillEntry(out, i, &st)
	if m.inval.foreign(parent) != mark || m.inval.foreign(i) != home {
		uncached(out)
	}
	return nil
}

func (m *mount) findTop(parent tree.Ino, name string) (tree.Ino, tree.Stat, error) {
	d := m.store.Directory()
	if parent == rootIno {
		dom, err := d.Domain(name)
		if err != nil {
			return 0, tree.Stat{}, err
		}
		st, err := m.statTop(domainIno(dom.ID))
		return domainIno(dom.ID), st, err
	}
	id, ok := domainOf(parent)
	if !ok {
		return 0, tree.Stat{}, syscall.ENOENT
	}
	dom, err := d.DomainByID(id)
	if err != nil {
		return 0, tree.Stat{}, err
	}
	record, err := d.FindAccount(name, dom.Name)
	if err != nil {
		return 0, tree.Stat{}, err
	}
	a, err := m.gate.account(tree.Account(record.Number))
	if err != nil {
		return 0, tree.Stat{}, err
	}
	home, err := a.view.Inode(tree.RootIno(a.number))
	if err != nil {
		return 0, tree.Stat{}, err
	}
	return home.Ino, home.Stat, nil
}

// Forget implements fuse.RawFileSystem. Committed inodes need no memory here, so their lookups are not counted.
func (m *mount) Forget(node, lookups uint64) {
	i := tree.Ino(node)
	if isVirtual(i) {
		m.indexes.forget(i, lookups)
		return
	}
	m.forgotten(i)
	m.forgetDir(i)
}
