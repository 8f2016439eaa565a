package powercut

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/raftstore"
	"mailraft/raftstore/group"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// The program under test: this binary again, as a process that keeps a store on the disk. It reads what has been acknowledged
// so far, "ACCOUNT NAME" a line up to an empty one, checks that all of that is there, says "checked N", and then delivers
// until it is killed, with a line for each message that it acknowledges.

const stormAsked = "MAILRAFT_TEST_STORM" // in the environment: "KIND DIR ROUND"

const (
	stormAccounts = 4
	stormWriters  = 8
)

func stormIfAsked() {
	arg := os.Getenv(stormAsked)
	if arg == "" {
		return
	}
	var kind, dir string
	var round int
	if _, err := fmt.Sscan(arg, &kind, &dir, &round); err != nil {
		fail(err)
	}
	signal.Ignore(syscall.SIGPIPE)
	if err := storm(kind, dir, round, os.Stdin, os.Stdout); err != nil {
		fail(err)
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "storm:", err)
	os.Exit(1)
}

// keeper is what the storm delivers to.
type keeper interface {
	propose(ctx context.Context, a tree.Account, cmd *raftpb.Command) (tree.Result, error)
	reserve(ctx context.Context, a tree.Account) (tree.Ino, error)
	view(a tree.Account) (tree.Reader, error)
	check(report func(string)) error // of all that is stored
	close() error
}

func storm(kind, dir string, round int, in io.Reader, out io.Writer) error {
	open := map[string]func(context.Context, string) (keeper, []tree.Account, error){"store": openStore, "group": openGroup}[kind]
	ctx := context.Background()
	k, accounts, err := open(ctx, dir)
	if err != nil {
		return fmt.Errorf("after the cut, open: %w", err)
	}
	n, err := check(k, accounts, in)
	if err != nil {
		return fmt.Errorf("after the cut: %w", err)
	}
	if _, err := fmt.Fprintln(out, "checked", n); err != nil {
		return err
	}
	if round < 0 {
		return k.close()
	}
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	var mu sync.Mutex
	for w := range stormWriters {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; failed.Load() == nil; i++ {
				a := (w + i) % len(accounts)
				name := fmt.Sprintf("%d.%d.%d", round, w, i)
				if err := deliver(ctx, k, accounts[a], name); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				mu.Lock()
				_, err := fmt.Fprintln(out, a, name)
				mu.Unlock()
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		}()
	}
	wg.Wait()
	return *failed.Load()
}

// content makes the content that belongs to a name: mostly some KiB, at times enough for several pieces.
func content(name string) []byte {
	h := fnv.New64a()
	io.WriteString(h, name)
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	size := 200 + r.IntN(40<<10)
	if r.IntN(40) == 0 {
		size = tree.MaxInline + r.IntN(1<<20)
	}
	b := make([]byte, size)
	for i := 0; i < len(b); i += 8 {
		v := r.Uint64()
		for j := i; j < min(i+8, len(b)); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

func deliver(ctx context.Context, k keeper, a tree.Account, name string) error {
	v, err := k.view(a)
	if err != nil {
		return err
	}
	dir, err := v.Lookup(tree.RootIno(a), "new")
	if err != nil {
		return err
	}
	ino, err := k.reserve(ctx, a)
	if err != nil {
		return err
	}
	data := content(name)
	sealed := &raftpb.Content{Id: uint64(ino), SealedSize: uint64(len(data)), Size: uint64(len(data))}
	if len(data) <= tree.MaxInline {
		sealed.Inline = data
	} else {
		for i := 0; i*tree.MaxPiece < len(data); i++ {
			piece := data[i*tree.MaxPiece : min((i+1)*tree.MaxPiece, len(data))]
			r, err := k.propose(ctx, a, &raftpb.Command{Op: &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{
				Account: uint32(a), Content: uint64(ino), Number: uint32(i), Data: piece,
			}}})
			if err := errors.Join(err, r.Err()); err != nil {
				return err
			}
		}
	}
	r, err := k.propose(ctx, a, &raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(dir.Ino), Name: []byte(name), Inode: uint64(ino), Mode: syscall.S_IFREG | 0o600, Content: sealed,
	}}})
	return errors.Join(err, r.Err())
}

// check reads which messages were acknowledged and looks for each; whatever else is there must be whole as well.
func check(k keeper, accounts []tree.Account, in io.Reader) (int, error) {
	acked := map[string]int{}
	lines := bufio.NewScanner(in)
	for lines.Scan() && lines.Text() != "" {
		var a int
		var name string
		if _, err := fmt.Sscan(lines.Text(), &a, &name); err != nil {
			return 0, err
		}
		acked[name] = a
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	count := len(acked)
	for i, a := range accounts {
		v, err := k.view(a)
		if err != nil {
			return 0, err
		}
		x, err := v.FolderIndex(tree.RootIno(a), 0)
		if err != nil {
			return 0, err
		}
		seen := map[string]bool{}
		for _, m := range x.Messages {
			if seen[m.Name] {
				return 0, fmt.Errorf("account %d has %s twice", i, m.Name)
			}
			seen[m.Name] = true
			if err := whole(v, m); err != nil {
				return 0, fmt.Errorf("account %d, %s: %w", i, m.Name, err)
			}
			if at, ok := acked[m.Name]; ok && at == i {
				delete(acked, m.Name)
			}
		}
	}
	for name, a := range acked {
		return 0, fmt.Errorf("account %d: acknowledged %s (and %d more) is not there", a, name, len(acked)-1)
	}
	var problems []string
	if err := k.check(func(p string) { problems = append(problems, p) }); err != nil {
		return 0, err
	}
	if len(problems) > 0 {
		return 0, fmt.Errorf("the check finds: %s", strings.Join(problems, "; "))
	}
	return count, nil
}

func whole(v tree.Reader, m tree.IndexEntry) error {
	n, err := v.Inode(m.Ino)
	if err != nil {
		return err
	}
	c, err := v.OpenContent(n)
	if err != nil {
		return err
	}
	got := make([]byte, c.Size())
	_, err = c.ReadAt(got, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}
	if string(got) != string(content(m.Name)) {
		return errors.New("is not what was delivered")
	}
	return nil
}

func stormLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// storeKeeper is a whole store: two shards and the directory.
type storeKeeper struct {
	*raftstore.Store
	p *raftstore.Proposer
}

func openStore(ctx context.Context, dir string) (keeper, []tree.Account, error) {
	s, err := raftstore.Open(ctx, raftstore.Config{Dir: dir + "/data", NodeID: "n1", Shards: 2, Logger: stormLogger()})
	if err != nil {
		return nil, nil, err
	}
	d := s.Directory()
	if err := d.AddDomain(ctx, "example.org"); err != nil && !errors.Is(err, raftstore.ErrExists) {
		return nil, nil, err
	}
	var accounts []tree.Account
	for i := range stormAccounts {
		local := fmt.Sprint("u", i)
		a, err := d.FindAccount(local, "example.org")
		if errors.Is(err, raftstore.ErrNoSuchAccount) {
			var made []*raftpb.Account
			if made, err = d.AddAccounts(ctx, []raftstore.NewAccount{{LocalPart: local, Domain: "example.org"}}); err == nil {
				a = made[0]
			}
		}
		if err != nil {
			return nil, nil, err
		}
		accounts = append(accounts, tree.Account(a.Number))
	}
	return &storeKeeper{s, s.NewProposer()}, accounts, nil
}

func (k *storeKeeper) propose(ctx context.Context, a tree.Account, cmd *raftpb.Command) (tree.Result, error) {
	return k.p.Propose(ctx, cmd)
}

func (k *storeKeeper) reserve(ctx context.Context, a tree.Account) (tree.Ino, error) {
	return k.p.ReserveIno(ctx, a)
}

func (k *storeKeeper) view(a tree.Account) (tree.Reader, error) {
	sh, err := k.Shard(a)
	if err != nil {
		return nil, err
	}
	return sh.View(), nil
}

func (k *storeKeeper) check(report func(string)) error {
	return k.Check(func([]byte) error { return nil }, func(p raftstore.Problem) { report(fmt.Sprint(p)) })
}

func (k *storeKeeper) close() error { return k.Close() }

// groupKeeper is one group with small log segments and frequent checkpoints, so that a short storm crosses many of them.
type groupKeeper struct {
	g       *group.Group
	t       *tree.Tree
	session uint64
	last    atomic.Uint64
}

func openGroup(ctx context.Context, dir string) (keeper, []tree.Account, error) {
	k := &groupKeeper{session: rand.Uint64()}
	addr, transport := raft.NewInmemTransport("n1")
	g, err := group.Open(group.Config{
		Name: "storm", Dir: dir + "/group", NodeID: "n1", Transport: transport,
		Bootstrap: []raft.Server{{ID: "n1", Address: addr}},
		NewMachine: func(s *machine.Store) machine.Machine {
			k.t = tree.New(s)
			return k.t
		},
		SegmentSize: 2 << 20, CheckpointBytes: 3 << 20, Election: 50 * time.Millisecond, Logger: stormLogger(),
	})
	if err != nil {
		return nil, nil, err
	}
	k.g = g
	if err := g.WaitLeader(ctx); err != nil {
		return nil, nil, err
	}
	var accounts []tree.Account
	for i := range stormAccounts {
		a := tree.Account(i + 1)
		r, err := k.propose(ctx, a, &raftpb.Command{Op: &raftpb.Command_CreateAccount{CreateAccount: &raftpb.CreateAccount{Account: uint32(a)}}})
		if err == nil && r.Errno != 0 && r.Errno != syscall.EEXIST {
			err = r.Errno
		}
		if err != nil {
			return nil, nil, err
		}
		accounts = append(accounts, a)
	}
	return k, accounts, nil
}

func (k *groupKeeper) propose(ctx context.Context, _ tree.Account, cmd *raftpb.Command) (tree.Result, error) {
	seq := k.last.Add(1)
	cmd.Version, cmd.Now = machine.Version, time.Now().UnixNano()
	cmd.Request = &raftpb.Request{Session: k.session, Sequence: seq, Floor: seq - min(seq, 1000)}
	return k.g.Propose(ctx, cmd)
}

func (k *groupKeeper) reserve(ctx context.Context, a tree.Account) (tree.Ino, error) {
	r, err := k.propose(ctx, a, &raftpb.Command{Op: &raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: uint32(a), Count: 1}}})
	return tree.Ino(r.Value), errors.Join(err, r.Err())
}

func (k *groupKeeper) view(tree.Account) (tree.Reader, error) { return k.t.View(), nil }

func (k *groupKeeper) check(report func(string)) error {
	return tree.Check(k.t.View(), func(p tree.Problem) { report(p.String()) })
}

func (k *groupKeeper) close() error { return k.g.Close() }
