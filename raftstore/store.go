package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"mailraft/raftstore/directory"
	"mailraft/raftstore/group"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
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
	Logger    *slog.Logger // nil: slog.Default
}

// Store is a node's part of the cluster: its replicas of the directory and of the shards.
type Store struct {
	cfg       Config
	log       *slog.Logger
	lock      *os.File
	fresh     bool // the store is being made
	cache     *pebble.Cache
	directory *Directory
	shards    []*Shard // shard n is shards[n-1]
	space     *space
	admin     *Proposer // of changes that the store makes itself

	stop context.CancelFunc
	done sync.WaitGroup
}

// Octets of a segment of the log.
const (
	directorySegment = 4 << 20
	shardSegment     = 32 << 20
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
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Store{cfg: cfg, log: cfg.Logger}
	var shards int
	if s.lock, shards, s.fresh, err = openFolder(cfg.Dir, cfg.Shards, cfg.Existing); err != nil {
		return nil, err
	}
	if s.space, err = newSpace(cfg.Dir, cfg.MinFree, uint64(shards+1)*(shardSegment+2*group.MemTableSize)+128<<20); err != nil {
		s.lock.Close()
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// Pebble takes the memory of its memtables from the cache: one that is written, and one or two that are being flushed.
	s.cache = pebble.NewCache(cfg.CacheSize + int64(shards+1)*3*group.MemTableSize)
	s.admin = s.NewProposer()
	if err := s.openDirectory(); err != nil {
		return nil, s.explain(err)
	}
	for id := 1; id <= shards; id++ {
		sh, err := s.openShard(uint32(id))
		if err != nil {
			return nil, s.explain(err)
		}
		s.shards = append(s.shards, sh)
	}
	within, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for _, g := range s.groups() {
		if err := g.WaitLeader(within); err != nil {
			return nil, s.explain(err)
		}
	}
	if s.fresh {
		if err := endFormat(cfg.Dir); err != nil {
			return nil, s.explain(err)
		}
	}
	term, err := s.directory.group.WaitTerm(within, 0)
	if err != nil {
		return nil, s.explain(err)
	}
	s.finishAccounts(ctx)
	s.done.Add(2)
	go s.finishAccountsAgain(background, term)
	go s.reapOrphans(background)
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

func (s *Store) group(name, dir string, segment int, newMachine func(*machine.Store) machine.Machine) (*group.Group, error) {
	addr, transport := raft.NewInmemTransport(raft.ServerAddress(s.cfg.NodeID)) // one voter: it never sends
	var voters []raft.Server
	if s.fresh {
		voters = []raft.Server{{ID: raft.ServerID(s.cfg.NodeID), Address: addr}}
	}
	return group.Open(group.Config{
		Name: name, Dir: dir, NodeID: s.cfg.NodeID, Transport: transport, NewMachine: newMachine,
		Bootstrap:   voters,
		Cache:       s.cache,
		SegmentSize: segment, CheckpointBytes: 64 << 20,
		Election: 150 * time.Millisecond,
		Logger:   s.log,
	})
}

func (s *Store) openDirectory() error {
	var m *directory.Directory
	g, err := s.group("directory", filepath.Join(s.cfg.Dir, "directory"), directorySegment, func(st *machine.Store) machine.Machine {
		m = directory.New(st)
		return m
	})
	if err != nil {
		return err
	}
	s.directory = &Directory{store: s, group: g, state: m}
	m.Subscribe(func(ev directory.Event) {
		if ev.Replaced {
			s.directory.shardCache.Clear()
		}
	})
	return nil
}

func (s *Store) openShard(id uint32) (*Shard, error) {
	var m *tree.Tree
	name := fmt.Sprintf("shard-%d", id)
	g, err := s.group(name, filepath.Join(s.cfg.Dir, name), shardSegment, func(st *machine.Store) machine.Machine {
		m = tree.New(st)
		return m
	})
	if err != nil {
		return nil, err
	}
	return &Shard{id: id, group: g, tree: m}, nil
}

func (s *Store) groups() []*group.Group {
	var list []*group.Group
	if s.directory != nil {
		list = append(list, s.directory.group)
	}
	for _, sh := range s.shards {
		list = append(list, sh.group)
	}
	return list
}

// Close flushes and closes all groups. Nothing may use the store any more.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	var errs []error
	for _, g := range s.groups() {
		errs = append(errs, g.Close())
	}
	if s.cache != nil {
		s.cache.Unref()
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Directory is the list of domains, accounts and aliases.
func (s *Store) Directory() *Directory { return s.directory }

// Shards are the mail shards.
func (s *Store) Shards() []*Shard { return s.shards }

// Shard finds the home shard of an account: ErrNoSuchAccount.
func (s *Store) Shard(a tree.Account) (*Shard, error) {
	id, err := s.directory.shardOf(uint32(a))
	if err != nil {
		return nil, err
	}
	return s.shard(&raftpb.Account{Number: uint32(a), Shard: id})
}

func (s *Store) shard(a *raftpb.Account) (*Shard, error) {
	if a.Shard == 0 || int(a.Shard) > len(s.shards) {
		return nil, fmt.Errorf("account %d is on shard %d, which is not here: %w", a.Number, a.Shard, syscall.EIO)
	}
	return s.shards[a.Shard-1], nil
}

// Subscribe has fn called with what each command applied in any shard changed, or that all of a shard's state was replaced
// (Event.Replaced), on the applying goroutines, more than one at a time: fn must only take note. cancel ends it.
func (s *Store) Subscribe(fn func(*tree.Event)) (cancel func()) {
	var cancels []func()
	for _, sh := range s.shards {
		cancels = append(cancels, sh.tree.Subscribe(func(ev *tree.Event) {
			if ev.Replaced {
				ev = &tree.Event{Replaced: true, Shard: sh.id}
			}
			fn(ev)
		}))
	}
	return func() {
		for _, c := range cancels {
			c()
		}
	}
}

// Status is how each group is, the directory first.
func (s *Store) Status() []group.Status {
	var list []group.Status
	for _, g := range s.groups() {
		list = append(list, g.Status())
	}
	return list
}

// Free tells the octets free on the data folder's disk, and whether that is too few to take more mail.
func (s *Store) Free() (octets uint64, full bool, err error) { return s.space.free() }

// Shard is this node's replica of a mail shard.
type Shard struct {
	id    uint32
	group *group.Group
	tree  *tree.Tree
}

// ID is the shard's number, from 1.
func (sh *Shard) ID() uint32 { return sh.id }

// View reads the shard's state as it has been applied here.
func (sh *Shard) View() *tree.View { return sh.tree.View() }

// ReadIndex returns nil once View shows everything that any node acknowledged before the call.
func (sh *Shard) ReadIndex(ctx context.Context) error { return sh.group.ReadIndex(ctx) }

// Barrier returns nil once everything is applied here that was proposed in this shard before the call and will ever be committed:
// also what got no answer.
func (sh *Shard) Barrier(ctx context.Context) error { return sh.group.Barrier(ctx) }
