package disk

import (
	"maps"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// add makes a new inode with a name.
func (m *Mount) add(h *fuse.InHeader, name string, mode uint32, target string, out *fuse.EntryOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	dir := m.nodes[h.NodeId].inode
	if dir.seen[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	n := m.disk.newInode(mode, h.Uid, h.Gid)
	n.target = target
	m.disk.apply(change{{dir, name, n}})
	m.show(n, out)
	return fuse.OK
}

func (m *Mount) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return m.add(&in.InHeader, name, in.Mode, "", out)
}

func (m *Mount) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return m.add(&in.InHeader, name, syscall.S_IFDIR|in.Mode&0o7777, "", out)
}

func (m *Mount) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return m.add(h, name, syscall.S_IFLNK|0o777, target, out)
}

func (m *Mount) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	if !m.begin() {
		return nil, fuse.EIO
	}
	defer m.end()
	return []byte(m.nodes[h.NodeId].target), fuse.OK
}

func (m *Mount) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	dir, n := m.nodes[in.NodeId].inode, m.nodes[in.Oldnodeid].inode
	if dir.seen[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	m.disk.apply(change{{dir, name, n}})
	m.show(n, out)
	return fuse.OK
}

func (m *Mount) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return m.remove(h, name)
}

func (m *Mount) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return m.remove(h, name)
}

// remove takes a name away; the kernel has checked that it is a directory's or that it is not.
func (m *Mount) remove(h *fuse.InHeader, name string) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	dir := m.nodes[h.NodeId].inode
	n := dir.seen[name]
	if n == nil {
		return fuse.ENOENT
	}
	if len(n.seen) > 0 {
		return fuse.Status(syscall.ENOTEMPTY)
	}
	m.disk.apply(change{{dir, name, nil}})
	return fuse.OK
}

func (m *Mount) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	const noReplace, exchange = 1, 2
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	dir, toDir := m.nodes[in.NodeId].inode, m.nodes[in.Newdir].inode
	n, there := dir.seen[from], toDir.seen[to]
	switch {
	case n == nil || in.Flags == exchange && there == nil:
		return fuse.ENOENT
	case in.Flags == exchange:
		m.disk.apply(change{{dir, from, there}, {toDir, to, n}})
		return fuse.OK
	case there != nil && in.Flags == noReplace:
		return fuse.Status(syscall.EEXIST)
	case there == n:
		return fuse.OK
	case there != nil && len(there.seen) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	m.disk.apply(change{{dir, from, nil}, {toDir, to, n}})
	return fuse.OK
}

func (m *Mount) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	n := m.nodes[in.NodeId].inode
	m.handle++
	m.handles[m.handle] = &handle{inode: n, names: slices.Sorted(maps.Keys(n.seen))}
	out.Fh = m.handle
	return fuse.OK
}

func (m *Mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, l *fuse.DirEntryList) fuse.Status {
	return m.list(in, func(_ *inode, e fuse.DirEntry) bool { return l.AddDirEntry(e) })
}

func (m *Mount) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, l *fuse.DirEntryList) fuse.Status {
	return m.list(in, func(n *inode, e fuse.DirEntry) bool {
		out := l.AddDirLookupEntry(e)
		if out != nil {
			m.show(n, out)
		}
		return out != nil
	})
}

func (m *Mount) list(in *fuse.ReadIn, add func(*inode, fuse.DirEntry) bool) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	h := m.handles[in.Fh]
	for i := int(in.Offset); i < len(h.names); i++ {
		n := h.seen[h.names[i]]
		if n != nil && !add(n, fuse.DirEntry{Name: h.names[i], Ino: n.number, Mode: n.mode, Off: uint64(i + 1)}) {
			break
		}
	}
	return fuse.OK
}

func (m *Mount) ReleaseDir(in *fuse.ReleaseIn) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	delete(m.handles, in.Fh)
}

func (m *Mount) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if !m.beginSync() {
		return fuse.EIO
	}
	defer m.end()
	m.disk.syncDir(m.handles[in.Fh].inode)
	return fuse.OK
}
