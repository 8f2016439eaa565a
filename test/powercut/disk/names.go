package disk

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// inode is a file, a directory or a symbolic link.
type inode struct {
	number              uint64
	mode                uint32
	uid, gid            uint32
	links               uint32
	atime, mtime, ctime time.Time
	data                data   // of a file
	target              string // of a symbolic link
	seen                map[string]*inode
	stored              map[string]*inode // of a directory: the names on the disk
}

func (n *inode) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

func (n *inode) size() int64 {
	if n.mode&syscall.S_IFMT == syscall.S_IFLNK {
		return int64(len(n.target))
	}
	return n.data.seen.size
}

// edit gives a name in a directory to an inode, or to none.
type edit struct {
	dir  *inode
	name string
	to   *inode
}

// change is what one system call did to names. It comes to the disk whole or not at all.
type change []edit

func (c change) touches(dirs map[*inode]bool) bool {
	return slices.ContainsFunc(c, func(e edit) bool { return dirs[e.dir] })
}

// Disk is the file system with what of it is on the disk. Its methods are safe for concurrent use.
type Disk struct {
	mu      sync.Mutex
	root    *inode
	last    uint64
	pending []change // changes of names that are not on the disk, oldest first
	syncs   int
}

// New makes an empty disk.
func New() *Disk {
	k := &Disk{}
	k.root = k.newInode(syscall.S_IFDIR|0o755, 0, 0)
	k.root.links = 2
	return k
}

func (k *Disk) newInode(mode, uid, gid uint32) *inode {
	k.last++
	now := time.Now()
	n := &inode{number: k.last, mode: mode, uid: uid, gid: gid, atime: now, mtime: now, ctime: now}
	if n.isDir() {
		n.seen, n.stored = map[string]*inode{}, map[string]*inode{}
	}
	return n
}

// apply makes a change visible, not more.
func (k *Disk) apply(c change) {
	now := time.Now()
	for _, e := range c {
		if was := e.dir.seen[e.name]; was != nil {
			was.unlinked(e.dir, now)
		}
	}
	for _, e := range c {
		if e.to == nil {
			delete(e.dir.seen, e.name)
		} else {
			e.dir.seen[e.name] = e.to
			e.to.linked(e.dir, now)
		}
		e.dir.mtime, e.dir.ctime = now, now
	}
	k.pending = append(k.pending, c)
}

func (n *inode) linked(dir *inode, now time.Time) {
	n.ctime = now
	n.links++
	if n.isDir() {
		n.links = 2
		for _, c := range n.seen {
			if c.isDir() {
				n.links++
			}
		}
		dir.links++
	}
}

func (n *inode) unlinked(dir *inode, now time.Time) {
	n.ctime = now
	n.links--
	if n.isDir() {
		n.links = 0
		dir.links--
	}
}

// syncDir puts the changes of a directory's names on the disk, and those that they rest on.
func (k *Disk) syncDir(dir *inode) {
	k.settle(map[*inode]bool{dir: true}, len(k.pending)-1)
}

// settle puts on the disk what touches the directories, of the pending changes up to the one at last. A change that touches
// another directory as well takes that one's earlier changes with it.
func (k *Disk) settle(dirs map[*inode]bool, last int) {
	take := make([]bool, len(k.pending))
	for i := last; i >= 0; i-- {
		if k.pending[i].touches(dirs) {
			take[i] = true
			for _, e := range k.pending[i] {
				dirs[e.dir] = true
			}
		}
	}
	rest := k.pending[:0]
	for i, c := range k.pending {
		if !take[i] {
			rest = append(rest, c)
			continue
		}
		for _, e := range c {
			if e.to == nil {
				delete(e.dir.stored, e.name)
			} else {
				e.dir.stored[e.name] = e.to
			}
		}
	}
	clear(k.pending[len(rest):])
	k.pending = rest
}

// lose is the power cut. With tear, a part of what was not synced comes through.
func (k *Disk) lose(tear *rand.Rand) {
	if tear != nil {
		for i := 0; i < len(k.pending); {
			if tear.IntN(2) == 0 {
				i++
				continue
			}
			before := len(k.pending)
			dirs := map[*inode]bool{}
			for _, e := range k.pending[i] {
				dirs[e.dir] = true
			}
			k.settle(dirs, i)
			i -= before - len(k.pending) - 1 // the changes settled stood at i and before it
		}
	}
	k.pending = nil
	found := map[*inode]bool{}
	k.revert(k.root, tear, found)
	k.root.links++
}

// revert makes what is on the disk what is seen, in dir and below it.
func (k *Disk) revert(dir *inode, tear *rand.Rand, found map[*inode]bool) {
	dir.links = 1 // "."; the caller adds the name
	dir.seen = maps.Clone(dir.stored)
	for _, name := range slices.Sorted(maps.Keys(dir.seen)) {
		n := dir.seen[name]
		switch {
		case n.isDir():
			k.revert(n, tear, found)
			dir.links++
		case !found[n]:
			n.links = 0
			n.data.lose(tear)
		}
		found[n] = true
		n.links++
	}
}
