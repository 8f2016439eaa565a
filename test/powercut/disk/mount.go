package disk

import (
	"log"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount is a disk with its power on, mounted somewhere.
type Mount struct {
	fuse.RawFileSystem
	disk   *Disk
	server *fuse.Server
	path   string

	// guarded by disk.mu
	nodes   map[uint64]*node
	handles map[uint64]*handle
	handle  uint64 // the last one given

	left   int           // syncs until struck, 0: it is not awaited
	at     func()        // what happens then
	struck chan struct{} // closed when it has happened

	off  bool          // guarded by disk.mu: the power was cut
	gone chan struct{} // closed when those who still wait get their error
	once sync.Once
}

// node is an inode that the kernel knows.
type node struct {
	*inode
	lookups uint64
}

// handle is an open file or directory.
type handle struct {
	*inode
	names []string // of a directory, as it was when it was opened
	sync  bool     // opened with O_SYNC or O_DSYNC
}

// valid is how long the kernel may believe what it was told: nobody else changes the disk.
const valid = time.Hour

// Mount mounts the disk. Called with no locks held; one mount at a time.
func (k *Disk) Mount(path string) (*Mount, error) {
	m := &Mount{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		disk:          k,
		path:          path,
		nodes:         map[uint64]*node{fuse.FUSE_ROOT_ID: {inode: k.root, lookups: 1}},
		handles:       map[uint64]*handle{},
		struck:        make(chan struct{}),
		gone:          make(chan struct{}),
	}
	server, err := fuse.NewServer(m, path, &fuse.MountOptions{
		AllowOther: true, DirectMount: true, DisableXAttrs: true, FsName: "powercut", Name: "powercut", MaxWrite: 1 << 20,
		Logger: log.Default(),
	})
	if err != nil {
		return nil, err
	}
	m.server = server
	go server.Serve()
	return m, server.WaitMount()
}

// Cut cuts the power: from now on no request is answered, and what was not synced is lost, but for what tear draws to survive.
// A nil tear loses all of it. Kill those who use the mount, then call Close.
func (m *Mount) Cut(tear *rand.Rand) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.off = true
	m.disk.lose(tear)
}

// AtSync has the power cut, as Cut does, when the n-th sync from now is asked for, and before it is done. When cut is false the
// disk hangs from there on, but loses nothing: whoever uses it can be killed there. The channel is closed when that is so.
func (m *Mount) AtSync(n int, cut bool, tear *rand.Rand) <-chan struct{} {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.left, m.at = n, func() {
		if cut {
			m.disk.lose(tear)
		}
	}
	return m.struck
}

// Syncs is how many syncs there have been.
func (k *Disk) Syncs() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.syncs
}

// Close unmounts, after a cut or without one. Without one, nothing is lost. Files still open are dead.
func (m *Mount) Close() error {
	m.once.Do(func() { close(m.gone) })
	if err := syscall.Unmount(m.path, syscall.MNT_FORCE|syscall.MNT_DETACH); err != nil {
		return err
	}
	m.server.Wait()
	return nil
}

// begin locks the disk for one request. False: the power is off, and the request hangs until Close.
func (m *Mount) begin() bool {
	m.disk.mu.Lock()
	if !m.off {
		return true
	}
	m.disk.mu.Unlock()
	<-m.gone
	return false
}

// beginSync is begin for a request that syncs.
func (m *Mount) beginSync() bool {
	if !m.begin() {
		return false
	}
	m.disk.syncs++
	if m.left > 0 {
		if m.left--; m.left == 0 {
			m.off = true
			m.at()
			close(m.struck)
			m.end()
			<-m.gone
			return false
		}
	}
	return true
}

func (m *Mount) end() { m.disk.mu.Unlock() }

// show has the kernel know the inode.
func (m *Mount) show(n *inode, out *fuse.EntryOut) {
	known := m.nodes[n.number]
	if known == nil {
		known = &node{inode: n}
		m.nodes[n.number] = known
	}
	known.lookups++
	out.NodeId = n.number
	out.SetEntryTimeout(valid)
	out.SetAttrTimeout(valid)
	n.attr(&out.Attr)
}

func (n *inode) attr(out *fuse.Attr) {
	out.Ino = n.number
	out.Mode = n.mode
	out.Nlink = max(n.links, 1)
	out.Uid, out.Gid = n.uid, n.gid
	out.Size = uint64(n.size())
	out.Blocks = (out.Size + sectorSize - 1) / sectorSize
	out.Blksize = blockSize
	out.SetTimes(&n.atime, &n.mtime, &n.ctime)
}

// Lookup implements fuse.RawFileSystem, as all that follows in this package.
func (m *Mount) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	n := m.nodes[h.NodeId].seen[name]
	if n == nil {
		return fuse.ENOENT
	}
	m.show(n, out)
	return fuse.OK
}

func (m *Mount) Forget(id, lookups uint64) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if n := m.nodes[id]; n != nil && id != fuse.FUSE_ROOT_ID {
		if n.lookups -= lookups; n.lookups == 0 {
			delete(m.nodes, id)
		}
	}
}

func (m *Mount) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	m.nodes[in.NodeId].attr(&out.Attr)
	out.SetTimeout(valid)
	return fuse.OK
}

func (m *Mount) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !m.begin() {
		return fuse.EIO
	}
	defer m.end()
	n := m.nodes[in.NodeId].inode
	n.ctime = time.Now()
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode&0o7777
	}
	if uid, ok := in.GetUID(); ok {
		n.uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		n.gid = gid
	}
	if size, ok := in.GetSize(); ok {
		n.data.resize(int64(size))
		n.mtime = n.ctime
	}
	if t, ok := in.GetATime(); ok {
		n.atime = t
	}
	if t, ok := in.GetMTime(); ok {
		n.mtime = t
	}
	n.attr(&out.Attr)
	out.SetTimeout(valid)
	return fuse.OK
}

func (m *Mount) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const size = 64 << 30 / blockSize
	*out = fuse.StatfsOut{Blocks: size, Bfree: size, Bavail: size, Files: 1 << 20, Ffree: 1 << 20, Bsize: blockSize, Frsize: blockSize, NameLen: 255}
	return fuse.OK
}
