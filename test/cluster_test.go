package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"mailraft/test/client"
	"mailraft/test/node"
)

// homeOn is an account's home as another node mounts it.
func homeOn(n *node.Node, address string) string {
	local, domain, _ := strings.Cut(address, "@")
	return filepath.Join(n.Mount, domain, local)
}

// deliverTo delivers a message as a maildir program does.
func deliverTo(home, name string) error {
	tmp := filepath.Join(home, "tmp", name)
	if err := os.WriteFile(tmp, []byte("Subject: "+name+"\r\n\r\nText.\r\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Link(tmp, filepath.Join(home, "new", name))
}

func names(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Name()] = true
	}
	return found
}

// TestIdleHearsOfAnotherNode: a client that idles on one node is told of a delivery on another, and reads it there.
func TestIdleHearsOfAnotherNode(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 3)
	a := nodes[0].AddAccount("alice@cluster.example")
	news := make(chan struct{}, 10)
	c, err := imapclient.DialInsecure(nodes[2].IMAP, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				news <- struct{}{}
			}
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(a.Address, a.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := deliverTo(homeOn(nodes[1], a.Address), "1.idle"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-news:
		t.Log("heard after", time.Since(begun))
	case <-time.After(5 * time.Second):
		t.Fatal("the client was not told")
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestANodeDies kills a node while mail comes in at another. Nothing that was acknowledged is lost, what waits goes on soon, and the
// node has it all when it is back.
func TestANodeDies(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 3)
	a := nodes[1].AddAccount("alice@cluster.example")
	var stop atomic.Bool
	type result struct {
		acknowledged []string
		longest      time.Duration
		err          error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		for i := 0; !stop.Load(); i++ {
			name, begun := fmt.Sprintf("%d.storm", i), time.Now()
			if r.err = deliverTo(homeOn(nodes[1], a.Address), name); r.err != nil {
				break
			}
			r.longest = max(r.longest, time.Since(begun))
			r.acknowledged = append(r.acknowledged, name)
		}
		done <- r
	}()
	for _, i := range []int{0, 2} { // one of them leads, sooner or later, where this mail goes
		nodes[i].Kill()
		nodes[1].Eventually("mail goes on", func() bool {
			return os.WriteFile(filepath.Join(homeOn(nodes[1], a.Address), "probe"), nil, 0o600) == nil
		})
		nodes[i].Start()
		nodes[1].Eventually("the node is back", func() bool { return node.Voting(nodes[i]) == 3 })
	}
	stop.Store(true)
	r := <-done
	if r.err != nil {
		t.Fatalf("after %d deliveries: %v", len(r.acknowledged), r.err)
	}
	t.Logf("%d delivered, the longest took %v", len(r.acknowledged), r.longest)
	if r.longest > 3*time.Second {
		t.Errorf("a delivery took %v", r.longest)
	}
	for _, n := range nodes {
		found := names(t, filepath.Join(homeOn(n, a.Address), "new"))
		for _, name := range r.acknowledged {
			if !found[name] {
				t.Errorf("%s was acknowledged, and is lost on %s", name, n.Name)
			}
		}
		if len(found) != len(r.acknowledged) {
			t.Errorf("%s has %d messages, %d were delivered", n.Name, len(found), len(r.acknowledged))
		}
		n.Fsck()
	}
}

// TestWithoutAQuorum kills two of three nodes: writing fails in time and then at once, and comes back with them.
func TestWithoutAQuorum(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 3)
	a := nodes[0].AddAccount("alice@cluster.example")
	home := homeOn(nodes[0], a.Address)
	if err := deliverTo(home, "1.before"); err != nil {
		t.Fatal(err)
	}
	nodes[1].Kill()
	nodes[2].Kill()
	for i, most := range []time.Duration{10 * time.Second, time.Second} {
		begun := time.Now()
		err := deliverTo(home, fmt.Sprintf("%d.without", i))
		if took := time.Since(begun); !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ETIMEDOUT) || took > most {
			t.Errorf("delivery %d without a quorum: %v after %v", i, err, took)
		}
	}
	unsure(t, nodes[0], a)
	if a := nodes[0].Try("", "status"); !strings.Contains(a.Stdout, "PROBLEM: Node n2") || !strings.Contains(a.Stdout, "has no quorum") {
		t.Errorf("the status is\n%s%s", a.Stdout, a.Stderr)
	}
	if _, err := os.Stat(filepath.Join(home, "new", "1.before")); err != nil {
		t.Error("what is here is not found:", err)
	}
	nodes[1].Start()
	nodes[0].Eventually("mail goes on", func() bool { return deliverTo(home, "2.after") == nil })
	if found := names(t, filepath.Join(homeOn(nodes[1], a.Address), "new")); !found["1.before"] || !found["2.after"] {
		t.Errorf("the node that came back has %v", found)
	}
	nodes[2].Start()
	// All of them die at once, and come back.
	for _, n := range nodes {
		n.Kill()
	}
	for _, n := range nodes {
		n.Launch()
	}
	for _, n := range nodes {
		n.AwaitLog(0, "serving")
	}
	nodes[2].Eventually("mail goes on", func() bool { return deliverTo(homeOn(nodes[2], a.Address), "3.again") == nil })
	if found := names(t, filepath.Join(home, "new")); !found["1.before"] || !found["2.after"] || !found["3.again"] {
		t.Errorf("after all had died: %v", found)
	}
}

// unsure: without a quorum nobody is said not to exist, nor refused: another node may know better.
func unsure(t *testing.T, n *node.Node, a node.Account) {
	t.Helper()
	s, err := client.DialSMTP(n.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct{ command, want string }{
		{"MAIL FROM:<>", "250"},
		{"RCPT TO:<" + a.Address + ">", "250"},
		{"RCPT TO:<nobody@cluster.example>", "451 4.3.0"},
		{"RCPT TO:<nobody@nowhere.example>", "451 4.3.0"},
	} {
		if r, err := s.Command("%s", c.command); err != nil || !r.Begins(c.want) {
			t.Errorf("%s without a quorum: %q, %v", c.command, r, err)
		}
	}
	i, err := client.DialIMAP(n.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, user := range []string{a.Address, "nobody@cluster.example"} {
		if err := i.Login(user, "wrong"); err == nil || !strings.Contains(err.Error(), "[UNAVAILABLE]") {
			t.Errorf("%s with a wrong password, without a quorum: %v", user, err)
		}
	}
	if err := i.Login(a.Address, a.Password); err != nil {
		t.Error("what is known here, without a quorum:", err)
	}
}

// TestADeadNodeIsReplaced: after a while another votes instead of a node that does not answer, and so the next one may die.
func TestADeadNodeIsReplaced(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 4, node.Flags("--cluster-replace-after", "2s"))
	a := nodes[0].AddAccount("alice@cluster.example")
	nodes[1].Kill()
	nodes[0].Eventually("others vote", func() bool {
		list := nodes[0].Admin("shard", "list")
		for _, line := range strings.Split(list, "\n") {
			if f := strings.Fields(line); len(f) > 3 && strings.Contains(f[2], "n2") {
				return false
			}
		}
		return node.Voting(nodes[0]) == 3
	})
	nodes[2].Kill()
	nodes[0].Eventually("mail goes on", func() bool { return deliverTo(homeOn(nodes[0], a.Address), "1.message") == nil })
	for _, n := range nodes[1:3] {
		n.Start()
	}
	for _, n := range nodes {
		if found := names(t, filepath.Join(homeOn(n, a.Address), "new")); !found["1.message"] {
			t.Errorf("%s has %v", n.Name, found)
		}
	}
}

// TestWhoMayJoin: a token lets one machine in, once; a node that was removed is refused.
func TestWhoMayJoin(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 3)
	token := strings.TrimSpace(nodes[2].Admin("token", "--expires", "1m"))
	fourth := node.New(t, node.Member(t, "n4"))
	if a := fourth.TryJoin(token[:len(token)-4]); a.Code == 0 || !strings.Contains(a.Stderr, "cut off") {
		t.Errorf("half a token: %+v", a)
	}
	taken := node.New(t, node.Member(t, "n1"))
	if a := taken.TryJoin(token); a.Code == 0 || !strings.Contains(a.Stderr, "n1") {
		t.Errorf("a name that is taken: %+v", a)
	}
	if a := fourth.TryJoin(token); a.Code != 0 {
		t.Fatalf("join: %+v", a)
	}
	late := node.New(t, node.Member(t, "n5"))
	if a := late.TryJoin(token); a.Code == 0 || !strings.Contains(a.Stderr, "was used") {
		t.Errorf("a token that was used: %+v", a)
	}
	fourth.Start() // it has no copy yet, and shows everything
	a := fourth.AddAccount("alice@cluster.example")
	if err := deliverTo(homeOn(nodes[0], a.Address), "1.first"); err != nil {
		t.Fatal(err)
	}
	if found := names(t, filepath.Join(homeOn(fourth, a.Address), "new")); !found["1.first"] {
		t.Errorf("the fourth node has %v", found)
	}
	// The first goes for good, and the fourth votes in its place.
	nodes[1].Admin("node", "remove", "n1")
	fourth.Eventually("the fourth node votes", func() bool {
		list := fourth.Admin("shard", "list")
		return node.Voting(fourth) == 3 && !strings.Contains(list, "n1") && strings.Count(list, "n4") >= 4
	})
	if err := deliverTo(homeOn(fourth, a.Address), "2.second"); err != nil {
		t.Error(err)
	}
	if err := deliverTo(homeOn(nodes[0], a.Address), "3.third"); err == nil {
		t.Error("a node that was removed still writes")
	}
}
