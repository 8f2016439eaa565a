package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mailraft/raftstore/tree"
)

// Writev implements fuse.RawFileSystem.
func (m *mount) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	h := m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return 0, fuse.EBADF
	}
	n, err := m.write(h.file, in, data)
	if n > 0 {
		return n, fuse.OK
	}
	return 0, m.status("write", in.NodeId, err)
}

// Write implements fuse.RawFileSystem.
func (m *mount) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return m.Writev(cancel, in, [][]byte{data})
}

func (m *mount) write(h *openFile, in *fuse.WriteIn, data [][]byte) (n uint32, err error) {
	f := h.file
	f.io.Lock()
	defer f.io.Unlock()
	if err := m.fillFor(h); err != nil {
		return 0, err
	}
	off := int64(in.Offset)
	if in.Flags&syscall.O_APPEND != 0 && in.WriteFlags&fuse.WRITE_CACHE == 0 {
		off = f.buf.Size() // the kernel's idea of it may be older than another handle's write
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := m.dropPrivileges(f); err != nil {
			return 0, err
		}
	}
	for _, b := range data {
		if off+int64(len(b)) > tree.MaxContent {
			err = syscall.EFBIG
			break
		}
		var k int
		k, err = f.buf.WriteAt(b, off)
		n += uint32(k)
		off += int64(k)
		if err != nil {
			break
		}
	}
	if n > 0 {
		h.own = true
		f.direct = f.direct || h.direct
		f.touched(time.Now().UnixNano())
	}
	return n, err
}

// Flush implements fuse.RawFileSystem: close(2). A staged file is sealed, outside every lock of the kernel's; any other commits what
// was written. EDQUOT, for either.
func (m *mount) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.OK
	}
	f := h.file.file
	f.io.Lock()
	defer f.io.Unlock()
	return m.status("close", in.NodeId, m.flush(f))
}

// Fsync implements fuse.RawFileSystem. A staged file has nothing to promise: its commit is the link or rename out of tmp/.
func (m *mount) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.OK
	}
	f := h.file.file
	if f.local() {
		return fuse.OK
	}
	f.io.Lock()
	defer f.io.Unlock()
	return m.status("fsync", in.NodeId, m.flush(f))
}

// Fallocate implements fuse.RawFileSystem. Room cannot be set aside; a file can be made longer, and ranges of it be zeroed.
func (m *mount) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.EBADF
	}
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if in.Mode&^known != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return m.status("fallocate", in.NodeId, m.fallocate(h.file, in))
}

func (m *mount) fallocate(h *openFile, in *fuse.FallocateIn) error {
	f := h.file
	end := in.Offset + in.Length
	if end > tree.MaxContent || end < in.Offset {
		return syscall.EFBIG
	}
	f.io.Lock()
	defer f.io.Unlock()
	if err := m.fillFor(h); err != nil {
		return err
	}
	if in.Uid != 0 { // as write(2) does; but here the kernel does not say who lacks CAP_FSETID
		if err := m.dropPrivileges(f); err != nil {
			return err
		}
	}
	size := uint64(f.buf.Size())
	grows := in.Mode&unix.FALLOC_FL_KEEP_SIZE == 0 && end > size
	if in.Mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 && in.Offset < size {
		if err := zero(f, int64(in.Offset), int64(min(end, size))); err != nil {
			return err
		}
	}
	if grows {
		if err := f.buf.Truncate(int64(end)); err != nil {
			return err
		}
	}
	f.touched(time.Now().UnixNano())
	return nil
}

// zero overwrites a range of the content. Called with io.
func zero(f *file, from, to int64) error {
	zeros := make([]byte, min(to-from, 64<<10))
	for from < to {
		n, err := f.buf.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}
