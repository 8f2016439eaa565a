package raftstore

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"mailraft/raftstore/directory"
	"mailraft/raftstore/durable"
	"mailraft/raftstore/group"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/remote"
	"mailraft/raftstore/transport"
	"mailraft/raftstore/tree"
)

// Config says where a node's store lies and how it is made.
type Config struct {
	Dir    string // the data folder
	NodeID string // this node's name
	// Existing says that the store was made before. If it is not there, its disk may not be mounted: Open then answers ErrNoStore, and
	// does not make an empty one.
	Existing bool
	Shards   int    // mail shards of a new store; 0: 4
	UID      uint32 // owner of new accounts' homes
	GID      uint32
	// MinFree octets of the data folder's disk are left free: below, what adds data fails with ENOSPC. 0: as much as all groups may
	// take at once for segments of the log, flushes and compactions (some 450 MiB with 4 shards), but an eighth of the disk at most.
	MinFree uint64
	// CacheSize is the octets of stored blocks kept in memory for all groups together. 0: 64 MiB.
	CacheSize int64
	// Listen is the host:port for the other nodes; "": there are none.
	Listen    string
	Advertise string // host:port where the others reach it; "": Listen's, with the machine's name if that has no host
	// ContentCache is the octets of disk for sealed contents of shards that other nodes have. 0: 1 GiB.
	ContentCache int64
	// CatchUpBandwidth is how many octets of checkpoints are sent to other nodes in a second, of all groups together. 0: as many as can be.
	CatchUpBandwidth int64
	// ReplaceAfter is how long a node may not answer before others vote instead of it. 0: 10 minutes.
	ReplaceAfter time.Duration
	Logger       *slog.Logger // nil: slog.Default
}

// Store is a node's part of the cluster: its replicas of the directory and of the shards.
type Store struct {
	cfg       Config
	log       *slog.Logger
	lock      *os.File
	fresh     bool // the store is being made
	cache     *pebble.Cache
	mu        sync.RWMutex // held to read or write which groups are open, while Open opens them
	directory *Directory
	shards    []*Shard // shard n is shards[n-1]
	space     *space
	contents  *remote.Cache // of shards that are read on other nodes; nil: this node is alone
	admin     *Proposer     // of changes that the store makes itself

	transport      *transport.Transport // nil: this node is alone
	identity       *transport.Identity
	known          atomic.Pointer[map[string]transport.Member] // the nodes as they were last known
	servers        []*grpc.Server
	hinters        hinters
	heartbeats     heartbeats
	subscribers    atomic.Pointer[[]*subscriber]
	clusterChanged chan struct{} // has an element when there is something for keepMembers
	splitNow       atomic.Bool   // leaders are to be spread now
	joinsRefused   atomic.Uint64

	life context.Context

	catchUp *rate.Limiter // of the octets of checkpoints that are sent
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// Octets of a segment of the log. A group has one in use and one ready, which are written and read whole when it is made and at each start.
const (
	directorySegment = 4 << 20
	shardSegment     = 8 << 20
)

// In the data folder's folder "contents" are sealed contents that were read on other nodes, for as long as the store is open.
const (
	contentsFolder = "contents"
	contentMemory  = 32 << 20 // octets of short ones
)

// leaderWait is how long Open waits for its groups, each of which has only to apply what its last checkpoint did not hold.
const leaderWait = 2 * time.Minute

// Open opens the store in cfg.Dir, or makes it when the folder is empty or missing. It returns once every group can be
// written to. Errors name the folder and what is wrong with it: held by another process, not a data folder, of another
// version, corrupt, not writable, full.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if cfg.Shards == 0 {
		cfg.Shards = 4
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 64 << 20
	}
	if cfg.ReplaceAfter == 0 {
		cfg.ReplaceAfter = 10 * time.Minute
	}
	if cfg.ContentCache == 0 {
		cfg.ContentCache = 1 << 30
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Store{cfg: cfg, log: cfg.Logger, catchUp: newCatchUp(cfg.CatchUpBandwidth)}
	var made int // shards; 0: the directory says which there are
	if s.lock, made, s.fresh, err = openFolder(cfg.Dir, cfg.Shards, cfg.Existing); err != nil {
		return nil, err
	}
	joined, shards := made == 0, made
	if joined { // they are not known yet: as many as are configured, for sizes
		shards = cfg.Shards
	}
	if s.space, err = newSpace(cfg.Dir, cfg.MinFree, uint64(shards+1)*(4*shardSegment+2*group.MemTableSize)+128<<20); err != nil {
		s.lock.Close()
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	s.heartbeats.store = s
	s.life, s.stop, s.clusterChanged = background, stop, make(chan struct{}, 1)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// Pebble takes the memory of its memtables from the cache: one that is written, and one or two that are being flushed.
	s.cache = pebble.NewCache(cfg.CacheSize + int64(shards+1)*3*group.MemTableSize)
	s.admin = s.NewProposer()
	switch {
	case cfg.Listen != "":
		if err := s.openTransport(joined); err != nil {
			return nil, s.explain(err)
		}
		if s.contents, err = remote.NewCache(s.folder(contentsFolder), contentMemory, cfg.ContentCache); err != nil {
			return nil, s.explain(err)
		}
	case joined:
		return nil, fmt.Errorf("data folder %s is that of a node of a cluster, which needs its port (cluster.listen); "+
			"to check what is stored, run mailraft fsck while the node serves: %w", cfg.Dir, syscall.EINVAL)
	}
	if err := s.openDirectory(joined); err != nil {
		return nil, s.explain(err)
	}
	if err := s.checkVersion(); err != nil {
		return nil, s.explain(err)
	}
	if s.transport != nil {
		s.answerPeers()
	}
	count, err := s.countShards(ctx, made)
	if err != nil {
		return nil, s.explain(err)
	}
	list := make([]*Shard, count)
	for i := range list {
		list[i] = s.newShard(uint32(i + 1))
	}
	s.mu.Lock()
	s.shards = list
	s.mu.Unlock()
	if err := s.openReplicas(joined); err != nil {
		return nil, s.explain(err)
	}
	within, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	alone := true
	var failed error
	s.each(func(_ int, g *group.Group) {
		if !g.Sole() {
			alone = false
			s.awaitReadable(ctx, g)
		} else if failed == nil {
			failed = g.WaitLeader(within)
		}
	})
	if failed != nil {
		return nil, s.explain(failed)
	}
	if s.transport == nil {
		if err := s.raiseVersion(within, nil); err != nil {
			return nil, s.explain(err)
		}
	}
	if alone && s.transport != nil {
		if err := s.recordShards(within); err != nil {
			return nil, s.explain(err)
		}
		if err := s.announceOnce(within); err != nil {
			return nil, s.explain(err)
		}
	}
	if s.fresh {
		if err := endFormat(cfg.Dir); err != nil {
			return nil, s.explain(err)
		}
	}
	if s.transport != nil {
		s.done.Go(func() { s.keepMembers(background) })
		s.done.Go(func() { s.announce(background) })
		s.done.Go(func() {
			s.identity.KeepValid(background, func(_ context.Context, key crypto.PublicKey) ([]byte, error) { return s.sign(key, s.cfg.NodeID) }, s.log)
		})
	}
	var term uint64
	if alone {
		if term, err = s.directory.group.WaitTerm(within, 0); err != nil {
			return nil, s.explain(err)
		}
		s.finishAccounts(ctx)
	}
	s.done.Add(2)
	go s.finishAccountsAgain(background, term)
	go s.reapOrphans(background)
	s.done.Go(func() { s.moveAccounts(background) })
	return s, nil
}

// explain says what a disk error of a group means to the one who has to mend it.
func (s *Store) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("data folder %s: no space left on its disk; free some and start again: %w", s.cfg.Dir, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("data folder %s is on a read-only file system; remount it writable: %w", s.cfg.Dir, err)
	case errors.Is(err, group.ErrNotMember):
		return fmt.Errorf("data folder %s belongs to another node; start it under that node's name: %w", s.cfg.Dir, err)
	case errors.Is(err, group.ErrMissing):
		return fmt.Errorf("data folder %s is not whole; put back what is missing, or restore this node from a replica or a backup: %w", s.cfg.Dir, err)
	case errors.Is(err, pebble.ErrCorruption), errors.Is(err, tree.ErrCorrupt), strings.Contains(err.Error(), "corrupt"):
		return fmt.Errorf("data folder %s is damaged; restore this node from a replica or a backup: %w", s.cfg.Dir, err)
	}
	return fmt.Errorf("data folder %s: %w", s.cfg.Dir, err)
}

// In the folder "cluster" of a node that joined is the file "shards": how many there are, which never changes. After a crash, the directory's state
// may not have them until the group has a leader.
const shardsFile = "shards"

// countShards answers how many shards there are: as many as the store was made with, or what a node that joined has noted, or at first what the
// directory says when it has come from the others.
func (s *Store) countShards(ctx context.Context, made int) (int, error) {
	if made > 0 {
		return made, nil
	}
	path := filepath.Join(s.cfg.Dir, clusterFolder, shardsFile)
	b, err := os.ReadFile(path)
	if err == nil {
		count, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || count < 1 {
			return 0, fmt.Errorf("%s says %q: %w", path, b, ErrFormat)
		}
		return count, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	s.log.Info("waiting for the cluster's directory")
	if err := s.directory.group.WaitMember(ctx); err != nil {
		return 0, err
	}
	records, err := s.directory.state.Shards()
	if err != nil {
		return 0, err
	}
	if len(records) == 0 {
		return 0, fmt.Errorf("the directory has no shards: %w", group.ErrMissing)
	}
	return len(records), durable.WriteFile(path, fmt.Appendln(nil, len(records)), 0o600)
}

// readableWait is how long Open waits for each group that others are in: without a quorum, what is here is served all the same.
const readableWait = 5 * time.Second

func (s *Store) awaitReadable(ctx context.Context, g *group.Group) {
	ctx, cancel := context.WithTimeout(ctx, readableWait)
	defer cancel()
	if err := g.ReadIndex(ctx); err != nil {
		s.log.Warn("a group has no leader yet", "group", g.Name(), "error", err)
	}
}

// recordShards has the directory know the shards of a store that was made before it was to.
func (s *Store) recordShards(ctx context.Context) error {
	for _, sh := range s.shards {
		if _, err := s.directory.state.Shard(sh.id); err != syscall.ENOENT {
			continue
		}
		_, err := s.directory.change(ctx, &raftpb.Command{Op: &raftpb.Command_PutShard{PutShard: &raftpb.PutShard{
			Id: sh.id, Voters: []string{s.cfg.NodeID},
		}}})
		if err != nil && err != syscall.EAGAIN {
			return err
		}
	}
	return nil
}

// group opens a group's replica. One that is joined may be empty: it came from the others, or will.
func (s *Store) group(name string, segment int, joined bool, newMachine func(*machine.Store) machine.Machine) (_ *group.Group, err error) {
	made := func() error { return nil }
	cfg := group.Config{
		Name: name, Dir: s.folder(name), NodeID: s.cfg.NodeID, NewMachine: newMachine,
		Joining:     joined,
		Cache:       s.cache,
		SegmentSize: segment, CheckpointBytes: 64 << 20,
		Election: time.Second,
		Logger:   s.log,
	}
	if joined {
		if cfg.LeastTerm, made, err = s.noteReplica(name); err != nil {
			return nil, err
		}
	}
	if s.fresh && !joined {
		cfg.Bootstrap = []raft.Server{{ID: raft.ServerID(s.cfg.NodeID), Address: raft.ServerAddress(s.cfg.NodeID)}}
	}
	if s.transport == nil {
		_, cfg.Transport = raft.NewInmemTransport(raft.ServerAddress(s.cfg.NodeID)) // one voter: it never sends
	} else {
		if cfg.Transport, err = s.transport.Raft(name, group.Logger(s.log.With("group", name))); err != nil {
			return nil, err
		}
		cfg.Peers, cfg.Heartbeats, cfg.Throttle = &peers{s, name}, &s.heartbeats, s.throttle
	}
	g, err := group.Open(cfg)
	if err != nil {
		return nil, err
	}
	if err := made(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// directoryGroup is the directory's name.
const directoryGroup = "directory"

func (s *Store) openDirectory(joined bool) error {
	var m *directory.Directory
	g, err := s.group(directoryGroup, directorySegment, joined, func(st *machine.Store) machine.Machine {
		m = directory.New(st)
		return m
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.directory = &Directory{store: s, group: g, state: m}
	s.mu.Unlock()
	m.Subscribe(func(ev directory.Event) {
		if ev.Replaced || ev.Moved { // what was read of the account elsewhere changes there no more
			s.directory.moved(ev.Account)
			s.tell(&tree.Event{Replaced: true, Account: tree.Account(ev.Account)})
		}
		if ev.Replaced || ev.Cluster {
			s.lookAtMembers()
		}
	})
	return nil
}

// each calls fn with this node's replicas that are open by now, the directory's first: 0, and each shard's number. Other nodes ask while the
// rest is being opened. None is closed while fn is called with it.
func (s *Store) each(fn func(number int, g *group.Group)) {
	s.mu.RLock()
	d, shards := s.directory, s.shards
	s.mu.RUnlock()
	if d != nil {
		fn(0, d.group)
	}
	for _, sh := range shards {
		if r, release := sh.useAny(); r != nil {
			fn(int(sh.id), r.group)
			release()
		}
	}
}

// Close flushes and closes all groups. Nothing may use the store any more.
func (s *Store) Close() error {
	s.hinters.end(s)
	var errs []error
	if s.transport != nil { // before the directory, which it asks who is a node
		for _, g := range s.servers {
			g.Stop()
		}
		errs = append(errs, s.transport.Close())
	}
	s.done.Wait()
	for _, sh := range s.shards {
		if sh.client != nil {
			sh.client.Close()
			errs = append(errs, sh.reads.Close())
		}
	}
	s.each(func(_ int, g *group.Group) { errs = append(errs, g.Close()) })
	if s.contents != nil {
		errs = append(errs, s.contents.Close())
	}
	if s.cache != nil {
		s.cache.Unref()
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Directory is the list of domains, accounts and aliases.
func (s *Store) Directory() *Directory { return s.directory }

// Shards are the mail shards.
func (s *Store) Shards() []*Shard {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shards
}

// Shard finds the shard that an account is in, as far as the directory here says; it may move (Home): ErrNoSuchAccount.
func (s *Store) Shard(a tree.Account) (*Shard, error) {
	id, err := s.directory.shardOf(uint32(a))
	if err != nil {
		return nil, err
	}
	return s.shard(&raftpb.Account{Number: uint32(a), Shard: id})
}

func (s *Store) shard(a *raftpb.Account) (*Shard, error) {
	sh, err := s.shardNumber(a.Shard)
	if err != nil {
		return nil, fmt.Errorf("account %d: %w", a.Number, err)
	}
	return sh, nil
}

func (s *Store) shardNumber(id uint32) (*Shard, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id == 0 || int(id) > len(s.shards) {
		return nil, fmt.Errorf("there is no shard %d: %w", id, syscall.EIO)
	}
	return s.shards[id-1], nil
}

// Status is how each of this node's replicas is, the directory's first.
func (s *Store) Status() []group.Status {
	var list []group.Status
	s.each(func(_ int, g *group.Group) { list = append(list, g.Status()) })
	return list
}

// Free tells the octets free on the data folder's disk, and whether that is too few to take more mail.
func (s *Store) Free() (octets uint64, full bool, err error) { return s.space.free() }
