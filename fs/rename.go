package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Rename implements fuse.RawFileSystem. While it is answered, the kernel holds up every other rename of the mount.
func (m *mount) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r := renaming{from: tree.Ino(in.NodeId), to: tree.Ino(in.Newdir), old: oldName, name: newName, flags: in.Flags}
	return m.status("rename", in.NodeId, m.rename(&r))
}

type renaming struct {
	from, to  tree.Ino
	old, name string
	flags     uint32
}

func (m *mount) rename(r *renaming) error {
	if r.flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return syscall.EINVAL
	}
	if isTop(r.from) || isTop(r.to) || isVirtual(r.from) || isVirtual(r.to) || isReserved(r.old) || isReserved(r.name) {
		return syscall.EPERM
	}
	if r.from.Account() != r.to.Account() {
		return syscall.EXDEV
	}
	a, err := m.gate.of(r.from)
	if err != nil {
		return err
	}
	role, err := m.gate.role(a, r.to)
	if err != nil {
		return err
	}
	if f := m.staged.get(r.from, r.old); f != nil {
		defer m.put(f)
		if err := m.checkPlaces(a, true, r.to); err != nil {
			return err
		}
		if role == tree.RoleTmp {
			return m.renameStaged(a, r)
		}
		return m.renameOut(f, r)
	}
	if role == tree.RoleTmp {
		if err := m.checkIntoTmp(a, r); err != nil {
			return err
		}
	}
	if err := m.checkMove(a, r.from, r.old, r.to); err != nil {
		return err
	}
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		if err := m.checkMove(a, r.to, r.name, r.from); err != nil {
			return err
		}
	}
	if de, err := a.view.Lookup(r.to, r.name); err == nil && m.staged.used(de.Ino) && r.flags == 0 {
		return syscall.ENOTEMPTY // a tmp/ with what only this mount knows of
	}
	return m.propose(&raftpb.Command{Op: &raftpb.Command_Rename{Rename: &raftpb.Rename{
		OldParent: uint64(r.from), OldName: []byte(r.old), NewParent: uint64(r.to), NewName: []byte(r.name),
		NoReplace: r.flags&unix.RENAME_NOREPLACE != 0, Exchange: r.flags&unix.RENAME_EXCHANGE != 0,
	}}})
}

// renameStaged renames within tmp/.
func (m *mount) renameStaged(a *account, r *renaming) error {
	exchange := r.flags&unix.RENAME_EXCHANGE != 0
	if _, err := a.view.Lookup(r.to, r.name); err == nil { // a sub-directory
		switch {
		case exchange:
			return syscall.EXDEV
		case r.flags&unix.RENAME_NOREPLACE != 0:
			return syscall.EEXIST
		}
		return syscall.EISDIR
	}
	if exchange {
		return m.staged.exchange(r.from, r.old, r.to, r.name)
	}
	replaced, err := m.staged.move(r.from, r.old, r.to, r.name, r.flags&unix.RENAME_NOREPLACE != 0)
	if replaced != nil {
		m.put(replaced)
	}
	return err
}

// renameOut renames out of tmp/: a delivery, if the file has not been linked before.
func (m *mount) renameOut(f *file, r *renaming) error {
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		if _, err := f.acct.view.Lookup(r.to, r.name); err != nil {
			return err
		}
		return syscall.EXDEV
	}
	f.io.Lock()
	if !f.local() {
		if de, err := f.acct.view.Lookup(r.to, r.name); err == nil && de.Ino == f.ino && r.flags&unix.RENAME_NOREPLACE == 0 {
			f.io.Unlock()
			return nil // rename(2): two names of one file: nothing happens
		}
	}
	_, err := m.commitName(f, r.to, r.name, r.flags&unix.RENAME_NOREPLACE == 0)
	f.io.Unlock()
	if err != nil {
		return err
	}
	if f, err := m.staged.remove(r.from, r.old); err == nil {
		m.put(f)
	}
	return nil
}

// checkIntoTmp refuses what the state machine, which knows nothing of staged names, would do wrong: a directory may go into a tmp/,
// but not over a staged file; nothing else may.
func (m *mount) checkIntoTmp(a *account, r *renaming) error {
	f := m.staged.get(r.to, r.name)
	if f == nil {
		return nil
	}
	defer m.put(f)
	de, err := a.view.Lookup(r.from, r.old)
	switch {
	case err != nil:
		return err
	case r.flags&unix.RENAME_NOREPLACE != 0:
		return syscall.EEXIST
	case r.flags&unix.RENAME_EXCHANGE != 0 || !de.Stat.IsDir():
		return syscall.EXDEV
	}
	return syscall.ENOTDIR
}
