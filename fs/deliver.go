package fs

import (
	"errors"
	"maps"
	"syscall"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// commitName gives a file that has names in a tmp/ a name outside of it: of a local file this is the delivery, one commit with
// the sealed content in it; of one that was committed before, a link. replace is rename's semantics. It answers the file's status.
// Called with io.
func (m *mount) commitName(f *file, parent tree.Ino, name string, replace bool) (tree.Stat, error) {
	delivered, err := m.deliverOrLink(f, parent, name, replace)
	if err != nil {
		return tree.Stat{}, err
	}
	if !delivered {
		return f.status()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.stat // as the commit made it: the store need not be asked
	st.Nlink += f.names
	return st, nil
}

func (m *mount) deliverOrLink(f *file, parent tree.Ino, name string, replace bool) (delivered bool, err error) {
	if f.uncertain {
		if err := m.settleDoubt(f); err != nil {
			return false, err
		}
	}
	if !f.local() {
		err := m.linkCommitted(f, parent, name, replace)
		if err != syscall.ENOENT {
			return false, err
		}
		// Its last committed name may have gone meanwhile: then it is delivered anew.
		if _, gone := f.acct.view.Inode(f.ino); gone != syscall.ENOENT {
			return false, err
		}
		f.lost()
	}
	return true, m.deliver(f, parent, name, replace)
}

// linkCommitted adds a name to a committed file. It cannot replace another file by it in one commit: EXDEV.
func (m *mount) linkCommitted(f *file, parent tree.Ino, name string, replace bool) error {
	if replace {
		switch de, err := f.acct.view.Lookup(parent, name); {
		case err == nil && de.Ino == f.ino: // it has the name already: rename(2) does nothing
			return nil
		case err == nil:
			return syscall.EXDEV
		}
	}
	return m.propose(&raftpb.Command{Op: &raftpb.Command_Link{Link: &raftpb.Link{
		Inode: uint64(f.ino), Parent: uint64(parent), Name: []byte(name),
	}}})
}

// settleDoubt finds out whether a delivery that got no answer was committed after all. Called with io.
func (m *mount) settleDoubt(f *file) error {
	view, err := f.acct.home.Barrier(m.time.context())
	if err != nil {
		return err
	}
	in, err := view.Inode(f.ino)
	switch err {
	case nil:
		f.mu.Lock()
		f.committed = true
		st := f.stat
		f.mu.Unlock()
		if err := m.settleContent(f, in, &st); err != nil {
			return err
		}
	case syscall.ENOENT:
	default:
		return err
	}
	f.uncertain = false
	return nil
}

// settleContent has a file whose delivery was committed after all hold what is committed, and commits what was written since. st is
// the file's status with that. Called with io.
func (m *mount) settleContent(f *file, in *tree.Inode, st *tree.Stat) error {
	switch c := f.sealed; {
	case c == nil:
	case c.id.Local() == in.Content:
		m.sealedCommitted(f)
	case in.Key > c.key && in.Size == c.size: // it was, and has been sealed to another key since
		m.area.Release(c.room)
		f.sealed = nil
		if _, err := f.reread(); err != nil {
			return err
		}
	case !f.isDirty():
		return m.commitSealed(f, st)
	}
	return m.flush(f)
}

// deliver gives a local file its first committed name. Called with io.
func (m *mount) deliver(f *file, parent tree.Ino, name string, replace bool) error {
	err := m.create(f, parent, name, replace)
	if err == syscall.EKEYREVOKED {
		if err = m.sealAgain(f); err == nil {
			err = m.create(f, parent, name, replace)
		}
	}
	if c := f.sealed; err == syscall.EINVAL && c != nil && c.pieces && f.buf != nil {
		// The shard may have reaped the pieces, if they were sent long ago: they are sent again.
		m.discard(f)
		err = m.create(f, parent, name, replace)
	}
	return err
}

// create proposes a delivery. Called with io.
func (m *mount) create(f *file, parent tree.Ino, name string, replace bool) error {
	cmd := &raftpb.Create{Parent: uint64(parent), Name: []byte(name), Inode: uint64(f.ino), Replace: replace}
	f.mu.Lock()
	regular := f.stat.IsRegular()
	f.mu.Unlock()
	if regular {
		if err := m.seal(f); err != nil {
			return err
		}
		cmd.Content = f.sealed.command()
	}
	f.mu.Lock()
	cmd.Mode, cmd.Uid, cmd.Gid, cmd.Mtime = f.stat.Mode, f.stat.UID, f.stat.GID, f.stat.Mtime
	cmd.Target, cmd.Xattrs = []byte(f.target), maps.Clone(f.xattrs)
	f.mu.Unlock()
	proposal := &raftpb.Command{Op: &raftpb.Command_Create{Create: cmd}}
	if err := m.propose(proposal); err != nil {
		var errno syscall.Errno
		f.uncertain = !errors.As(err, &errno) || errno == syscall.ETIMEDOUT || errno == syscall.EIO
		return err
	}
	f.mu.Lock()
	f.committed, f.gone = true, false
	f.stat.Nlink, f.stat.Ctime, f.stat.Atime = 1, proposal.Now, proposal.Now
	f.mu.Unlock()
	if !regular {
		return nil
	}
	m.sealedCommitted(f)
	m.settle(f)
	return nil
}

// settle gives plaintext back when nobody has the file open and its content is sealed. Called with io.
func (m *mount) settle(f *file) {
	f.mu.Lock()
	idle := f.handles == 0 && !f.dirty
	f.mu.Unlock()
	if idle && f.isSealed() {
		f.closeBuffer()
		f.closeReader()
	}
}
