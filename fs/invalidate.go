package fs

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore"
	"mailraft/raftstore/tree"
)

// notifier is what the kernel is told by: fuse.Server.
type notifier interface {
	InodeNotify(node uint64, off, length int64) fuse.Status
	EntryNotify(parent uint64, name string) fuse.Status
}

// invalidator tells the kernel what others have changed. It is told by the goroutines that apply, which must not wait: they count
// and queue. Its own goroutines, which hold no lock, notify. An account's changes go through one of them, in order.
//
// The kernel takes a directory's lock to invalidate a name, so a notification waits while a create or link of this mount is under
// way there; and that may be waiting for the goroutine that applies.
type invalidator struct {
	session uint64
	mount   *mount
	kernel  notifier
	queues  [4]queue
	done    sync.WaitGroup

	// Changes counted per account (some accounts share a count): by all sessions, and by others. They tell a handler that what it
	// read has changed before the kernel could have it.
	all, others [1024]atomic.Uint64

	doubted atomic.Int64 // until then (nanoseconds), changes of this session too are told to the kernel
}

// queue is what one goroutine is to do.
type queue struct {
	mu     sync.Mutex
	todo   []func(*invalidator)
	wake   chan struct{}
	closed bool
}

func newInvalidator(m *mount, session uint64) *invalidator {
	v := &invalidator{session: session, mount: m}
	for i := range v.queues {
		v.queues[i].wake = make(chan struct{}, 1)
	}
	return v
}

// start begins to notify. What was queued before is done then.
func (v *invalidator) start(kernel notifier) {
	v.kernel = kernel
	for i := range v.queues {
		v.done.Go(func() { v.run(&v.queues[i]) })
	}
}

// stop ends the goroutines, with what is still queued undone.
func (v *invalidator) stop() {
	for i := range v.queues {
		q := &v.queues[i]
		q.mu.Lock()
		q.closed = true
		q.mu.Unlock()
		q.signal()
	}
	v.done.Wait()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) add(do func(*invalidator)) {
	q.mu.Lock()
	q.todo = append(q.todo, do)
	q.mu.Unlock()
	q.signal()
}

func (v *invalidator) run(q *queue) {
	for range q.wake {
		for {
			q.mu.Lock()
			todo, closed := q.todo, q.closed
			q.todo = nil
			q.mu.Unlock()
			if closed {
				return
			}
			if len(todo) == 0 {
				break
			}
			for _, do := range todo {
				do(v)
			}
		}
	}
}

func (v *invalidator) queue(a tree.Account) *queue { return &v.queues[uint32(a)%uint32(len(v.queues))] }

func count(counts *[1024]atomic.Uint64, a tree.Account) *atomic.Uint64 {
	return &counts[uint32(a)%uint32(len(counts))]
}

// foreign counts the changes that other sessions made in the inode's account.
func (v *invalidator) foreign(i tree.Ino) uint64 { return count(&v.others, i.Account()).Load() }

// changes counts all changes in the inode's account.
func (v *invalidator) changes(i tree.Ino) uint64 { return count(&v.all, i.Account()).Load() }

// changed counts a change that any session made in the account.
func (v *invalidator) changed(a tree.Account) {
	count(&v.all, a).Add(1)
	v.mount.recent.changed(a)
}

// concerned tells whether the kernel, or this mount, may have anything of the account: of most accounts all but one mount have nothing.
// What is only now being looked up is not cached, as the change has been counted.
func (m *mount) concerned(a tree.Account) bool { return m.files.count.Load() > 0 || m.dirs.has(a) }

// doubt says that a proposal of this session got no answer. The kernel was told that it failed, but it may be applied yet.
func (v *invalidator) doubt() { v.doubted.Store(time.Now().Add(2 * time.Minute).UnixNano()) }

// applied takes note of what a command changed. It is called by the goroutine that applies.
func (v *invalidator) applied(ev *tree.Event) {
	if ev.Replaced || came(ev) {
		v.replaced(ev)
		return
	}
	v.changed(ev.Account)
	v.mount.notedNames(ev.Changes)
	v.mount.tmps.applied(ev.Changes)
	if ev.Session == v.session {
		if until := v.doubted.Load(); until == 0 || time.Now().UnixNano() > until {
			return // the kernel knows: it asked for it
		}
	}
	count(&v.others, ev.Account).Add(1)
	if len(ev.Changes) > 0 && v.mount.concerned(ev.Account) {
		changes := ev.Changes
		v.queue(ev.Account).add(func(v *invalidator) { v.notifyAll(changes) })
	}
}

// came tells whether an account is whole in its shard now. One that has been there before, and came back, may have been read where the directory
// here was ahead of the shard, which still had it as it was then: the kernel's copy may be older than what it had from the shard in between.
func came(ev *tree.Event) bool {
	return slices.ContainsFunc(ev.Changes, func(c tree.Change) bool { return c.Kind == tree.AccountAdded })
}

// listed takes note of a change of the directory: a domain or an account that came or went. What came needs no notification, as
// the kernel caches no misses.
func (v *invalidator) listed(ev raftstore.DirectoryEvent) {
	switch {
	case ev.Cluster:
		return
	case ev.Replaced:
		v.directoryReplaced()
		return
	}
	v.mount.gate.forget(tree.Account(ev.Account))
	v.countAll(0)
	parent, name := domainIno(ev.DomainID), ev.LocalPart
	if name == "" {
		parent, name = rootIno, ev.Domain
	}
	if ev.Removed {
		v.queue(tree.Account(ev.Account)).add(func(v *invalidator) { v.kernel.EntryNotify(uint64(parent), name) })
	}
}

// attributes has the kernel ask for an inode's attributes again.
func (v *invalidator) attributes(i tree.Ino) {
	v.queue(i.Account()).add(func(v *invalidator) { v.attrNotify(i) })
}

// entry has the kernel forget a name.
func (v *invalidator) entry(dir tree.Ino, name string) {
	v.queue(dir.Account()).add(func(v *invalidator) { v.kernel.EntryNotify(uint64(dir), name) })
}

// pages has the kernel drop an inode's pages, if it may have any.
func (v *invalidator) pages(i tree.Ino) {
	if v.mount.cached.get(i) != 0 {
		v.content(i)
	}
}

// content has the kernel drop an inode's pages and attributes.
func (v *invalidator) content(i tree.Ino) {
	v.queue(i.Account()).add(func(v *invalidator) { v.contentNotify(i) })
}

func (v *invalidator) contentNotify(i tree.Ino) { v.kernel.InodeNotify(uint64(i), 0, 0) }

func (v *invalidator) attrNotify(i tree.Ino) { v.kernel.InodeNotify(uint64(i), -1, 0) }

// notifyAll is called with no lock held. Most answers are ENOENT: the kernel never asked for what changed.
func (v *invalidator) notifyAll(changes []tree.Change) {
	for _, c := range changes {
		switch c.Kind {
		case tree.EntryAdded:
			v.attrNotify(c.Parent)
			v.attrNotify(c.Ino)
		case tree.EntryRemoved:
			v.kernel.EntryNotify(uint64(c.Parent), c.Name)
			v.attrNotify(c.Parent)
			v.attrNotify(c.Ino)
			if c.Dir {
				v.mount.directoryRemoved(c.Ino)
			}
		case tree.ContentChanged:
			v.mount.contentChanged(c.Ino)
			v.contentNotify(c.Ino)
		case tree.ContentResealed: // what the kernel has of it is right
			v.mount.contentChanged(c.Ino)
		case tree.AttrChanged:
			v.attrNotify(c.Ino)
		case tree.AccountRemoved:
			v.mount.dropStaged(func(dir tree.Ino, _ *file) bool { return dir.Account() == c.Ino.Account() })
			v.contentNotify(c.Ino)
		}
	}
}

// directoryRemoved gives up what was staged in a tmp/ that another session has removed, or moved: a name that was moved is there again
// under its parent.
func (m *mount) directoryRemoved(dir tree.Ino) {
	if !m.staged.used(dir) {
		return
	}
	a, err := m.gate.of(dir)
	if err == nil {
		_, err = a.view.Inode(dir)
	}
	if !isGone(err) { // it is there, or that cannot be told now: what was staged is not given up for that
		return
	}
	m.dropStaged(func(d tree.Ino, _ *file) bool { return d == dir })
}

// contentChanged has an open file show what another session wrote, unless it was written to here as well: then the last to commit
// wins.
func (m *mount) contentChanged(i tree.Ino) {
	f := m.files.get(i)
	if f == nil {
		return
	}
	defer m.put(f)
	f.io.Lock()
	defer f.io.Unlock()
	if f.local() {
		return
	}
	if err := m.refresh(f); err != nil {
		m.status("refresh", uint64(i), err)
	}
}
