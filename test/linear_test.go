package test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/test/node"
)

// seedOf is what a test draws by: MAILRAFT_TEST_SEED, else the time. It is logged.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MAILRAFT_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal("MAILRAFT_TEST_SEED: ", err)
		}
	}
	t.Logf("MAILRAFT_TEST_SEED=%d", seed)
	return seed
}

// numberOf is an environment variable's number, or what a test takes without it.
func numberOf(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(variable, ": ", err)
	}
	return n
}

// durationOf is an environment variable's duration, or what a test takes without it.
func durationOf(t *testing.T, variable string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(variable, ": ", err)
	}
	return d
}

// TestLinearizable has clients on the mounts of three nodes change and list the same folders, while links are cut, clocks jump, nodes hang,
// are killed and have no room left, and while the folders' accounts move from shard to shard. Each round has names of its own, so that the
// checker's work is bounded.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	linearizable(t, 3, durationOf(t, "MAILRAFT_TEST_LINEARIZABLE", 40*time.Second))
}

// TestLinearizableElsewhere is the same with five nodes, two of which have no copy of a shard.
func TestLinearizableElsewhere(t *testing.T) {
	t.Parallel()
	linearizable(t, 5, durationOf(t, "MAILRAFT_TEST_LINEARIZABLE", 25*time.Second))
}

func linearizable(t *testing.T, count int, duration time.Duration) {
	network := node.NewNetwork(t)
	nodes := append(network.Cluster(2, node.JumpingClock()), nil)
	nodes[2] = node.New(t, node.JumpingClock(), node.OwnDisk(1<<30), network.Member("n3"), node.Expecting("writing the state failed; it is tried again", "failed to append to logs"))
	nodes[2].Join(nodes[0])
	nodes[2].Start()
	for i := 3; i < count; i++ {
		n := node.New(t, node.JumpingClock(), network.Member(fmt.Sprint("n", i+1)))
		n.Join(nodes[0])
		n.Start()
		nodes = append(nodes, n)
	}
	nodes[0].Eventually("all vote", func() bool { return node.Voting(nodes[0]) == 3 })
	seed := seedOf(t)
	c := newContest(t, nodes, seed)
	end := c.start()
	defer end()
	moving := moveAround(nodes, c.accounts)
	f := faults{t: t, network: network, nodes: nodes, rng: rand.New(rand.NewPCG(seed, 0)), since: c.begun}
	for late := time.Now().Add(duration); time.Now().Before(late) && !t.Failed(); {
		f.next()
	}
	moving.settled(t)
	end()
	t.Logf("faults: %v", f.counts)
	t.Logf("%d rounds, %d operations: %v", c.rounds, c.operations, c.counts)
	t.Logf("listings that were made stale, and found to be: %d", c.planted)
	if c.planted == 0 && !t.Failed() {
		t.Error("no history had a place for a stale listing")
	}
	for _, n := range nodes { // one that was cut off a moment ago may be looking for the others yet
		n.Eventually("all accounts are read", func() bool {
			for _, a := range c.accounts {
				if _, err := os.ReadFile(filepath.Join(homeOn(n, a.Address), ".mailraft-index")); err != nil {
					return false
				}
			}
			return true
		})
	}
	sameEverywhere(t, nodes, c.accounts)
	for _, n := range nodes {
		n.Fsck()
	}
}

// TestLinearizableFindsStaleReads runs a program that does not ask the read index, so that a node that is cut off lists what it has. The
// checker has to find that.
func TestLinearizableFindsStaleReads(t *testing.T) {
	t.Parallel()
	program := node.Changed(t, "raftstore/shard.go", // not in the group: a node that joins waits for the directory's
		"func (sh *Shard) ReadIndex(ctx context.Context) error {\n",
		"func (sh *Shard) ReadIndex(ctx context.Context) error {\n\tif ctx != nil {\n\t\treturn nil\n\t}\n")
	network := node.NewNetwork(t)
	nodes := network.Cluster(3, node.Running(program))
	seed := seedOf(t)
	c := newContest(t, nodes, seed)
	found := make(chan error, 100)
	c.wrong = func(err error) { found <- err }
	end := c.start()
	defer end()
	rng := rand.New(rand.NewPCG(seed, 0))
	late := time.After(time.Minute)
	for {
		network.Isolate(nodes[rng.IntN(3)])
		select {
		case err := <-found:
			t.Logf("found: %.600s", err)
			return
		case <-late:
			t.Fatal("no stale read was found")
		case <-time.After(roundTime): // as long as the fault lasts
		}
		network.Heal()
	}
}

// sameEverywhere compares the folders' indexes, with UIDs and MODSEQs, on all nodes.
func sameEverywhere(t *testing.T, nodes []*node.Node, accounts []node.Account) {
	t.Helper()
	for _, a := range accounts {
		var first []byte
		for i, n := range nodes {
			b, err := os.ReadFile(filepath.Join(homeOn(n, a.Address), ".mailraft-index"))
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = b
			} else if !bytes.Equal(first, b) {
				t.Errorf("%s: the index on %s is\n%s\non %s\n%s", a.Address, nodes[0].Name, first, n.Name, b)
			}
		}
	}
}

// contest is clients that contend for names in the INBOX of some accounts.
type contest struct {
	t        *testing.T
	nodes    []*node.Node
	accounts []node.Account
	seed     uint64
	begun    time.Time
	stop     atomic.Bool

	wrong func(error) // is told of histories without an order, by which the test has failed if it is nil

	rounds, operations, planted int
	counts                      map[string]int
}

const (
	contestAccounts = 3 // each on a shard of its own
	clientsOfNode   = 2
	roundTime       = 3 * time.Second
	mostUnknown     = 2 // writes of unknown outcome by one client in a round: each is at large for the rest of it
)

func newContest(t *testing.T, nodes []*node.Node, seed uint64) *contest {
	c := &contest{t: t, nodes: nodes, seed: seed, begun: time.Now(), counts: map[string]int{}}
	for i := range contestAccounts {
		c.accounts = append(c.accounts, nodes[i%len(nodes)].AddAccount(fmt.Sprintf("user%d@cluster.example", i)))
	}
	return c
}

// start has the clients begin. end has them end, and waits for that and for the checker.
func (c *contest) start() (end func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.run()
	}()
	return func() {
		c.stop.Store(true)
		<-ended
	}
}

// run has rounds follow each other, until told to stop or a history has no order.
func (c *contest) run() {
	var clients []*contender
	for i := range len(c.nodes) * clientsOfNode {
		clients = append(clients, &contender{contest: c, number: i, node: c.nodes[i%len(c.nodes)], rng: rand.New(rand.NewPCG(c.seed, uint64(i)+1))})
	}
	var checks sync.WaitGroup
	var before []string // names of the round before
	for ; !c.stop.Load() && !c.t.Failed(); c.rounds++ {
		var round sync.WaitGroup
		end := time.Now().Add(roundTime)
		prefix := fmt.Sprintf("r%d-", c.rounds)
		for _, cl := range clients {
			cl.prefix, cl.unknown, cl.done = prefix, 0, make([][]folderOp, len(c.accounts))
			round.Go(func() { cl.round(end) })
		}
		for i, name := range before { // those of the last round are not looked at any more, and would make listings long
			os.Remove(filepath.Join(homeOn(c.nodes[i%len(c.nodes)], c.accounts[i%len(c.accounts)].Address), "cur", name))
		}
		round.Wait()
		checks.Wait()
		before = nil
		for a := range c.accounts {
			var history []folderOp
			for _, cl := range clients {
				history = append(history, cl.done[a]...)
			}
			for _, o := range history {
				outcome := o.Errno.Error()
				if o.Errno == 0 {
					outcome = "done"
				}
				c.counts[o.Kind.String()+" "+outcome]++
			}
			c.operations += len(history)
			checks.Go(func() { c.check(prefix, a, history) })
		}
		for i := range nameCount * len(c.accounts) {
			before = append(before, prefix+string(rune('a'+i/len(c.accounts))))
		}
	}
	checks.Wait()
	for _, cl := range clients {
		cl.leave()
	}
}

var planting sync.Mutex

// check looks for an order of what happened in a folder in a round, and then whether it would find one with a stale listing wrong.
func (c *contest) check(prefix string, account int, history []folderOp) {
	if err := orderOf(history); err != nil {
		err = fmt.Errorf("round %s of %s: the history is not linearizable: %w", prefix, c.accounts[account].Address, err)
		if c.wrong != nil {
			c.wrong(err)
		} else {
			c.t.Error(err)
		}
		return
	}
	planted, ok := plantStale(history)
	if !ok {
		return
	}
	if orderOf(planted) == nil {
		c.t.Errorf("round %s of %s: a stale listing was not found", prefix, c.accounts[account].Address)
	}
	planting.Lock()
	defer planting.Unlock()
	c.planted++
}

// contender is a client on one mount.
type contender struct {
	*contest
	number  int
	node    *node.Node
	rng     *rand.Rand
	prefix  string
	unknown int          // writes of unknown outcome in this round
	folders [][2]int     // cur and tmp of each account, open; none while the mount is gone
	done    [][]folderOp // of this round, by account
	staged  int
}

// round does operations until the round ends. Those that have no answer by then are waited for.
func (c *contender) round(end time.Time) {
	for time.Now().Before(end) {
		if !c.enter() {
			time.Sleep(20 * time.Millisecond) // the daemon is being started
			continue
		}
		account := c.rng.IntN(len(c.accounts))
		o := folderOp{Kind: opKind(c.rng.IntN(int(opList) + 1)), From: c.rng.IntN(nameCount), To: c.rng.IntN(nameCount), Client: c.number}
		if o.Kind < opMiss && c.unknown >= mostUnknown {
			o.Kind = opMiss + o.Kind%2
		}
		if o.From == o.To {
			o.From = (o.To + 1) % nameCount
		}
		if note := c.do(account, &o); note {
			c.done[account] = append(c.done[account], o)
		}
		if o.Errno != 0 && o.Errno != syscall.EEXIST && o.Errno != syscall.ENOENT {
			time.Sleep(20 * time.Millisecond) // a node without a leader answers at once
		}
	}
}

const fuseMagic = 0x65735546 // statfs(2)

// enter opens the folders, if they are not: false when they can't be, as there is no mount.
func (c *contender) enter() bool {
	if c.folders != nil {
		return true
	}
	for _, a := range c.accounts {
		c.folders = append(c.folders, [2]int{-1, -1})
		for i, name := range []string{"cur", "tmp"} {
			fd, err := unix.Open(filepath.Join(homeOn(c.node, a.Address), name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			var st unix.Statfs_t
			if err == nil {
				c.folders[len(c.folders)-1][i] = fd
				err = unix.Fstatfs(fd, &st)
			}
			if err != nil || st.Type != fuseMagic {
				c.leave()
				return false
			}
		}
	}
	return true
}

func (c *contender) leave() {
	for _, pair := range c.folders {
		for _, fd := range pair {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
	c.folders = nil
}

// do does an operation; false: there is nothing to be learned from what it answered.
func (c *contender) do(account int, o *folderOp) bool {
	cur, tmp := c.folders[account][0], c.folders[account][1]
	from, to := c.name(o.From), c.name(o.To)
	var own string
	if o.Kind == opLink {
		c.staged++
		own = fmt.Sprintf("%d.%d", c.number, c.staged)
		if err := create(tmp, own); err != nil {
			c.failed(err)
			return false
		}
	}
	var err error
	o.Start = time.Since(c.begun)
	switch o.Kind {
	case opCreate:
		err = create(cur, to)
	case opLink:
		err = unix.Linkat(tmp, own, cur, to, 0)
	case opRename:
		err = unix.Renameat2(cur, from, cur, to, unix.RENAME_NOREPLACE)
	case opUnlink:
		err = unix.Unlinkat(cur, to, 0)
	case opMiss:
		var st unix.Stat_t
		err = unix.Fstatat(cur, to, &st, unix.AT_SYMLINK_NOFOLLOW)
	case opList:
		o.Listed, err = list(cur, c.prefix)
	}
	o.End = time.Since(c.begun)
	if own != "" {
		unix.Unlinkat(tmp, own, 0)
	}
	if err != nil {
		o.Errno = err.(syscall.Errno)
	}
	switch {
	case err == nil:
		return o.Kind != opMiss // a hit may be stale
	case o.Errno == syscall.EEXIST, o.Errno == syscall.ENOENT && o.Kind != opLink && o.Kind != opCreate:
		return true
	}
	c.failed(err)
	if o.Kind >= opMiss {
		return false
	}
	o.Unknown = true
	c.unknown++
	return true
}

func (c *contender) name(number int) string { return c.prefix + string(rune('a'+number)) }

// failed leaves a mount that has gone.
func (c *contender) failed(err error) {
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EXDEV) {
		c.leave()
	}
}

func create(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// list reads which names of a round are in a folder.
func list(dir int, prefix string) (set uint16, err error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n == 0 {
			return set, err
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if letter, ok := strings.CutPrefix(name, prefix); ok {
				set |= 1 << (letter[0] - 'a')
			}
		}
	}
}
