package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// cacheTime is how long the kernel may use names and attributes: until they are invalidated, in effect.
const cacheTime = 3600 // seconds

// fillAttr tells the kernel a status.
func fillAttr(out *fuse.Attr, i tree.Ino, st *tree.Stat) {
	out.Ino = uint64(i)
	out.Size = st.Size
	out.Blocks = (st.Size + 511) / 512
	out.Atime, out.Atimensec = split(st.Atime)
	out.Mtime, out.Mtimensec = split(st.Mtime)
	out.Ctime, out.Ctimensec = split(st.Ctime)
	out.Mode = st.Mode
	out.Nlink = st.Nlink
	out.Uid, out.Gid = st.UID, st.GID
	out.Blksize = 4096
}

func split(ns int64) (sec uint64, nsec uint32) {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return uint64(s), uint32(n)
}

// fillEntry tells the kernel an entry that it may cache.
func fillEntry(out *fuse.EntryOut, i tree.Ino, st *tree.Stat) {
	out.NodeId, out.Generation = uint64(i), 1
	out.EntryValid, out.AttrValid = cacheTime, cacheTime
	fillAttr(&out.Attr, i, st)
}

// uncached takes back that an entry may be cached.
func uncached(out *fuse.EntryOut) { out.EntryValid, out.AttrValid = 0, 0 }

// statInode is the status of any inode.
func (m *mount) statInode(i tree.Ino) (tree.Stat, error) {
	switch {
	case isVirtual(i):
		return m.indexes.status(i)
	case isTop(i):
		return m.statTop(i)
	}
	if f := m.files.get(i); f != nil {
		defer m.put(f)
		return f.status()
	}
	a, err := m.gate.of(i)
	if err != nil {
		return tree.Stat{}, err
	}
	if in := m.tmps.get(i); in != nil {
		return in.Stat, nil // asked for at every step of a delivery: the kernel forgets a directory's status with each change in it
	}
	in, err := a.view.Inode(i)
	if err != nil {
		if st, ok := m.removed.status(i); ok && err == syscall.ENOENT {
			return st, nil
		}
		return tree.Stat{}, err
	}
	return in.Stat, nil
}

// statTop is the status of the root, or of a domain.
func (m *mount) statTop(i tree.Ino) (tree.Stat, error) {
	if id, ok := domainOf(i); ok {
		if _, err := m.store.Directory().DomainByID(id); err != nil {
			return tree.Stat{}, err
		}
	} else if i != rootIno {
		return tree.Stat{}, syscall.ENOENT
	}
	return tree.Stat{Mode: syscall.S_IFDIR | 0o755, Nlink: 2, Mtime: m.since, Ctime: m.since, Atime: m.since}, nil
}

// GetAttr implements fuse.RawFileSystem.
func (m *mount) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	i := tree.Ino(in.NodeId)
	mark := m.inval.foreign(i)
	st, err := m.statInode(i)
	if err != nil {
		return m.status("stat", in.NodeId, err)
	}
	fillAttr(&out.Attr, i, &st)
	if !isVirtual(i) && m.inval.foreign(i) == mark && !m.sizeWillChange(i) {
		out.AttrValid = cacheTime
	}
	return fuse.OK
}

// SetAttr implements fuse.RawFileSystem.
func (m *mount) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	i := tree.Ino(in.NodeId)
	a, err := m.gate.of(i)
	if err != nil {
		return m.status("setattr", in.NodeId, err)
	}
	if size, ok := in.GetSize(); ok {
		if err := m.setSize(a, i, size, in); err != nil {
			return m.status("truncate", in.NodeId, err)
		}
	}
	if c := m.attrChange(i, in); c != nil {
		if err := m.setAttr(a, i, c); err != nil {
			return m.status("setattr", in.NodeId, err)
		}
	}
	st, err := m.statInode(i)
	if err != nil {
		return m.status("setattr", in.NodeId, err)
	}
	fillAttr(&out.Attr, i, &st)
	if !m.sizeWillChange(i) {
		out.AttrValid = cacheTime
	}
	return fuse.OK
}

// attrChange is what the request changes beside the size; nil when nothing.
func (m *mount) attrChange(i tree.Ino, in *fuse.SetAttrIn) *raftpb.SetAttr {
	c := &raftpb.SetAttr{Inode: uint64(i)}
	any := false
	if mode, ok := in.GetMode(); ok {
		c.Mode, any = &mode, true
	}
	if uid, ok := in.GetUID(); ok {
		c.Uid, any = &uid, true
	}
	if gid, ok := in.GetGID(); ok {
		c.Gid, any = &gid, true
	}
	if t, ok := in.GetMTime(); ok {
		ns := t.UnixNano()
		c.Mtime, any = &ns, true
	}
	if t, ok := in.GetATime(); ok {
		ns := t.UnixNano()
		c.Atime, any = &ns, true
	}
	// HANDLE_KILLPRIV_V2: who changes a file's owner, or its content without CAP_FSETID, takes its set-user-ID bits.
	if c.Mode == nil && (c.Uid != nil || c.Gid != nil || in.Valid&fuse.FATTR_KILL_SUIDGID != 0) {
		if st, err := m.statInode(i); err == nil && !st.IsDir() && withoutPrivileges(st.Mode) != st.Mode {
			mode := withoutPrivileges(st.Mode) & 0o7777
			c.Mode, any = &mode, true
		}
	}
	if !any {
		return nil
	}
	return c
}

// withoutPrivileges clears set-user-ID, and set-group-ID where it does not mean mandatory locking (inode(7)).
func withoutPrivileges(mode uint32) uint32 {
	mode &^= syscall.S_ISUID
	if mode&syscall.S_IXGRP != 0 {
		mode &^= syscall.S_ISGID
	}
	return mode
}

// setAttr changes an inode's attributes: those of a local file here, else by a commit.
func (m *mount) setAttr(a *account, i tree.Ino, c *raftpb.SetAttr) error {
	f := m.files.get(i)
	if f == nil {
		err := m.propose(&raftpb.Command{Op: &raftpb.Command_SetAttr{SetAttr: c}})
		if (err == nil || err == syscall.ENOENT) && m.removed.change(i, c) {
			return nil
		}
		return err
	}
	defer m.put(f)
	f.io.Lock() // a commit of the content that is under way would set the time that it had before
	defer f.io.Unlock()
	return m.setFileAttr(f, c)
}

// setFileAttr changes the attributes of a file in memory. Called with io.
func (m *mount) setFileAttr(f *file, c *raftpb.SetAttr) error {
	if !f.local() {
		err := m.propose(&raftpb.Command{Op: &raftpb.Command_SetAttr{SetAttr: c}})
		if err == syscall.ENOENT {
			f.lost()
		} else if err != nil {
			return err
		}
	}
	f.change(c)
	return nil
}

// change changes the status that is known here: a file that was written keeps a modification time that was set later, and one that
// goes while it is open all that was set.
func (f *file) change(c *raftpb.SetAttr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stat.Mode != 0 { // else it is only now being opened
		apply(&f.stat, c)
	}
}

// apply changes a status as the state machine does.
func apply(st *tree.Stat, c *raftpb.SetAttr) {
	if c.Mode != nil {
		st.Mode = st.Mode&syscall.S_IFMT | *c.Mode&0o7777
	}
	if c.Uid != nil {
		st.UID = *c.Uid
	}
	if c.Gid != nil {
		st.GID = *c.Gid
	}
	if c.Mtime != nil {
		st.Mtime = *c.Mtime
	}
	if c.Atime != nil {
		st.Atime = *c.Atime
	}
	st.Ctime = time.Now().UnixNano()
}

// setSize truncates or extends a file. Without a handle of it that is written through, it is committed at once.
func (m *mount) setSize(a *account, i tree.Ino, size uint64, in *fuse.SetAttrIn) error {
	f := m.files.open(i, a)
	defer m.put(f)
	f.io.Lock()
	defer f.io.Unlock()
	if !f.local() {
		if err := m.refresh(f); err != nil {
			if err != syscall.ENOENT {
				return err
			}
			if f.lost().Mode == 0 {
				return err
			}
		}
	}
	f.mu.Lock()
	mode, was := f.stat.Mode, f.stat.Size
	f.mu.Unlock()
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
	case syscall.S_IFDIR:
		return syscall.EISDIR
	default:
		return syscall.EINVAL
	}
	if size == was && size > 0 {
		return nil
	}
	h := &openFile{file: f, uid: in.Uid}
	fh, handled := in.GetFh()
	if handled {
		if open := m.handles.get(fh); open != nil && open.file != nil {
			h = open.file
		}
	}
	if size > 0 {
		if err := m.fillFor(h); err != nil {
			return err
		}
	}
	if err := m.truncate(f, size, time.Now().UnixNano()); err != nil {
		return err
	}
	h.own = h.own || size == 0
	if handled {
		return nil // flush or fsync commits it
	}
	return m.flush(f)
}
