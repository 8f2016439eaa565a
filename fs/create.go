package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// newInode is what a request wants to be made, where, and for whom.
type newInode struct {
	acct   *account
	parent *tree.Inode
	name   string
	mode   uint32
	uid    uint32
	gid    uint32
	target string
}

// place checks where a new name is to be, and whose it will be: the caller's. But what root makes in an account's tree is the mail
// user's, so that mail that root delivered can be read by the proxies. A set-group-ID directory hands down its group, and to
// directories the bit (inode(7)).
func (m *mount) place(caller *fuse.InHeader, name string, mode uint32) (*newInode, error) {
	parent := tree.Ino(caller.NodeId)
	a, err := m.gate.of(parent)
	if err != nil {
		return nil, err
	}
	in, err := m.directory(a, parent)
	if err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	n := &newInode{acct: a, parent: in, name: name, mode: mode, uid: caller.Uid, gid: caller.Gid}
	if n.uid == 0 {
		n.uid, n.gid = m.cfg.UID, m.cfg.GID
	}
	if in.Mode&syscall.S_ISGID != 0 {
		n.gid = in.GID
		if mode&syscall.S_IFMT == syscall.S_IFDIR {
			n.mode |= syscall.S_ISGID
		}
	}
	return n, nil
}

// make makes an inode: in a tmp/ staged, unless it is a directory, else by a commit. The file is there only when it was staged, and
// has a use for the caller to put back.
func (m *mount) make(n *newInode) (tree.Ino, *file, tree.Stat, error) {
	i, err := m.reserve(n.acct)
	if err != nil {
		return 0, nil, tree.Stat{}, err
	}
	now := time.Now().UnixNano()
	st := tree.Stat{Mode: n.mode, UID: n.uid, GID: n.gid, Nlink: 1, Mtime: now, Ctime: now, Atime: now, Size: uint64(len(n.target))}
	isDir := n.mode&syscall.S_IFMT == syscall.S_IFDIR
	if n.parent.Role == tree.RoleTmp && !isDir {
		f := &file{ino: i, acct: n.acct, stat: st, target: n.target, message: true}
		if f.stat.IsRegular() {
			n.acct.prepareHeader()
		}
		m.files.add(f)
		m.files.hold(f)
		if err := m.staged.add(n.parent.Ino, n.name, f); err != nil {
			m.put(f)
			m.put(f)
			return 0, nil, st, err
		}
		return i, f, st, nil
	}
	if isDir && n.parent.Role == tree.RoleTmp {
		if f := m.staged.get(n.parent.Ino, n.name); f != nil {
			m.put(f)
			return 0, nil, st, syscall.EEXIST
		}
	}
	err = m.propose(&raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(n.parent.Ino), Name: []byte(n.name), Inode: uint64(i), Mode: n.mode, Uid: n.uid, Gid: n.gid, Target: []byte(n.target),
	}}})
	if err != nil {
		return 0, nil, st, err
	}
	if in, err := n.acct.view.Inode(i); err == nil {
		st = in.Stat
	}
	return i, nil, st, nil
}

// makeEntry makes an inode that is not opened, and tells the kernel.
func (m *mount) makeEntry(op string, caller *fuse.InHeader, name string, mode uint32, target string, out *fuse.EntryOut) fuse.Status {
	n, err := m.place(caller, name, mode)
	if err != nil {
		return m.status(op, caller.NodeId, err)
	}
	n.target = target
	i, f, st, err := m.make(n)
	if err != nil {
		return m.status(op, caller.NodeId, err)
	}
	if f != nil {
		m.put(f)
	}
	if st.IsDir() {
		m.dirs.give(i, tree.Ino(caller.NodeId), name)
	}
	fillEntry(out, i, &st)
	return fuse.OK
}

// Mkdir implements fuse.RawFileSystem.
func (m *mount) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return m.makeEntry("mkdir", &in.InHeader, name, syscall.S_IFDIR|in.Mode&0o7777, "", out)
}

// Mknod implements fuse.RawFileSystem: regular files, FIFOs and sockets; EPERM for devices.
func (m *mount) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	switch in.Mode & syscall.S_IFMT {
	case syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK:
		return m.makeEntry("mknod", &in.InHeader, name, in.Mode, "", out)
	}
	return fuse.EPERM
}

// Symlink implements fuse.RawFileSystem.
func (m *mount) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if len(target) > tree.MaxTarget {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	return m.makeEntry("symlink", in, name, syscall.S_IFLNK|0o777, target, out)
}

// Readlink implements fuse.RawFileSystem.
func (m *mount) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	i := tree.Ino(in.NodeId)
	if f := m.localFile(i); f != nil {
		defer m.put(f)
		if f.local() {
			return []byte(f.target), fuse.OK
		}
	}
	a, err := m.gate.of(i)
	if err != nil {
		return nil, m.status("readlink", in.NodeId, err)
	}
	inode, err := a.view.Inode(i)
	if err != nil {
		return nil, m.status("readlink", in.NodeId, err)
	}
	if inode.Mode&syscall.S_IFMT != syscall.S_IFLNK {
		return nil, fuse.EINVAL
	}
	return []byte(inode.Target), fuse.OK
}

// Create implements fuse.RawFileSystem: open(2) of a name that was not there. Outside tmp/ it is a commit, so that O_EXCL locks
// across nodes.
func (m *mount) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	n, err := m.place(&in.InHeader, name, syscall.S_IFREG|in.Mode&0o7777)
	if err != nil {
		return m.status("create", in.NodeId, err)
	}
	i, f, st, err := m.make(n)
	if err == syscall.EEXIST && in.Flags&syscall.O_EXCL == 0 {
		return m.openExisting(in, name, out)
	}
	if err != nil {
		return m.status("create", in.NodeId, err)
	}
	if f == nil {
		f = m.files.open(i, n.acct)
		f.io.Lock()
		f.message = holdsMessages(n.parent.Role)
		if f.pin == nil && f.buf == nil {
			f.mu.Lock()
			f.stat = st
			f.mu.Unlock()
			f.pin = new(pinned)
		}
		f.io.Unlock()
	}
	fillEntry(&out.EntryOut, i, &st)
	m.openHandle(f, in.Uid, in.Flags, &out.OpenOut)
	return fuse.OK
}

// openExisting opens a file that somebody else made between the kernel's look-up and Create.
func (m *mount) openExisting(in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if err := m.lookup(tree.Ino(in.NodeId), name, &out.EntryOut); err != nil {
		return m.status("create", in.NodeId, err)
	}
	open := fuse.OpenIn{InHeader: in.InHeader, Flags: in.Flags &^ (syscall.O_CREAT | syscall.O_EXCL)}
	open.NodeId = out.NodeId
	return m.Open(nil, &open, &out.OpenOut)
}
