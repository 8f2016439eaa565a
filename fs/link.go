package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Link implements fuse.RawFileSystem. Out of a tmp/ it is a delivery.
func (m *mount) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	i := tree.Ino(in.Oldnodeid)
	st, err := m.link(i, tree.Ino(in.NodeId), name)
	if err != nil {
		return m.status("link", in.NodeId, err)
	}
	fillEntry(out, i, &st)
	return fuse.OK
}

// link gives an inode one more name, and answers its status.
func (m *mount) link(i, parent tree.Ino, name string) (st tree.Stat, err error) {
	if isVirtual(i) || isTop(i) || isTop(parent) {
		return st, syscall.EPERM
	}
	if i.Account() != parent.Account() {
		return st, syscall.EXDEV
	}
	a, err := m.gate.of(i)
	if err != nil {
		return st, err
	}
	role, err := m.gate.role(a, parent)
	if err != nil {
		return st, err
	}
	f := m.files.get(i)
	if f == nil {
		if role == tree.RoleTmp {
			return st, syscall.EXDEV
		}
		return m.linkTree(a, i, parent, name)
	}
	defer m.put(f)
	f.mu.Lock()
	staged, local := f.names > 0, f.isLocal()
	f.mu.Unlock()
	if staged {
		if err := m.checkPlaces(a, true, parent); err != nil {
			return st, err
		}
	}
	switch {
	case staged && role == tree.RoleTmp:
		return m.linkStaged(f, parent, name)
	case staged:
		f.io.Lock()
		defer f.io.Unlock()
		return m.commitName(f, parent, name, false)
	case local:
		return st, syscall.ENOENT // open, and without a name
	case role == tree.RoleTmp:
		return st, syscall.EXDEV
	}
	return m.linkTree(a, i, parent, name)
}

// linkStaged gives a file one more name in a tmp/.
func (m *mount) linkStaged(f *file, parent tree.Ino, name string) (st tree.Stat, err error) {
	if _, err := f.acct.view.Lookup(parent, name); err == nil {
		return st, syscall.EEXIST // a sub-directory
	}
	m.files.hold(f)
	if err := m.staged.add(parent, name, f); err != nil {
		m.put(f)
		return st, err
	}
	return f.status()
}

func (m *mount) linkTree(a *account, i, parent tree.Ino, name string) (st tree.Stat, err error) {
	if a.record.Pinned() {
		in, err := a.view.Inode(i)
		if err == nil && len(in.Links) > 0 {
			err = m.checkMove(a, in.Links[0].Parent, in.Links[0].Name, parent)
		}
		if err != nil {
			return st, err
		}
	}
	err = m.propose(&raftpb.Command{Op: &raftpb.Command_Link{Link: &raftpb.Link{
		Inode: uint64(i), Parent: uint64(parent), Name: []byte(name),
	}}})
	if err != nil {
		return st, err
	}
	return m.statInode(i)
}

// Unlink implements fuse.RawFileSystem.
func (m *mount) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return m.status("unlink", in.NodeId, m.unlink(tree.Ino(in.NodeId), name, false))
}

// Rmdir implements fuse.RawFileSystem.
func (m *mount) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return m.status("rmdir", in.NodeId, m.unlink(tree.Ino(in.NodeId), name, true))
}

func (m *mount) unlink(parent tree.Ino, name string, directory bool) error {
	f, err := m.staged.remove(parent, name)
	if err == nil {
		m.put(f)
		return nil
	}
	a, err := m.gate.of(parent)
	if err != nil {
		return err
	}
	if isReserved(name) {
		return syscall.EPERM
	}
	if directory {
		de, err := a.view.Lookup(parent, name)
		if err == nil && m.staged.used(de.Ino) {
			return syscall.ENOTEMPTY
		}
	}
	return m.propose(&raftpb.Command{Op: &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{
		Parent: uint64(parent), Name: []byte(name), Directory: directory,
	}}})
}
