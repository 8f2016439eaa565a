package disk

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func (m *Mount) open(n *inode, flags uint32, out *fuse.OpenOut) {
	m.handle++
	m.handles[m.handle] = &handle{inode: n, sync: flags&syscall.O_DSYNC != 0} // O_SYNC has O_DSYNC's bit
	out.Fh = m.handle
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
}

func (m *Mount) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	dir := m.nodes[in.NodeId].inode
	if dir.seen[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	n := m.disk.newInode(syscall.S_IFREG|in.Mode&0o7777, in.Uid, in.Gid)
	m.disk.apply(change{{dir, name, n}})
	m.show(n, &out.EntryOut)
	m.open(n, in.Flags, &out.OpenOut)
	return fuse.OK
}

func (m *Mount) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	n := m.nodes[in.NodeId].inode
	if in.Flags&syscall.O_TRUNC != 0 {
		n.data.resize(0)
	}
	m.open(n, in.Flags, out)
	return fuse.OK
}

func (m *Mount) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	delete(m.handles, in.Fh)
}

func (m *Mount) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if !m.begin() {
		return nil, fuse.EIO
	}
	defer m.end()
	n := m.handles[in.Fh].data.read(buf[:min(int(in.Size), len(buf))], int64(in.Offset))
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func (m *Mount) Write(_ <-chan struct{}, in *fuse.WriteIn, p []byte) (uint32, fuse.Status) {
	if !m.begin() {
		return 0, fuse.EIO
	}
	defer m.end()
	h := m.handles[in.Fh]
	h.data.write(p, int64(in.Offset))
	h.mtime = time.Now()
	h.ctime = h.mtime
	if h.sync {
		h.data.sync()
	}
	return uint32(len(p)), fuse.OK
}

func (m *Mount) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if !m.beginSync() {
		return fuse.EIO
	}
	defer m.end()
	m.handles[in.Fh].data.sync()
	return fuse.OK
}

// Flush implements close(2), which promises nothing.
func (m *Mount) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

func (m *Mount) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	const keepSize = 1
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	if in.Mode&^keepSize != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	d := &m.handles[in.Fh].data
	if end := int64(in.Offset + in.Length); in.Mode == 0 && end > d.seen.size {
		d.resize(end)
	}
	return fuse.OK
}
