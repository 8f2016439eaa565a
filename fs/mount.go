package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mailraft/fs/seal"
	"mailraft/fs/staging"
	"mailraft/raftstore"
	"mailraft/raftstore/tree"
)

// Keys is the keyring as the mount needs it; keyring.Keyring is one.
type Keys interface {
	Identity(account uint64) (seal.Identity, bool)
	Readable(account uint64, uid uint32) (unlocked, readable bool)
	Identities(account uint64) []seal.Identity
	OnLock(f func(account uint64))
	Use(account uint64)
	AskUse(f func())
}

// Config of a mount. All fields but Shard and Beside and the last three must be set.
type Config struct {
	Mountpoint string // an empty directory
	Store      *raftstore.Store
	Keys       Keys
	Staging    *staging.Area
	UID, GID   uint32 // the mail user, whose everything is that root makes in an account's tree

	// Shard is the number of the shard whose accounts alone the mount lists; 0: it lists all.
	Shard uint32
	// Beside is another mount of the same store and keys, which this one shares what it knows of accounts and opened files with, so that
	// the bounds of those tables hold for all mounts together; nil: it has tables of its own.
	Beside *FS

	// Statfs answers the room on the data folder's disk; nil: of the root file system's.
	Statfs func() (syscall.Statfs_t, error)
	// Timeout is how long a request waits for a shard before it is answered ETIMEDOUT or EIO, about; 0: 10 s.
	Timeout time.Duration
	Logger  *slog.Logger // nil: slog.Default
}

// FS is a mount that is served.
type FS struct {
	mount  *mount
	server *fuse.Server
	path   string
	ended  chan struct{}
}

// mount answers the kernel's requests. Its methods that are not fuse.RawFileSystem's return errors that errnoOf knows.
type mount struct {
	fuse.RawFileSystem
	cfg      Config
	log      *slog.Logger
	store    *raftstore.Store
	area     *staging.Area
	proposer *raftstore.Proposer
	gate     *gate
	time     *deadlines
	files    *files
	staged   *staged
	indexes  *indexes
	handles  handles
	cached   cachedPages
	recent   *recentFiles
	removed  openDirs
	tmps     tmpDirs
	dirs     knownDirs
	places   *places
	inval    *invalidator
	since    int64 // nanoseconds: when it was mounted

	unsubscribe []func() // from the store's events
	serving     atomic.Bool
	background  sync.WaitGroup
}

// Mount mounts the store and serves it until Unmount, or until somebody else unmounts it. A dead mount that a crash left on the
// mountpoint is taken away first. Errors: ErrMountpoint, and mount(2)'s.
func Mount(cfg Config) (*FS, error) {
	if cfg.Statfs == nil {
		cfg.Statfs = func() (st syscall.Statfs_t, err error) { return st, syscall.Statfs("/", &st) }
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	path, err := clearMountpoint(cfg.Mountpoint)
	if err != nil {
		return nil, err
	}
	m := newMount(cfg)
	source := "mailraft"
	if cfg.Shard != 0 {
		source = fmt.Sprint("mailraft-shard-", cfg.Shard)
	}
	server, err := fuse.NewServer(m, path, &fuse.MountOptions{
		FsName: source, Name: "mailraft",
		AllowOther: true, DirectMountStrict: true,
		DisableSplice: true, // through a pipe, what is in memory is copied all the same, with one more system call
		Options:       []string{"default_permissions"},
		MaxBackground: 64,
		Logger:        slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		// The kernel drops pages when it is told to, and not because a status looks other.
		ExplicitDataCacheControl: true,
		ExtraCapabilities:        fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_DIRECT_IO_ALLOW_MMAP,
	})
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", path, err)
	}
	if err := keepDevices(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", path, err), unix.Unmount(path, unix.MNT_DETACH))
	}
	fs := &FS{mount: m, server: server, path: path, ended: make(chan struct{})}
	m.inval.start(server)
	m.serving.Store(true)
	m.unsubscribe = []func(){cfg.Store.Subscribe(m.inval.applied), cfg.Store.Directory().Subscribe(m.inval.listed)}
	cfg.Keys.OnLock(m.lock)
	if err := m.tellUse(path); err != nil {
		cfg.Logger.Warn("processes that are in a folder of an account do not count as its users", "mount", path, "error", err)
	}
	stop := make(chan struct{})
	m.background.Go(func() { m.sweepStaged(stop) })
	go func() {
		defer close(fs.ended)
		server.Serve()
		m.serving.Store(false)
		close(stop)
		for _, cancel := range m.unsubscribe {
			cancel()
		}
		m.inval.stop()
		m.background.Wait()
		m.end()
		m.background.Wait() // for the contents that end gave up
	}()
	if err := server.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", path, err), fs.Unmount())
	}
	return fs, nil
}

func newMount(cfg Config) *mount {
	m := &mount{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		cfg:           cfg, log: cfg.Logger, store: cfg.Store, area: cfg.Staging,
		proposer: cfg.Store.NewProposer(),
		gate:     newGate(cfg.Store, cfg.Keys),
		time:     &deadlines{limit: cfg.Timeout},
		files:    newFiles(),
		recent:   newRecentFiles(),
		places:   newPlaces(),
		since:    time.Now().UnixNano(),
	}
	if cfg.Beside != nil {
		m.gate, m.recent, m.places = cfg.Beside.mount.gate, cfg.Beside.mount.recent, cfg.Beside.mount.places
	}
	m.staged = newStaged(m.files)
	m.indexes = newIndexes(m.gate)
	m.cached.accounts = map[tree.Account]map[tree.Ino]uint64{}
	m.removed.m = map[tree.Ino]*countedDir{}
	m.tmps.m = map[tree.Ino]*tree.Inode{}
	m.dirs.accounts = map[tree.Account]map[tree.Ino]*knownDir{}
	m.inval = newInvalidator(m, m.proposer.Session())
	return m
}

// String implements fuse.RawFileSystem.
func (m *mount) String() string { return "mailraft" }

// Path is the mountpoint's absolute path.
func (fs *FS) Path() string { return fs.path }

// Ended is closed when the mount is served no more, whoever unmounted it, and nothing of it uses the store any more.
func (fs *FS) Ended() <-chan struct{} { return fs.ended }

// Unmount ends the mount. If it is in use, what open files hold is committed, and the mount is taken away from under its users, who
// get errors. It returns when nothing uses the store any more.
func (fs *FS) Unmount() error {
	select {
	case <-fs.ended:
		return nil
	default:
	}
	err := fs.server.Unmount()
	if err != nil {
		fs.mount.commitAll()
		err = unix.Unmount(fs.path, unix.MNT_FORCE|unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", fs.path, err)
	}
	<-fs.ended
	return nil
}

// commitAll commits what open files were written and have not committed.
func (m *mount) commitAll() {
	m.files.each(func(f *file) {
		f.io.Lock()
		defer f.io.Unlock()
		if err := m.flush(f); err != nil {
			m.status("unmount", uint64(f.ino), err)
		}
	}, m.put)
}

// end gives back what files still hold: staged ones, and those that were open when the mount was taken away.
func (m *mount) end() {
	m.files.each(func(f *file) {
		f.io.Lock()
		defer f.io.Unlock()
		m.destroy(f)
	}, m.put)
	for _, h := range m.handles.list {
		if h != nil && h.dir != nil {
			h.dir.close()
		}
	}
}
