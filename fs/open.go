package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

func reads(flags uint32) bool { return flags&syscall.O_ACCMODE != syscall.O_WRONLY }
func writes(flags uint32) bool {
	return flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0
}

// Open implements fuse.RawFileSystem. The content is pinned, but not opened before it is read. A locked account's file cannot be
// opened for reading or appending: ENOKEY, nor that of one that is unlocked for other users: EACCES; it can be for writing alone, and needs
// the key only if something of it is to stay.
func (m *mount) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	i := tree.Ino(in.NodeId)
	if isVirtual(i) {
		return m.openIndex(i, in.Flags, out)
	}
	a, err := m.gate.of(i)
	if err != nil {
		return m.status("open", in.NodeId, err)
	}
	f := m.files.open(i, a)
	if err := m.openContent(f, in); err != nil {
		m.put(f)
		return m.status("open", in.NodeId, err)
	}
	m.openHandle(f, in.Uid, in.Flags, out)
	return fuse.OK
}

func (m *mount) openContent(f *file, in *fuse.OpenIn) error {
	f.io.Lock()
	defer f.io.Unlock()
	if !f.local() {
		err := m.refresh(f)
		if err == syscall.ENOENT {
			if st := f.lost(); st.Mode != 0 { // others have it open
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	f.mu.Lock()
	mode := f.stat.Mode
	f.mu.Unlock()
	if mode&syscall.S_IFMT != syscall.S_IFREG {
		return syscall.EINVAL
	}
	truncates := in.Flags&syscall.O_TRUNC != 0 // with O_RDONLY as well, if the caller may write
	keeps := reads(in.Flags) || in.Flags&syscall.O_APPEND != 0 && !truncates
	if keeps {
		if err := m.mayRead(f, in.Uid); err != nil {
			return err
		}
		if writes(in.Flags) && !truncates {
			if err := f.canOpen(false); err != nil {
				return err
			}
		}
	}
	if !truncates {
		return nil
	}
	if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		if err := m.dropPrivileges(f); err != nil {
			return err
		}
	}
	return m.truncate(f, 0, time.Now().UnixNano())
}

// mayRead says whether a process of the user may read the content, as gate.readable does; what was written here and has not been sealed yet
// everybody may. Called with io.
func (m *mount) mayRead(f *file, uid uint32) error {
	err := m.gate.readable(f.acct, uid)
	if err == nil || f.isUnsealed() {
		return nil
	}
	return err
}

// isUnsealed tells whether the content is being written, for the first time. Called with io.
func (f *file) isUnsealed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.committed && (f.dirty || f.sealed == nil)
}

// openHandle makes a handle of a file for a process of that user. It takes over a use of the file. Pages are cached by the kernel only for
// those who may read them, so that mail delivered while its account is locked leaves none behind, and who may not read is not shown them.
func (m *mount) openHandle(f *file, uid, flags uint32, out *fuse.OpenOut) {
	f.mu.Lock()
	f.handles++
	f.mu.Unlock()
	direct := !reads(flags)
	if !direct {
		// Noted before the lock is looked at: whoever locks the account after that finds it in the table.
		m.cached.add(f.ino)
		// What is read of a message that is enclosed changes when it is sealed, and with its date.
		direct = m.gate.readable(f.acct, uid) != nil || f.acct.record.Pinned()
	}
	out.Fh = m.handles.add(&handle{file: &openFile{f, uid, writes(flags), direct, flags&(syscall.O_TRUNC|syscall.O_CREAT) != 0}})
	if direct {
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
		return
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if !writes(flags) {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH
	}
}

// dropPrivileges clears the set-user-ID bits of a file that somebody without CAP_FSETID writes to. Called with io.
func (m *mount) dropPrivileges(f *file) error {
	f.mu.Lock()
	mode := f.stat.Mode
	f.mu.Unlock()
	kept := withoutPrivileges(mode)
	if kept == mode {
		return nil
	}
	kept &= 0o7777
	return m.setFileAttr(f, &raftpb.SetAttr{Inode: uint64(f.ino), Mode: &kept})
}

// Release implements fuse.RawFileSystem: the last close of an open file. What a memory mapping wrote after the close is committed
// here.
func (m *mount) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	h := m.closed(in.Fh)
	switch {
	case h == nil || h.dir != nil:
		return
	case h.file == nil:
		m.closeIndex(h.index)
		return
	}
	f := h.file.file
	defer m.put(f)
	f.io.Lock()
	defer f.io.Unlock()
	if h.file.write {
		if err := m.flush(f); err != nil {
			m.status("release", in.NodeId, err)
		}
	}
	f.mu.Lock()
	f.handles--
	f.mu.Unlock()
	m.settle(f)
}
