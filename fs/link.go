package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Link implements fuse.RawFileSystem. Out of a tmp/ it is a delivery.
func (m *mount) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	i, parent := tree.Ino(in.Oldnodeid), tree.Ino(in.NodeId)
	if err := m.link(i, parent, name); err != nil {
		return m.status("link", in.NodeId, err)
	}
	st, err := m.statInode(i)
	if err != nil {
		return m.status("link", in.NodeId, err)
	}
	fillEntry(out, i, &st)
	return fuse.OK
}

func (m *mount) link(i, parent tree.Ino, name string) error {
	if isVirtual(i) || isTop(i) || isTop(parent) {
		return syscall.EPERM
	}
	if i.Account() != parent.Account() {
		return syscall.EXDEV
	}
	a, err := m.gate.of(i)
	if err != nil {
		return err
	}
	role, err := m.gate.role(a, parent)
	if err != nil {
		return err
	}
	f := m.files.get(i)
	if f == nil {
		if role == tree.RoleTmp {
			return syscall.EXDEV
		}
		return m.linkTree(a, i, parent, name)
	}
	defer m.put(f)
	f.mu.Lock()
	staged := f.names > 0
	f.mu.Unlock()
	switch {
	case !staged && (f.local() || role == tree.RoleTmp):
		if f.local() {
			return syscall.ENOENT
		}
		return syscall.EXDEV
	case !staged:
		return m.linkTree(a, i, parent, name)
	case role == tree.RoleTmp:
		if _, err := a.view.Lookup(parent, name); err == nil {
			return syscall.EEXIST // a sub-directory
		}
		m.files.hold(f)
		err := m.staged.add(parent, name, f)
		if err != nil {
			m.put(f)
		}
		return err
	}
	f.io.Lock()
	defer f.io.Unlock()
	return m.commitName(f, parent, name, false)
}

func (m *mount) linkTree(a *account, i, parent tree.Ino, name string) error {
	return m.propose(a, &raftpb.Command{Op: &raftpb.Command_Link{Link: &raftpb.Link{
		Inode: uint64(i), Parent: uint64(parent), Name: []byte(name),
	}}})
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
	return m.propose(a, &raftpb.Command{Op: &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{
		Parent: uint64(parent), Name: []byte(name), Directory: directory,
	}}})
}
