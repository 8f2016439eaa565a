package fs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/staging"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// A Go process must not use a mount that it serves. So the tests are the users, and the server is this program again, in a process
// of its own that is told what to do through its standard input (serveTest).

const mailUser = 5000 // and its group

const (
	serverEnv = "MAILRAFT_TEST_MOUNT_SERVER" // the folder that the server keeps its things in
	shardsEnv = "MAILRAFT_TEST_SHARDS"       // not empty: all mounts but the first are of one shard each
	budgetEnv = "MAILRAFT_TEST_BUDGET"       // the memory of staged files, in bytes, if it is not 64 MiB
	graceEnv  = "MAILRAFT_TEST_GRACE"        // how long accounts stay unlocked after their last session, if at all
)

const testShards = 2

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverEnv); dir != "" {
		if err := serveTest(dir, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "test server:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if spec := os.Getenv(workerEnv); spec != "" {
		workTest(spec)
		os.Exit(0)
	}
	if path := os.Getenv(childEnv); path != "" {
		childMain(path)
		os.Exit(0)
	}
	if spec := os.Getenv(contenderEnv); spec != "" {
		contend(spec)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testServer is a server of the tests' accounts, as the tests see it.
type testServer struct {
	t      testing.TB
	dir    string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	mounts []string // mountpoints
}

// startServer starts a server with some mounts of one store.
func startServer(t testing.TB, mounts int) *testServer {
	t.Helper()
	s := &testServer{t: t, dir: t.TempDir()}
	for i := range mounts {
		path := filepath.Join(s.dir, fmt.Sprint("mnt", i))
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		s.mounts = append(s.mounts, path)
	}
	t.Cleanup(s.stop)
	s.start()
	return s
}

// startShards starts a server with the whole tree and a mount a shard, in the order of their numbers.
func startShards(t testing.TB) *testServer {
	t.Setenv(shardsEnv, "1")
	return startServer(t, 1+testShards)
}

func (s *testServer) start() {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), serverEnv+"="+s.dir)
	s.cmd.Stderr = os.Stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.in, s.out = in, bufio.NewScanner(out)
	if got := s.answer(); got != "ready" {
		s.t.Fatalf("server says %q", got)
	}
}

// do tells the server something, and fails the test if it answers anything but "ok"; what comes behind that is returned.
func (s *testServer) do(format string, args ...any) string {
	s.t.Helper()
	fmt.Fprintf(s.in, format+"\n", args...)
	got, ok := strings.CutPrefix(s.answer(), "ok")
	if !ok {
		s.t.Fatalf("server, asked to "+format+": %s", append(args, got)...)
	}
	return strings.TrimSpace(got)
}

func (s *testServer) answer() string {
	if !s.out.Scan() {
		return "end: " + fmt.Sprint(s.out.Err())
	}
	return s.out.Text()
}

// kill ends the server as a crash does.
func (s *testServer) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Wait()
	s.cmd = nil
}

func (s *testServer) stop() {
	if s.cmd != nil {
		s.in.Close()
		if err := s.cmd.Wait(); err != nil {
			s.t.Errorf("server: %v", err)
		}
		s.cmd = nil
	}
	for _, path := range s.mounts {
		if err := unix.Unmount(path, unix.MNT_DETACH); err == nil {
			s.t.Logf("%s was left mounted", path)
		}
	}
}

// home is an account's home on the first mount; homeOn on any.
func (s *testServer) home(name string) string { return s.homeOn(0, name) }
func (s *testServer) homeOn(mount int, name string) string {
	return filepath.Join(s.mounts[mount], "example.org", name)
}

// serveTest is the server's process: a store with accounts alice, bob, small (quota of 100 KB) and few (of one file), and the mounts. Commands come a
// line each and are answered by a line: "ok ..." or "error: ...". It ends when there are no more.
func serveTest(dir string, in io.Reader, out io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	ctx := context.Background()
	store, err := raftstore.Open(ctx, raftstore.Config{Dir: filepath.Join(dir, "data"), NodeID: "n1", Shards: testShards, UID: mailUser, GID: mailUser, MinFree: 1, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	srv := &serverProcess{dir: dir, store: store, sessions: map[string]*keyring.Session{}, log: log}
	grace := time.Duration(0)
	if s := os.Getenv(graceEnv); s != "" {
		if grace, err = time.ParseDuration(s); err != nil {
			return err
		}
	}
	srv.keys = keyring.New(keyring.Config{Grace: grace, Previous: srv.previousKeys})
	defer srv.keys.Close()
	defer srv.endResealing()
	budget := int64(64 << 20)
	if s := os.Getenv(budgetEnv); s != "" {
		if budget, err = strconv.ParseInt(s, 10, 64); err != nil {
			return err
		}
	}
	srv.budget = staging.NewBudget(budget)
	if srv.area, err = staging.NewArea(staging.Config{Dir: filepath.Join(dir, "staging"), Budget: srv.budget}); err != nil {
		return err
	}
	for _, a := range []raftstore.NewAccount{{LocalPart: "alice"}, {LocalPart: "bob"}, {LocalPart: "small", QuotaBytes: 100_000}, {LocalPart: "few", QuotaFiles: 1}} {
		if err := srv.addAccount(ctx, a); err != nil {
			return err
		}
	}
	paths, err := filepath.Glob(filepath.Join(dir, "mnt*"))
	if err != nil {
		return err
	}
	for i, path := range paths {
		var m *FS
		if i > 0 && os.Getenv(shardsEnv) != "" {
			m, err = srv.mountShard(path, uint32(i))
		} else {
			m, err = srv.mount(path)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.Unmount()) }()
		if srv.whole == nil {
			srv.whole = m
		}
		srv.mounts = append(srv.mounts, m.mount)
	}
	srv.keys.AskUse(func() { srv.asked.Add(1) })
	fmt.Fprintln(out, "ready")
	for s := bufio.NewScanner(in); s.Scan(); {
		answer, err := srv.do(ctx, strings.Fields(s.Text()))
		if err != nil {
			fmt.Fprintf(out, "error: %v\n", err)
		} else {
			fmt.Fprintln(out, "ok", answer)
		}
	}
	return nil
}

type serverProcess struct {
	dir      string
	store    *raftstore.Store
	keys     *keyring.Keyring
	area     *staging.Area
	budget   *staging.Budget
	mounts   []*mount
	whole    *FS // the first
	held     *file
	heldBy   *mount
	locking  sync.WaitGroup
	asked    atomic.Int64 // how often the keyring asked who is in use, after the mounts have answered
	sessions map[string]*keyring.Session
	resealer *Resealer // nil: nothing is sealed anew
	log      *slog.Logger
}

func (p *serverProcess) mount(path string) (*FS, error) { return p.mountShard(path, 0) }

// mountShard mounts one shard, beside the first mount; 0: all.
func (p *serverProcess) mountShard(path string, shard uint32) (*FS, error) {
	return Mount(Config{
		Mountpoint: path, Shard: shard, Beside: p.beside(shard), Store: p.store, Keys: p.keys, Staging: p.area, UID: mailUser, GID: mailUser, Logger: p.log,
		Statfs: func() (st syscall.Statfs_t, err error) { return st, syscall.Statfs(p.dir, &st) },
	})
}

func (p *serverProcess) beside(shard uint32) *FS {
	if shard == 0 {
		return nil
	}
	return p.whole
}

// addAccount adds an account, whose private key lies in a file beside the store so that it is there after a crash.
func (p *serverProcess) addAccount(ctx context.Context, a raftstore.NewAccount) error {
	d := p.store.Directory()
	a.Domain = "example.org"
	if _, err := d.FindAccount(a.LocalPart, a.Domain); err == nil {
		return nil
	}
	if err := d.AddDomain(ctx, a.Domain); err != nil && !errors.Is(err, raftstore.ErrExists) {
		return err
	}
	a.Keys = func(uint32) (string, []*raftpb.Slot, error) {
		recipient, err := p.newKey(a.LocalPart)
		return recipient, nil, err
	}
	_, err := d.AddAccounts(ctx, []raftstore.NewAccount{a})
	return err
}

// newKey makes an account's key pair, and answers the public key.
func (p *serverProcess) newKey(name string) (string, error) {
	id, err := seal.GenerateIdentity(seal.Hybrid)
	if err != nil {
		return "", err
	}
	b, err := id.Encode()
	if err != nil {
		return "", err
	}
	return id.Recipient().String(), os.WriteFile(filepath.Join(p.dir, name+".key"), b, 0o600)
}

func (p *serverProcess) do(ctx context.Context, cmd []string) (string, error) {
	if len(cmd) < 2 {
		return "", fmt.Errorf("command %q", cmd)
	}
	d := p.store.Directory()
	session := strings.Join(cmd[1:], " ")
	switch name := cmd[1]; cmd[0] {
	case "unlock": // for these user ids; without any, for all
		a, err := d.FindAccount(name, "example.org")
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile(filepath.Join(p.dir, name+".key"))
		if err != nil {
			return "", err
		}
		id, err := seal.ParseIdentity(b)
		var readers []uint32
		for _, uid := range cmd[2:] {
			n, perr := strconv.ParseUint(uid, 10, 32)
			readers, err = append(readers, uint32(n)), errors.Join(err, perr)
		}
		if err == nil {
			p.sessions[session], err = p.keys.Open(uint64(a.Number), id, 0, readers...)
		}
		return "", err
	case "used": // from now on the account is unlocked while it is used
		p.sessions[name].WhileUsed()
		return "", nil
	case "unlocked":
		a, err := d.FindAccount(name, "example.org")
		if err != nil {
			return "", err
		}
		_, ok := p.keys.Identity(uint64(a.Number))
		return fmt.Sprint(ok), nil
	case "asked":
		return fmt.Sprint(p.asked.Load()), nil
	case "shard": // the number of an account's
		a, err := d.FindAccount(name, "example.org")
		if err != nil {
			return "", err
		}
		return fmt.Sprint(a.Shard), nil
	case "lock":
		return "", p.sessions[session].Close()
	case "add":
		a := raftstore.NewAccount{LocalPart: name}
		if len(cmd) > 2 {
			a.Pinned = cmd[2]
		}
		return "", p.addAccount(ctx, a)
	case "rekey":
		a, err := d.FindAccount(name, "example.org")
		if err != nil {
			return "", err
		}
		return "", d.UpdateAccount(ctx, tree.Account(a.Number), func(a *raftpb.Account) (err error) {
			a.Recipient, err = p.newKey(name)
			return err
		})
	case "newkey", "reseal", "await", "keys":
		a, err := d.FindAccount(name, "example.org")
		if err != nil {
			return "", err
		}
		return p.resealing(ctx, cmd[0], a)
	case "remove":
		return "", d.RemoveAccount(ctx, name, "example.org")
	case "mount": // another mount, to see it refused
		m, err := p.mount(name)
		if err == nil {
			err = m.Unmount()
		}
		return "", err
	case "count": // what the mounts have in memory
		return fmt.Sprint(p.count(name)), nil
	case "forget": // a FORGET that comes late, of an inode that the kernel has looked up again
		i, err := strconv.ParseUint(name, 10, 64)
		for _, m := range p.mounts {
			m.Forget(i, 1)
		}
		return "", err
	case "hold", "locking", "release": // an inode's content, as a commit does; to lock an account that waits for it; the end of both
		return "", p.hold(cmd[0], name)
	case "unanswered": // an inode's delivery, into a directory under a name: it is committed, but whoever asked for it does not hear so
		return "", p.deliverUnanswered(cmd[1], cmd[2], cmd[3])
	case "sweep": // as after so many hours
		hours, err := strconv.Atoi(name)
		for _, m := range p.mounts {
			m.sweep(time.Now().Add(time.Duration(hours) * time.Hour))
		}
		return "", err
	case "deaf": // that mount hears of no changes any more
		m, err := p.mountOf(name)
		if err == nil {
			for _, cancel := range m.unsubscribe {
				cancel()
			}
		}
		return "", err
	case "replaced": // a mount is told that all of the account's shard, the account alone, or the directory was replaced
		m, err := p.mountOf(name)
		if err != nil {
			return "", err
		}
		return "", p.replaced(m, cmd[2], cmd[3])
	case "check": // as fsck does
		var found []string
		err := p.store.Check(seal.CheckHeader, func(p raftstore.Problem) { found = append(found, fmt.Sprintf("%+v", p)) })
		if len(found) > 0 {
			err = errors.Join(err, fmt.Errorf("%q", found))
		}
		return "", err
	case "orphans": // contents in pieces that nobody names, in all shards
		return p.orphans(ctx)
	}
	return "", fmt.Errorf("command %q", cmd)
}

func (p *serverProcess) mountOf(number string) (*mount, error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return nil, err
	}
	return p.mounts[n], nil
}

// replaced tells the mount what it would hear after a snapshot, and returns when it has told the kernel.
func (p *serverProcess) replaced(m *mount, what, name string) error {
	a, err := p.store.Directory().FindAccount(name, "example.org")
	if err != nil && what != "directory" {
		return err
	}
	switch what {
	case "directory":
		m.inval.listed(raftstore.DirectoryEvent{Replaced: true})
	case "account":
		m.inval.applied(&tree.Event{Replaced: true, Shard: a.Shard, Account: tree.Account(a.Number)})
	case "shard":
		m.inval.applied(&tree.Event{Replaced: true, Shard: a.Shard})
	}
	for range 3 { // what is queued queues more
		for i := range m.inval.queues {
			done := make(chan struct{})
			m.inval.queues[i].add(func(*invalidator) { close(done) })
			<-done
		}
	}
	// What asks the shard does so in the background, where the mount's sweeping is too: so it is awaited by its effects.
	return nil
}

// hold has a request keep a file's content to itself while an account is locked.
func (p *serverProcess) hold(what, name string) error {
	switch what {
	case "hold":
		i, err := strconv.ParseUint(name, 10, 64)
		if err != nil {
			return err
		}
		for _, m := range p.mounts {
			if f := m.files.get(tree.Ino(i)); f != nil {
				p.held, p.heldBy = f, m
				break
			}
		}
		if p.held == nil {
			return fmt.Errorf("no mount has inode %d in memory", i)
		}
		p.held.io.Lock()
	case "locking":
		p.locking.Go(func() { p.sessions[name].Close() })
	case "release":
		p.held.io.Unlock()
		p.heldBy.put(p.held)
		p.held = nil
		p.locking.Wait()
	}
	return nil
}

func (p *serverProcess) deliverUnanswered(inode, dir, name string) error {
	i, err := strconv.ParseUint(inode, 10, 64)
	if err != nil {
		return err
	}
	parent, err := strconv.ParseUint(dir, 10, 64)
	if err != nil {
		return err
	}
	m := p.mounts[0]
	f := m.files.get(tree.Ino(i))
	defer m.put(f)
	f.io.Lock()
	defer f.io.Unlock()
	if err := m.seal(f); err != nil {
		return err
	}
	f.uncertain = true
	return m.propose(&raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: parent, Name: []byte(name), Inode: i, Mode: f.stat.Mode, Uid: f.stat.UID, Gid: f.stat.GID, Content: f.sealed.command(),
	}}})
}

// count counts what the mounts have in memory.
func (p *serverProcess) count(what string) (n int64) {
	if what == "reserved" {
		return p.budget.Used()
	}
	for _, m := range p.mounts {
		switch what {
		case "files":
			n += m.files.count.Load()
		case "indexes":
			m.indexes.mu.Lock()
			n += int64(len(m.indexes.byIno))
			m.indexes.mu.Unlock()
		case "pages":
			m.cached.mu.Lock()
			for _, set := range m.cached.accounts {
				n += int64(len(set))
			}
			m.cached.mu.Unlock()
		case "plain": // files with plaintext
			m.files.each(func(f *file) {
				f.io.Lock()
				defer f.io.Unlock()
				if f.buf != nil {
					n++
				}
			}, m.put)
		case "sealed": // octets of sealed contents that are not committed
			m.files.each(func(f *file) {
				f.io.Lock()
				defer f.io.Unlock()
				if f.sealed != nil {
					n += int64(cap(f.sealed.inline))
				}
			}, m.put)
		}
	}
	return n
}

func (p *serverProcess) orphans(ctx context.Context) (string, error) {
	total := uint64(0)
	prop := p.store.NewProposer()
	for _, sh := range p.store.Shards() {
		r, err := prop.ProposeIn(ctx, sh, &raftpb.Command{Op: &raftpb.Command_ReapOrphans{ReapOrphans: &raftpb.ReapOrphans{
			Before: time.Now().Add(time.Hour).UnixNano(), Limit: 1000,
		}}})
		if err != nil {
			return "", err
		}
		total += r.Value
	}
	return fmt.Sprint(total), nil
}
