package fs

import (
	"sync"

	"mailraft/raftstore/tree"
)

// cachedPages knows the inodes of which the kernel may have pages: those that were opened for reading. It forgets them when they
// are dropped, by the kernel or by a lock.
type cachedPages struct {
	mu       sync.Mutex // held for a map operation
	accounts map[tree.Account]map[tree.Ino]struct{}
}

func (c *cachedPages) add(i tree.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.accounts[i.Account()]
	if set == nil {
		set = map[tree.Ino]struct{}{}
		c.accounts[i.Account()] = set
	}
	set[i] = struct{}{}
}

func (c *cachedPages) forget(i tree.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.accounts[i.Account()]
	delete(set, i)
	if len(set) == 0 {
		delete(c.accounts, i.Account())
	}
}

func (c *cachedPages) take(a tree.Account) map[tree.Ino]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.accounts[a]
	delete(c.accounts, a)
	return set
}

// lock drops the plaintext of an account that was locked: what open files hold of it, and the kernel's pages. It is called by the
// keyring, with no lock held, and returns when it is done.
func (m *mount) lock(number uint64) {
	a := tree.Account(number)
	if !m.serving.Load() {
		return
	}
	m.files.each(func(f *file) {
		if f.acct.number == a {
			m.lockFile(f)
		}
	}, m.put)
	for i := range m.cached.take(a) {
		m.inval.kernel.InodeNotify(uint64(i), 0, 0)
		if f := m.files.get(i); f != nil {
			m.cached.add(i) // it is open: after an unlock its pages come again
			m.put(f)
		}
	}
}

// lockFile drops the plaintext that is sealed as well. What is not sealed yet stays until it is.
func (m *mount) lockFile(f *file) {
	f.io.Lock()
	defer f.io.Unlock()
	f.closeReader()
	if !f.isDirty() && f.pin != nil {
		f.closeBuffer()
	}
}
