package fs

import (
	"errors"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// ownXattrs begins the names of the attributes that the mount answers itself. They are not listed, so that copies do not carry
// them away.
const ownXattrs = "user.mailraft."

// checkXattr says what becomes of a name that is not stored: EOPNOTSUPP for what is not served at all, as for POSIX ACLs, and for
// security.selinux, of which ls -l then asks once and not for every file.
func checkXattr(name string) error {
	if strings.HasPrefix(name, "user.") {
		return nil
	}
	return syscall.EOPNOTSUPP
}

// GetXAttr implements fuse.RawFileSystem.
func (m *mount) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if name == "security.capability" {
		return 0, fuse.ENODATA // the kernel asks often
	}
	value, err := m.getXattr(tree.Ino(in.NodeId), name)
	if err != nil {
		return 0, m.status("getxattr", in.NodeId, err)
	}
	return give(value, dest)
}

func give(value, dest []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (m *mount) getXattr(i tree.Ino, name string) ([]byte, error) {
	if err := checkXattr(name); err != nil {
		return nil, err
	}
	if isVirtual(i) || isTop(i) {
		return nil, syscall.ENODATA
	}
	a, err := m.gate.of(i)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, ownXattrs) {
		return m.ownXattr(a, i, name[len(ownXattrs):])
	}
	if f := m.localFile(i); f != nil {
		defer m.put(f)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.isLocal() {
			if value, ok := f.xattrs[name]; ok {
				return value, nil
			}
			return nil, syscall.ENODATA
		}
	}
	return a.view.Xattr(i, name)
}

// ownXattr answers what the tree knows of a message or a folder: uid and modseq, uidvalidity, uidnext, highestmodseq and messages,
// and the account of either.
func (m *mount) ownXattr(a *account, i tree.Ino, name string) ([]byte, error) {
	if name == "account" {
		return []byte(a.record.Address()), nil
	}
	in, err := a.view.Inode(i)
	if errors.Is(err, syscall.ENOENT) {
		return nil, syscall.ENODATA // staged
	}
	if err != nil {
		return nil, err
	}
	var n uint64
	if in.Role.IsFolder() && in.IsDir() {
		switch name {
		case "uidvalidity":
			n = uint64(in.UIDValidity)
		case "uidnext":
			n = uint64(in.UIDNext)
		case "highestmodseq":
			n = uint64(in.HighestModSeq)
		case "messages":
			n = in.Messages
		default:
			return nil, syscall.ENODATA
		}
		return strconv.AppendUint(nil, n, 10), nil
	}
	if name != "uid" && name != "modseq" {
		return nil, syscall.ENODATA
	}
	for _, l := range in.Links { // of a file with several names: the first that is a message
		de, err := a.view.Lookup(l.Parent, l.Name)
		if err != nil || de.UID == 0 {
			continue
		}
		if n = uint64(de.UID); name == "modseq" {
			n = uint64(de.ModSeq)
		}
		return strconv.AppendUint(nil, n, 10), nil
	}
	return nil, syscall.ENODATA
}

// localFile finds a file in memory, after seeing whether the shard still has it.
func (m *mount) localFile(i tree.Ino) *file {
	f := m.files.get(i)
	if f != nil && !f.local() {
		if _, err := f.acct.view.Inode(i); err == syscall.ENOENT {
			f.lost()
		}
	}
	return f
}

// ListXAttr implements fuse.RawFileSystem.
func (m *mount) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	i := tree.Ino(in.NodeId)
	if isVirtual(i) || isTop(i) {
		return 0, fuse.OK
	}
	names, err := m.listXattrs(i)
	if err != nil {
		return 0, m.status("listxattr", in.NodeId, err)
	}
	var list []byte
	for _, name := range names {
		list = append(append(list, name...), 0)
	}
	return give(list, dest)
}

func (m *mount) listXattrs(i tree.Ino) ([]string, error) {
	a, err := m.gate.of(i)
	if err != nil {
		return nil, err
	}
	if f := m.localFile(i); f != nil {
		defer m.put(f)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.isLocal() {
			names := make([]string, 0, len(f.xattrs))
			for name := range f.xattrs {
				names = append(names, name)
			}
			return names, nil
		}
	}
	return a.view.Xattrs(i)
}

// SetXAttr implements fuse.RawFileSystem.
func (m *mount) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	create, replace := in.Flags&unix.XATTR_CREATE != 0, in.Flags&unix.XATTR_REPLACE != 0
	return m.changeXattr("setxattr", tree.Ino(in.NodeId), name, func(f *file) error {
		_, there := f.xattrs[name]
		switch {
		case create && there:
			return syscall.EEXIST
		case replace && !there:
			return syscall.ENODATA
		case len(value) > tree.MaxXattr:
			return syscall.E2BIG
		case !there && len(f.xattrs) >= tree.MaxXattrs:
			return syscall.ENOSPC
		}
		if f.xattrs == nil {
			f.xattrs = map[string][]byte{}
		}
		f.xattrs[name] = append([]byte{}, value...)
		return nil
	}, func(i uint64) *raftpb.Command {
		return &raftpb.Command{Op: &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{
			Inode: i, Name: name, Value: append([]byte{}, value...), Create: create, Replace: replace,
		}}}
	})
}

// RemoveXAttr implements fuse.RawFileSystem.
func (m *mount) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return m.changeXattr("removexattr", tree.Ino(in.NodeId), name, func(f *file) error {
		if _, there := f.xattrs[name]; !there {
			return syscall.ENODATA
		}
		delete(f.xattrs, name)
		return nil
	}, func(i uint64) *raftpb.Command {
		return &raftpb.Command{Op: &raftpb.Command_RemoveXattr{RemoveXattr: &raftpb.RemoveXattr{Inode: i, Name: name}}}
	})
}

// changeXattr changes an attribute: of a local file by here, which is called with the file's mu, of any other by a commit.
func (m *mount) changeXattr(op string, i tree.Ino, name string, here func(*file) error, command func(uint64) *raftpb.Command) fuse.Status {
	_, err := m.gate.of(i)
	if err == nil {
		err = checkXattr(name)
	}
	if err == nil && strings.HasPrefix(name, ownXattrs) {
		err = syscall.EPERM
	}
	if err != nil {
		return m.status(op, uint64(i), err)
	}
	f := m.files.get(i)
	if f == nil {
		return m.status(op, uint64(i), m.propose(command(uint64(i))))
	}
	defer m.put(f)
	if !f.local() {
		err := m.propose(command(uint64(i)))
		if err != syscall.ENOENT {
			if err == nil {
				f.changeXattr(here) // for when its last committed name goes
			}
			return m.status(op, uint64(i), err)
		}
		f.lost()
	}
	return m.status(op, uint64(i), f.changeXattr(here))
}

func (f *file) changeXattr(here func(*file) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return here(f)
}
