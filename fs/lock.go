package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/tree"
)

// cachedPages knows the inodes of which the kernel may have pages: those that were opened for reading, as long as the kernel knows
// them.
type cachedPages struct {
	mu       sync.Mutex                           // held for a map operation
	opened   uint64                               // calls of add
	accounts map[tree.Account]map[tree.Ino]uint64 // what opened was when the inode was opened last
}

func (c *cachedPages) add(i tree.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.accounts[i.Account()]
	if set == nil {
		set = map[tree.Ino]uint64{}
		c.accounts[i.Account()] = set
	}
	c.opened++
	set[i] = c.opened
}

// get tells when the inode was opened last; 0: the kernel has no pages of it.
func (c *cachedPages) get(i tree.Ino) (opened uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accounts[i.Account()][i]
}

// forget takes the inode out, unless it was opened since.
func (c *cachedPages) forget(i tree.Ino, opened uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.accounts[i.Account()]
	if set[i] != opened {
		return
	}
	delete(set, i)
	if len(set) == 0 {
		delete(c.accounts, i.Account())
	}
}

func (c *cachedPages) list(a tree.Account) []tree.Ino {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]tree.Ino, 0, len(c.accounts[a]))
	for i := range c.accounts[a] {
		list = append(list, i)
	}
	return list
}

// forgotten takes note that the kernel has forgotten an inode. It may know it again, as requests that came later may have been answered
// by now: whether it does, it says when its pages are to be dropped.
func (m *mount) forgotten(i tree.Ino) {
	opened := m.cached.get(i)
	if opened == 0 {
		return
	}
	m.inval.queue(i.Account()).add(func(v *invalidator) {
		if v.kernel.InodeNotify(uint64(i), 0, 0) == fuse.ENOENT {
			m.cached.forget(i, opened)
		}
	})
}

// lock drops the plaintext of an account that was locked: the kernel's pages, and what open files hold of it. It is called by the
// keyring, with no lock held, and returns when it is done. The pages go first, as a file may be kept from it by a commit under way.
// They do not come again: from now on reading is refused.
func (m *mount) lock(number uint64) {
	a := tree.Account(number)
	if !m.serving.Load() {
		return
	}
	for _, i := range m.cached.list(a) {
		m.inval.contentNotify(i)
	}
	m.files.each(func(f *file) {
		if f.acct.number == a {
			m.lockFile(f)
		}
	}, m.put)
}

// lockFile drops the plaintext that is sealed as well. What is not sealed yet stays until it is.
func (m *mount) lockFile(f *file) {
	f.io.Lock()
	defer f.io.Unlock()
	f.closeReader()
	if !f.isDirty() && f.isSealed() {
		f.closeBuffer()
	}
}
