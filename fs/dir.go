package fs

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/tree"
)

// openDir is a directory as one opendir(3) has it: "." and "..", then what is not the tree's, then the tree's entries.
type openDir struct {
	ino, parent tree.Ino
	acct        *account // nil: the root, or a domain
	top         *topReader
	stat        tree.Stat // when it was opened

	mu     sync.Mutex
	names  []stagedName // of the root, or staged
	reader tree.DirReader
	mark   uint64 // the account's changes when reader was opened
	unread bool   // it has to be read from its beginning
	pos    uint64 // number of the next entry
	ahead  bool   // next has been read, but not been given out
	next   listed
}

// listed is one entry of a listing.
type listed struct {
	de   tree.DirEntry
	tree bool // from the tree, with its status; else only name, number and type are known
}

// OpenDir implements fuse.RawFileSystem. A listing shows everything that was acknowledged before: it is read when it is asked for
// its beginning, since that is all that is heard of rewinddir(3).
func (m *mount) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	d := &openDir{ino: tree.Ino(in.NodeId), unread: true}
	var err error
	if isVirtual(d.ino) {
		err = syscall.ENOTDIR
	} else {
		d.stat, err = m.statInode(d.ino)
	}
	if err != nil {
		return m.status("opendir", in.NodeId, err)
	}
	m.removed.open(d)
	out.Fh = m.handles.add(&handle{dir: d})
	return fuse.OK
}

// openDir reads the directory from its beginning, as it is now. Called with mu.
func (m *mount) openDir(d *openDir) (err error) {
	d.close()
	d.unread, d.pos, d.ahead, d.parent = true, 0, false, rootIno
	if isTop(d.ino) {
		return m.openTop(d)
	}
	if d.acct, err = m.gate.of(d.ino); err != nil {
		return err
	}
	view, err := d.acct.home.ReadIndex(m.time.context())
	if err != nil {
		return err
	}
	in, err := view.Inode(d.ino)
	if err != nil {
		return err
	}
	if len(in.Links) > 0 {
		d.parent = in.Links[0].Parent
	}
	d.names = nil
	if in.Role == tree.RoleTmp {
		d.names = m.staged.list(d.ino)
	}
	d.mark = m.inval.changes(d.ino)
	d.reader, err = view.OpenDir(d.ino)
	return err
}

func (d *openDir) close() {
	if d.reader != nil {
		d.reader.Close()
		d.reader = nil
	}
}

// peek reads the entry at pos; false at the end. Called with mu.
func (d *openDir) peek() (*listed, bool, error) {
	if d.ahead {
		return &d.next, true, nil
	}
	n := d.pos
	switch {
	case n == 0:
		d.next = listed{de: tree.DirEntry{Name: ".", Ino: d.ino, Stat: tree.Stat{Mode: syscall.S_IFDIR}}}
	case n == 1:
		d.next = listed{de: tree.DirEntry{Name: "..", Ino: d.parent, Stat: tree.Stat{Mode: syscall.S_IFDIR}}}
	case n-2 < uint64(len(d.names)):
		s := d.names[n-2]
		d.next = listed{de: tree.DirEntry{Name: s.name, Ino: s.ino, Stat: tree.Stat{Mode: s.mode}}}
	case d.top != nil:
		de, ok, err := d.top.next()
		if !ok {
			return nil, false, err
		}
		d.next = listed{de: de}
	case d.reader != nil:
		de, ok := d.reader.Next()
		if !ok {
			return nil, false, d.reader.Err()
		}
		d.next = listed{de, true}
	default:
		return nil, false, nil
	}
	d.ahead = true
	return &d.next, true, nil
}

func (d *openDir) advance() { d.pos, d.ahead = d.pos+1, false }

// seek goes to entry number off: on is what readdir does; to the beginning reads the directory anew (opendir(3), rewinddir(3));
// anything else (seekdir(3)) counts through the same state again. Called with mu.
func (m *mount) seek(d *openDir, off uint64) error {
	if off == 0 || d.unread {
		if err := m.openDir(d); err != nil {
			return err
		}
		d.unread = false
	}
	if off < d.pos {
		d.pos, d.ahead = 0, false
		if d.reader != nil {
			d.reader.SeekAfter("")
		}
		if d.top != nil {
			d.top.rewind()
		}
	}
	for d.pos < off {
		if _, ok, err := d.peek(); !ok {
			return err
		}
		d.advance()
	}
	return nil
}

// ReadDir implements fuse.RawFileSystem.
func (m *mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.list(in, func(e *listed, off uint64) bool {
		return out.AddDirEntry(fuse.DirEntry{Name: e.de.Name, Ino: uint64(e.de.Ino), Mode: e.de.Stat.Mode, Off: off})
	})
}

// ReadDirPlus implements fuse.RawFileSystem: a listing with the status of each entry, as if it had been looked up.
func (m *mount) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil || h.dir == nil {
		return fuse.EBADF
	}
	d := h.dir
	mark := m.inval.changes(d.ino)
	var given []*fuse.EntryOut
	code := m.list(in, func(e *listed, off uint64) bool {
		entry := out.AddDirLookupEntry(fuse.DirEntry{Name: e.de.Name, Ino: uint64(e.de.Ino), Mode: e.de.Stat.Mode, Off: off})
		if entry == nil {
			return false
		}
		if !e.tree {
			return true // node 0: the kernel looks it up when somebody asks
		}
		de := e.de
		if mark != d.mark {
			// Something of the account has changed since the listing began: what it shows may be gone, or other.
			now, err := d.acct.view.Lookup(d.ino, de.Name)
			if err != nil || now.Ino != de.Ino {
				return true
			}
			de = now
		}
		m.fillDirEntry(d.ino, &de, entry)
		given = append(given, entry)
		return true
	})
	if m.inval.changes(d.ino) != mark || m.dirs.isDetached(d.ino) {
		for _, entry := range given {
			uncached(entry)
		}
	}
	return code
}

// list gives out entries from an offset on, until add has no more room.
func (m *mount) list(in *fuse.ReadIn, add func(e *listed, off uint64) bool) fuse.Status {
	h := m.handles.get(in.Fh)
	if h == nil || h.dir == nil {
		return fuse.EBADF
	}
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := m.seek(d, in.Offset); err != nil {
		return m.status("readdir", in.NodeId, err)
	}
	for {
		e, ok, err := d.peek()
		if err != nil {
			return m.status("readdir", in.NodeId, err)
		}
		if !ok || !add(e, d.pos+1) {
			return fuse.OK
		}
		d.advance()
	}
}

// ReleaseDir implements fuse.RawFileSystem.
func (m *mount) ReleaseDir(in *fuse.ReleaseIn) {
	if h := m.closed(in.Fh); h != nil && h.dir != nil {
		m.removed.close(h.dir)
		h.dir.mu.Lock()
		defer h.dir.mu.Unlock()
		h.dir.close()
	}
}

// FsyncDir implements fuse.RawFileSystem: every change of a directory was a commit.
func (m *mount) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status { return fuse.OK }
