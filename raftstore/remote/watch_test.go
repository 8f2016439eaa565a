package remote

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// kernel caches what it looks up as package fs and the kernel do: a name may be kept if nothing was counted between before it was read
// and after; an event drops what it changes.
type kernel struct {
	mu       sync.Mutex
	counts   map[tree.Account]uint64
	names    map[tree.LinkName]tree.Ino
	last     map[tree.Account]uint64 // index of the last event
	broken   map[tree.Account]bool
	replaced atomic.Int64
	t        *testing.T
}

func newKernel(t *testing.T) *kernel {
	return &kernel{
		counts: map[tree.Account]uint64{}, names: map[tree.LinkName]tree.Ino{},
		last: map[tree.Account]uint64{}, broken: map[tree.Account]bool{}, t: t,
	}
}

func (k *kernel) applied(ev *tree.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts[ev.Account]++
	if ev.Replaced {
		k.replaced.Add(1)
		k.broken[ev.Account] = true
		if ev.Account == 0 || ev.Shard != 1 {
			k.t.Errorf("%+v", ev)
		}
		for n := range k.names {
			if n.Parent.Account() == ev.Account {
				delete(k.names, n)
			}
		}
		return
	}
	if ev.Index <= k.last[ev.Account] && !k.broken[ev.Account] { // behind a break, another replica may tell again
		k.t.Errorf("event %d of account %d after %d", ev.Index, ev.Account, k.last[ev.Account])
	}
	k.last[ev.Account], k.broken[ev.Account] = ev.Index, false
	for _, c := range ev.Changes {
		delete(k.names, tree.LinkName{Parent: c.Parent, Name: c.Name})
	}
}

func (k *kernel) count(a tree.Account) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counts[a]
}

func (k *kernel) lookup(r tree.Reader, n tree.LinkName) error {
	a := n.Parent.Account()
	mark := k.count(a)
	de, err := r.Lookup(n.Parent, n.Name)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.counts[a] == mark {
		k.names[n] = de.Ino
	}
	return nil
}

// storm is two replicas of a shard, of which one lags, and a kernel that caches what is read of them.
type storm struct {
	t      *testing.T
	a, b   *local
	k      *kernel
	c      *Client
	rng    *rand.Rand
	index  uint64
	behind chan func()
	lags   sync.WaitGroup

	reads, failed atomic.Int64
}

// newStorm makes one on two nodes, with its accounts.
func newStorm(t *testing.T, seed uint64) (s *storm, first, second *node) {
	s = &storm{t: t, a: newLocal(t), b: newLocal(t), k: newKernel(t), rng: rand.New(rand.NewPCG(seed, 2)), behind: make(chan func(), 64)}
	s.b.leader = s.a
	s.lags.Go(func() {
		for apply := range s.behind {
			apply()
		}
	})
	for n := range stormAccounts {
		s.apply(func() *raftpb.Command { return makeAccount(tree.Account(1 + n)) })
		s.apply(func() *raftpb.Command { return reserve(tree.Account(1 + n)) })
	}
	return s, newNode(t, "first", map[uint32]Replica{1: s.a}), newNode(t, "second", map[uint32]Replica{1: s.b})
}

// end waits until the replica that lags has all.
func (s *storm) end() {
	close(s.behind)
	s.lags.Wait()
}

// lookUp looks names up, at random, until stop is closed.
func (s *storm) lookUp(rng *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		dir := tree.MakeIno(tree.Account(1+rng.IntN(stormAccounts)), uint64(2+rng.IntN(2)))
		err := s.k.lookup(s.c, tree.LinkName{Parent: dir, Name: fmt.Sprint(rng.IntN(stormNames))})
		if err != nil && err != syscall.ENOENT {
			s.failed.Add(1)
			s.t.Log(err)
		}
		s.reads.Add(1)
	}
}

const (
	stormAccounts = 8
	stormNames    = 12
)

// apply applies a command here, and a while later there.
func (s *storm) apply(cmd func() *raftpb.Command) {
	s.index++
	i := s.index
	s.a.apply(i, cmd())
	s.behind <- func() { s.b.apply(i, cmd()) }
}

// change creates, removes or renames a message.
func (s *storm) change() {
	account := tree.Account(1 + s.rng.IntN(stormAccounts))
	dir, i := tree.MakeIno(account, uint64(2+s.rng.IntN(2))), tree.MakeIno(account, 8+s.index%4000)
	name, to, kind := fmt.Sprint(s.rng.IntN(stormNames)), fmt.Sprint(s.rng.IntN(stormNames)), s.rng.IntN(4)
	s.apply(func() *raftpb.Command {
		switch kind {
		case 0:
			return unlink(dir, name, false)
		case 1:
			return rename(dir, name, dir, to)
		}
		return create(dir, i, name, modeFile, nil)
	})
}

// settle waits until all that was applied has been heard of.
func (s *storm) settle() {
	s.t.Helper()
	for n := range stormAccounts {
		account := tree.Account(1 + n)
		last := tree.LinkName{Parent: tree.MakeIno(account, 3), Name: fmt.Sprint("last", s.index)}
		soon(s.t, "the last change is heard of", func() bool {
			if _, err := s.c.Account(account); err != nil { // it is watched
				s.t.Fatal(err)
			}
			i := tree.MakeIno(account, 8+s.index%4000)
			s.apply(func() *raftpb.Command {
				return create(last.Parent, i, last.Name, modeFile, nil)
			})
			s.apply(func() *raftpb.Command { return unlink(last.Parent, last.Name, false) })
			at := s.index
			for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
				s.k.mu.Lock()
				heard := s.k.last[account] == at
				s.k.mu.Unlock()
				if heard {
					return true
				}
			}
			return false // the stream broke: what is cached has been dropped, or will be
		})
	}
}

// compare compares what is cached with what is there.
func (s *storm) compare() (cached int) {
	s.t.Helper()
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	for n, i := range s.k.names {
		de, err := s.a.View().Lookup(n.Parent, n.Name)
		if err != nil || de.Ino != i {
			s.t.Errorf("%v is cached as %d, is %d (%v)", n, i, de.Ino, err)
		}
	}
	return len(s.k.names)
}

// Under deliveries, renames and removals, with reads through both replicas, while connections break and accounts cease to be watched:
// whenever it is quiet, what is cached is what is there.
func TestNoChangeIsMissed(t *testing.T) {
	s, first, second := newStorm(t, 1)
	s.c = newClient(t, t.TempDir(), to(first, second), s.k.applied)
	cached, breaks := 0, 0
	for round := range 8 {
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for r := range 4 {
			readers.Go(func() { s.lookUp(rand.New(rand.NewPCG(uint64(round), uint64(r))), stop) })
		}
		for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Duration(s.rng.IntN(1000)) * time.Microsecond) {
			for range 1 + s.rng.IntN(3) {
				s.change()
			}
			switch s.rng.IntN(100) {
			case 0:
				first.cut()
				breaks++
			case 1:
				second.cut()
				breaks++
			case 2:
				s.c.watch.sweepOnce(time.Now())
			}
		}
		close(stop)
		readers.Wait()
		s.settle()
		cached += s.compare()
	}
	s.end()
	t.Logf("%d commands, %d reads (%d failed), %d breaks, %d times replaced; %d names compared",
		s.index, s.reads.Load(), s.failed.Load(), breaks, s.k.replaced.Load(), cached)
	if s.failed.Load() > 0 || s.k.replaced.Load() == 0 || cached < 100 {
		t.Error("reads failed, or nothing was replaced, or cached")
	}
}

// A replica that is behind what was heard of is waited for, and so is one that is behind what was read of another.
func TestReadsShowWhatWasHeard(t *testing.T) {
	a, b := newLocal(t), newLocal(t)
	for _, l := range []*local{a, b} {
		l.apply(1, makeAccount(1))
		l.apply(2, reserve(1))
	}
	first, second := newNode(t, "first", map[uint32]Replica{1: a}), newNode(t, "second", map[uint32]Replica{1: b})
	heard := make(chan *tree.Event, 10)
	c := newClient(t, t.TempDir(), to(first), func(ev *tree.Event) { heard <- ev })
	if err := c.Watch(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	dir := tree.MakeIno(1, 2)
	for n, how := range []string{"heard", "read"} {
		name, index := fmt.Sprint("m", n), uint64(3+n)
		cmd := func() *raftpb.Command { return create(dir, tree.MakeIno(1, 10+uint64(n)), name, modeFile, nil) }
		a.apply(index, cmd())
		ask := func(n *node) { c.current = &replica{n.name, remotepb.NewReadsClient(n.conn)} }
		if <-heard; how == "read" {
			c.seen.Store(0) // as if it were not on its way yet
			ask(first)
			if _, err := c.Lookup(dir, name); err != nil {
				t.Fatal(err)
			}
		}
		ask(second)
		var done sync.WaitGroup
		found := make(chan error, 1)
		done.Go(func() {
			_, err := c.Lookup(dir, name)
			found <- err
		})
		select {
		case err := <-found:
			t.Errorf("%s: answered (%v) by a replica that does not have it yet", how, err)
		case <-time.After(50 * time.Millisecond): // time enough to answer wrongly
			b.apply(index, cmd())
			if err := <-found; err != nil {
				t.Errorf("%s: %v", how, err)
			}
		}
		done.Wait()
	}
}

// changing is a replica in which, as soon as a name was read, it changes.
type changing struct {
	*local
	change func()
}

type changingView struct {
	tree.Reader
	r *changing
}

func (r *changing) View() tree.Reader { return changingView{r.local.View(), r} }

func (v changingView) Lookup(dir tree.Ino, name string) (tree.DirEntry, error) {
	de, err := v.Reader.Lookup(dir, name)
	v.r.change()
	return de, err
}

// What changes between the first reading of an account and its answer is heard of.
func TestWatchedBeforeItIsRead(t *testing.T) {
	l := newLocal(t)
	dir := tree.MakeIno(1, 2)
	for i, cmd := range []*raftpb.Command{makeAccount(1), reserve(1), create(dir, tree.MakeIno(1, 10), "m", modeFile, nil)} {
		l.apply(uint64(1+i), cmd)
	}
	r := &changing{local: l, change: sync.OnceFunc(func() { l.apply(4, unlink(dir, "m", false)) })}
	n := newNode(t, "n1", map[uint32]Replica{1: r})
	heard := make(chan *tree.Event, 10)
	c := newClient(t, t.TempDir(), to(n), func(ev *tree.Event) { heard <- ev })
	if _, err := c.Lookup(dir, "m"); err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-heard:
		if ev.Index != 4 {
			t.Errorf("%+v", ev)
		}
	case <-time.After(10 * time.Second):
		t.Error("a change behind what was answered is not heard of")
	}
}

// Accounts that are not read are watched no more, after it was said that they may have changed; the next read watches again. What a
// replica says of itself, or that it is none any more, reaches all that are watched.
func TestReplacedIsEmitted(t *testing.T) {
	l := newLocal(t)
	l.apply(1, makeAccount(1))
	l.apply(2, makeAccount(2))
	n := newNode(t, "n1", map[uint32]Replica{1: l})
	events := make(chan tree.Event, 100)
	c := newClient(t, t.TempDir(), to(n), func(ev *tree.Event) { events <- *ev })
	read := func(accounts ...tree.Account) {
		t.Helper()
		for _, a := range accounts {
			if _, err := c.Account(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(what string, accounts ...tree.Account) {
		t.Helper()
		got := map[tree.Account]bool{}
		for range accounts {
			select {
			case ev := <-events:
				if !ev.Replaced || ev.Shard != 1 {
					t.Errorf("%s: %+v", what, ev)
				}
				got[ev.Account] = true
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: nothing", what)
			}
		}
		for _, a := range accounts {
			if !got[a] {
				t.Errorf("%s: %v, want %v", what, got, accounts)
			}
		}
	}
	read(1, 2)
	before := time.Now()
	read(2)
	c.watch.sweepOnce(before)
	want("idle", 1)
	l.apply(3, reserve(1))
	l.apply(4, create(tree.MakeIno(1, 2), tree.MakeIno(1, 10), "unheard", modeFile, nil))
	l.apply(5, reserve(2))
	l.apply(6, create(tree.MakeIno(2, 2), tree.MakeIno(2, 10), "heard", modeFile, nil))
	if ev := <-events; ev.Account != 2 || ev.Index != 6 || ev.Shard != 1 || ev.Changes[0].Name != "heard" {
		t.Errorf("%+v", ev)
	}
	l.tree.Replaced()
	want("the replica's state is another one", 2)
	read(1, 2)
	n.cut()
	want("the connection broke", 1, 2)
	read(1, 2)
	close(l.done)
	want("the replica is none any more", 1, 2)
	l.done = make(chan struct{})
	read(1)
	if err := c.Watch(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	c.Close()
	want("the reader is closed", 1, 2)
}

// Whoever takes nothing is not waited for: its stream ends.
func TestASlowWatcherIsLost(t *testing.T) {
	w := &watcher{watched: map[tree.Account]bool{1: true}, wake: make(chan struct{}, 1)}
	for range maxPending + 10 {
		w.applied(&tree.Event{Account: 1})
		w.applied(&tree.Event{Account: 2})
	}
	if pending, lost := w.take(); len(pending) != maxPending || !lost {
		t.Errorf("%d pending, lost %v", len(pending), lost)
	}
}
