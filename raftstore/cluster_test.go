package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/directory"
	"mailraft/raftstore/group"
	"mailraft/raftstore/peerpb"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/transport"
	"mailraft/raftstore/tree"
)

// member is a node of a cluster on the loopback, in this process.
type member struct {
	*Store
	cfg Config
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newMember makes a node: the first of a cluster, or one of that which of is in.
func newMember(t testing.TB, name string, of *member) *member {
	t.Helper()
	m := &member{cfg: Config{
		Dir: filepath.Join(t.TempDir(), name), NodeID: name, Shards: 4, Listen: freeAddress(t), ReplaceAfter: time.Hour,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", name),
	}}
	if of != nil {
		token, err := of.NewToken(t.Context(), time.Minute)
		if err == nil {
			err = Join(t.Context(), JoinConfig{Dir: m.cfg.Dir, NodeID: name, Address: m.cfg.Listen, Token: token})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	m.open(t)
	t.Cleanup(func() { m.close(t) })
	return m
}

func (m *member) open(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if m.Store, err = Open(ctx, m.cfg); err != nil {
		t.Fatalf("node %s: %v", m.cfg.NodeID, err)
	}
}

func (m *member) close(t testing.TB) {
	t.Helper()
	if m.Store == nil {
		return
	}
	if err := m.Close(); err != nil {
		t.Errorf("node %s: %v", m.cfg.NodeID, err)
	}
	m.Store = nil
}

// newCluster makes n1, n2 and so on, each of which has its share of the shards.
func newCluster(t testing.TB, count int) []*member {
	t.Helper()
	var nodes []*member
	for i := range count {
		var of *member
		if i > 0 {
			of = nodes[0]
		}
		nodes = append(nodes, newMember(t, fmt.Sprint("n", i+1), of))
	}
	settle(t, nodes)
	return nodes
}

// settle waits until each shard is where it is to be, and each node has its share.
func settle(t testing.TB, nodes []*member) {
	t.Helper()
	settled := false
	defer func() {
		if !settled {
			groups, err := nodes[0].Groups(context.Background())
			t.Logf("%+v, %v", groups, err)
			for _, n := range nodes {
				for _, sh := range n.Shards() {
					t.Logf("%s shard %d: %+v", n.cfg.NodeID, sh.id, sh.replicas())
				}
			}
		}
	}()
	eventually(t, "the shards are spread", func() bool {
		records, err := nodes[0].Directory().Nodes()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range present(records) {
			if !n.Balanced && n.State == raftpb.NodeState_NODE_STATE_ACTIVE {
				return false
			}
		}
		shards, err := nodes[0].Directory().ShardRecords()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.Store == nil {
				continue
			}
			for _, sh := range shards {
				has := n.Shards()[sh.Id-1].local() != nil
				if wants := slices.Contains(sh.Voters, n.cfg.NodeID); has != wants {
					return false
				}
			}
		}
		return nodes[0].atRest(t.Context())
	})
	settled = true
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("it does not come to that: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// listed are the names in the account's new/, as a listing on the node shows them.
func (m *member) listed(ctx context.Context, a tree.Account) (map[string]bool, error) {
	view, err := m.Home(a).ReadIndex(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := view.Lookup(tree.RootIno(a), "new")
	if err != nil {
		return nil, err
	}
	r, err := view.OpenDir(dir.Ino)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	names := map[string]bool{}
	for {
		de, ok := r.Next()
		if !ok {
			return names, r.Err()
		}
		names[de.Name] = true
	}
}

// TestShardsAreOnThreeNodes: with five nodes each shard is on three of them, and each node reads and writes all accounts.
func TestShardsAreOnThreeNodes(t *testing.T) {
	nodes := newCluster(t, 5)
	shards, err := nodes[0].Directory().ShardRecords()
	if err != nil {
		t.Fatal(err)
	}
	for n, count := range loads(shards) {
		if count < 2 || count > 3 { // of 4 shards, 3 times each, on 5 nodes
			t.Errorf("node %s has %d shards", n, count)
		}
	}
	var accounts []tree.Account
	for i := range 8 {
		accounts = append(accounts, tree.Account(addAccount(t, nodes[i%5].Store, fmt.Sprintf("u%d@many.example", i)).Number))
	}
	for i, n := range nodes {
		p := n.NewProposer()
		for _, a := range accounts {
			if err := deliver(t.Context(), p, a, fmt.Sprintf("from-n%d", i+1), []byte("sealed")); err != nil {
				t.Fatalf("node n%d, account %d: %v", i+1, a, err)
			}
		}
		for j, other := range nodes {
			for _, a := range accounts {
				names, err := other.listed(t.Context(), a)
				if err != nil {
					t.Fatalf("node n%d, account %d: %v", j+1, a, err)
				}
				if !names[fmt.Sprintf("from-n%d", i+1)] || len(names) != i+1 {
					t.Fatalf("node n%d does not see what n%d has delivered to account %d: %v", j+1, i+1, a, names)
				}
			}
		}
	}
	for _, a := range accounts {
		var first string
		for _, n := range nodes {
			got := copied(t, n, a)
			if first == "" {
				first = got
			}
			if got != first || !strings.Contains(got, "from-n1") || !strings.Contains(got, "content sealed") {
				t.Errorf("node %s copies account %d as %q, another as %q", n.cfg.NodeID, a, got, first)
			}
		}
	}
	for _, n := range nodes {
		if err := n.Check(func([]byte) error { return nil }, func(p Problem) { t.Errorf("node %s: %+v", n.cfg.NodeID, p) }); err != nil {
			t.Error(err)
		}
	}
}

// copied is an account as a copy of it begun on the node has it.
func copied(t *testing.T, n *member, a tree.Account) string {
	t.Helper()
	sn, err := n.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	i := slices.IndexFunc(sn.Accounts, func(r *raftpb.Account) bool { return r.Number == uint32(a) })
	shard := sn.Shard(sn.Accounts[i])
	var text strings.Builder
	var contents [][2]uint64
	err = shard.Records(a, func(key, value []byte) error {
		fmt.Fprintf(&text, "%q %q\n", key, value)
		content, sealed, err := tree.ContentOf(a, key, value)
		if content != 0 {
			contents = append(contents, [2]uint64{content, sealed})
		}
		return err
	})
	for _, c := range contents {
		if err == nil {
			err = shard.Content(a, c[0], c[1], func(piece []byte) error {
				fmt.Fprintf(&text, "content %s\n", piece)
				return nil
			})
		}
	}
	if err != nil {
		t.Fatalf("node %s, account %d: %v", n.cfg.NodeID, a, err)
	}
	if err := shard.Records(tree.MaxAccount, func(_, _ []byte) error { return nil }); err != syscall.ENOENT {
		t.Errorf("an account that is not there: %v", err)
	}
	return text.String()
}

// mail is delivered on all nodes to some accounts, until it is ended or something fails. Each listing, on any node, has to have all that was
// acknowledged before.
type mail struct {
	t        *testing.T
	nodes    []*member
	accounts []tree.Account
	ctx      context.Context
	stop     context.CancelFunc
	going    sync.WaitGroup

	mu        sync.Mutex // held for an append
	delivered map[tree.Account][]string
}

func newMail(t *testing.T, nodes []*member, accounts []tree.Account) *mail {
	m := &mail{t: t, nodes: nodes, accounts: accounts, delivered: map[tree.Account][]string{}}
	m.ctx, m.stop = context.WithCancel(t.Context())
	for i, n := range nodes {
		m.going.Go(func() {
			defer m.stop()
			p := n.NewProposer()
			for c := 0; m.ctx.Err() == nil; c++ {
				if err := m.trial(p, fmt.Sprintf("%d.n%d", c, i+1)); err != nil {
					t.Errorf("from n%d: %v", i+1, err)
					return
				}
			}
		})
	}
	return m
}

func (m *mail) trial(p *Proposer, name string) error {
	a := m.accounts[rand.N(len(m.accounts))]
	if err := deliver(context.Background(), p, a, name, []byte("sealed")); err != nil {
		return fmt.Errorf("deliver to %d: %w", a, err)
	}
	m.mu.Lock()
	m.delivered[a] = append(m.delivered[a], name)
	has := slices.Clone(m.delivered[a])
	m.mu.Unlock()
	other := m.nodes[rand.N(len(m.nodes))]
	names, err := other.listed(context.Background(), a)
	if err != nil {
		return fmt.Errorf("%s lists %d: %w", other.cfg.NodeID, a, err)
	}
	for _, want := range has {
		if !names[want] {
			return fmt.Errorf("%s does not list %s in %d", other.cfg.NodeID, want, a)
		}
	}
	return nil
}

// end ends it, and waits for that.
func (m *mail) end() {
	m.stop()
	m.going.Wait()
}

// TestShardsMoveWhileMailFlows: shards go from node to node, nodes come and go, while all deliver and read; nothing that was acknowledged is missed in the next
// listing, on no node, and nothing fails.
func TestShardsMoveWhileMailFlows(t *testing.T) {
	nodes := newCluster(t, 4)
	var accounts []tree.Account
	for i := range 4 {
		accounts = append(accounts, tree.Account(addAccount(t, nodes[0].Store, fmt.Sprintf("u%d@moves.example", i)).Number))
	}
	mail := newMail(t, nodes, accounts)
	defer mail.end()
	for range 3 { // each shard's place that is free goes round
		for id := uint32(1); id <= 4; id++ {
			sh, err := nodes[0].Directory().state.Shard(id)
			if err != nil {
				t.Fatal(err)
			}
			to := ""
			for _, n := range nodes {
				if !slices.Contains(sh.Voters, n.cfg.NodeID) {
					to = n.cfg.NodeID
				}
			}
			from := sh.Voters[rand.N(len(sh.Voters))]
			if err := nodes[rand.N(len(nodes))].Directory().MoveShard(t.Context(), id, from, to); err != nil {
				t.Fatalf("move of shard %d from %s to %s: %v", id, from, to, err)
			}
		}
		settle(t, nodes)
		if t.Failed() {
			return
		}
	}
	for _, n := range nodes { // what is left behind is gone
		shards, err := n.Directory().ShardRecords()
		if err != nil {
			t.Fatal(err)
		}
		for _, sh := range shards {
			if slices.Contains(sh.Voters, n.cfg.NodeID) {
				continue
			}
			eventually(t, "the folder goes", func() bool {
				_, err := os.Stat(n.folder(shardName(sh.Id)))
				return errors.Is(err, os.ErrNotExist)
			})
		}
	}
}

// TestAReplicaThatComesAgainVotesForNobody: a node that had a replica, dropped it and begins anew has forgotten what it promised. Until it has caught
// up it promises nothing, and it begins in the term that the last one ended in.
func TestAReplicaThatComesAgainVotesForNobody(t *testing.T) {
	nodes := newCluster(t, 4)
	sh, err := nodes[0].Directory().state.Shard(1)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(nodes, func(n *member) bool { return slices.Contains(sh.Voters, n.cfg.NodeID) && n.cfg.NodeID != "n1" })
	j := slices.IndexFunc(nodes, func(n *member) bool { return !slices.Contains(sh.Voters, n.cfg.NodeID) })
	from := nodes[i]
	if err := nodes[0].Directory().MoveShard(t.Context(), 1, from.cfg.NodeID, nodes[j].cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	settle(t, nodes)
	eventually(t, "the folder goes", func() bool {
		_, err := os.Stat(from.folder(shardName(1)))
		return errors.Is(err, os.ErrNotExist)
	})
	kind, term, err := from.note(shardName(1))
	if err != nil || kind != noteRemoved || term == 0 {
		t.Fatalf("it is noted %q, term %d: %v", kind, term, err)
	}
	// A restart does not take it for lost.
	from.close(t)
	from.open(t)
	r, err := from.Shards()[0].open(true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.group.Close()
	if !r.group.IsJoining() || r.group.Term() < term {
		t.Errorf("joining: %v, term %d; the last one ended in %d", r.group.IsJoining(), r.group.Term(), term)
	}
	if _, _, err := from.note(shardName(1)); err != nil {
		t.Error(err)
	}
}

func TestMovesThatCannotBe(t *testing.T) {
	nodes := newCluster(t, 1)
	d := nodes[0].Directory()
	for _, c := range []struct {
		shard    uint32
		from, to string
		errno    syscall.Errno
		says     string
	}{
		{9, "n1", "n1", syscall.ENOENT, "no shard 9"},
		{1, "n1", "n7", syscall.ENOENT, "node n7"},
		{1, "n1", "n1", syscall.EEXIST, "already"},
		{1, "n7", "n1", syscall.EINVAL, "not on n7"},
	} {
		err := d.MoveShard(t.Context(), c.shard, c.from, c.to)
		if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("shard %d from %s to %s: %v", c.shard, c.from, c.to, err)
		}
	}
}

// replicas tells which a shard has.
func (sh *Shard) replicas() string {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return fmt.Sprintf("one: %v, coming: %v, leaving: %v", sh.replica != nil, sh.coming != nil, sh.leaving)
}

// TestAnOldDirectoryChangesNoGroup: who leads a shard and has not heard what the directory says by now leaves the shard's members as they are.
func TestAnOldDirectoryChangesNoGroup(t *testing.T) {
	nodes := newCluster(t, 2)
	old := nodes[1]
	hold := make(chan struct{})
	cancel := old.directory.state.Subscribe(func(directory.Event) { <-hold }) // what comes is applied no more
	var release sync.Once
	defer cancel()
	defer release.Do(func() { close(hold) })
	nodes = append(nodes, newMember(t, "n3", nodes[0]))
	voters := func(sh *Shard) (list []string) {
		for _, m := range sh.local().group.Members() {
			if m.Voter {
				list = append(list, m.Node)
			}
		}
		return list
	}
	var sh *Shard
	eventually(t, "a shard to have three voters", func() bool {
		for _, s := range nodes[0].Shards() {
			if s.local() != nil && s.local().group.Leads() && len(voters(s)) == 3 {
				sh = s
				return true
			}
		}
		return false
	})
	if err := sh.local().group.TransferLeadership("n2"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * reconcileEvery); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if v := voters(sh); len(v) != 3 {
			t.Fatalf("by what was true before n3 came, the shard's voters are %v", v)
		}
	}
}

// TestALeadersDiskIsFull: what another node hands to a leader whose disk is almost full fails, and is not taken for the shard's answer: it may
// have been committed when it was tried before. One that does not lead says that, and nothing of its disk.
func TestALeadersDiskIsFull(t *testing.T) {
	nodes := newCluster(t, 2)
	nodes[0].close(t)
	nodes[0].cfg.MinFree = full
	nodes[0].open(t)
	sh := nodes[1].Shards()[0]
	eventually(t, "the full node to lead", func() bool {
		_ = sh.local().group.TransferLeadership("n1") // it may lead already
		return sh.local().group.Leader() == "n1"
	})
	cmd := &raftpb.Command{Op: &raftpb.Command_Link{Link: &raftpb.Link{}}}
	if r, err := nodes[1].NewProposer().ProposeIn(t.Context(), sh, cmd); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%+v, %v", r, err)
	}
	command, err := proto.Marshal(cmd)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the full node to follow", func() bool {
		here := nodes[0].Shards()[0].local().group
		_ = here.TransferLeadership("n2")
		return here.Leader() == "n2"
	})
	_, err = (&peerServer{store: nodes[0].Store}).Propose(t.Context(), &peerpb.ProposeRequest{Group: shardName(1), Command: command})
	if !errors.Is(fromCode(err, group.ErrUncertain), group.ErrNoLeader) {
		t.Errorf("a follower whose disk is full: %v", err)
	}
}

// What a leader was handed may be committed though it broke then: the others may have it.
func TestALeaderThatBrokeIsUncertain(t *testing.T) {
	err := fromCode(toCode(fmt.Errorf("%w: its disk", group.ErrBroken)), group.ErrNoLeader)
	if !errors.Is(err, group.ErrUncertain) || errors.Is(err, group.ErrNoLeader) {
		t.Error(err)
	}
}

// TestNodesAreNotForgotten: the file of the nodes, by which they find each other when the directory's state has not all of them, loses none to
// such a state.
func TestNodesAreNotForgotten(t *testing.T) {
	n := newMember(t, "n1", nil)
	noted := func() map[string]transport.Member {
		b, err := os.ReadFile(filepath.Join(n.cfg.Dir, clusterFolder, nodesFile))
		known := map[string]transport.Member{}
		if err == nil {
			err = json.Unmarshal(b, &known)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return known
	}
	eventually(t, "n1 is noted", func() bool { return noted()["n1"].Address == n.cfg.Listen })
	n.close(t)
	other := transport.Member{Address: "[::1]:7"}
	b, err := json.Marshal(map[string]transport.Member{"n2": other})
	if err == nil {
		err = os.WriteFile(filepath.Join(n.cfg.Dir, clusterFolder, nodesFile), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.open(t)
	eventually(t, "n1 is noted again", func() bool { return noted()["n1"].Address == n.cfg.Listen })
	if m := noted()["n2"]; m.Address != other.Address {
		t.Errorf("the file has %+v as n2", m)
	}
	if m, ok := n.remembered("n2"); !ok || m.Address != other.Address {
		t.Errorf("n2: %+v, %v", m, ok)
	}
}
