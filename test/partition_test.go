package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailraft/test/node"
)

// TestKilledInTheKernel kills a daemon whose thread waits in the kernel for a directory that somebody holds who waits for the daemon. It
// has to die all the same, and to come back.
func TestKilledInTheKernel(t *testing.T) {
	t.Parallel()
	network := node.NewNetwork(t)
	nodes := network.Cluster(3)
	a := nodes[0].AddAccount("alice@cluster.example")
	// Not the leader of the account's shard, so that it depends on another for each write.
	var mute *node.Node
	leaders := leadersOf(nodes[0])
	for _, n := range nodes {
		if n.Name != leaders[1] {
			mute = n
		}
	}
	var others []*node.Node
	for _, n := range nodes {
		if n != mute {
			others = append(others, n)
		}
	}
	const messages = 10
	for i := range messages {
		name := fmt.Sprintf("%d.known", i)
		if err := deliverTo(homeOn(others[0], a.Address), name); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(homeOn(mute, a.Address), "new", name)); err != nil { // its kernel knows it
			t.Fatal(err)
		}
	}
	network.Lose(mute, others[0])
	network.Lose(mute, others[1])
	held := make(chan error, 1)
	go func() { // holds the folder
		held <- os.WriteFile(filepath.Join(homeOn(mute, a.Address), "new", "0.held"), nil, 0o600)
	}()
	mute.Eventually("somebody waits for the daemon", func() bool { return inKernel(os.Getpid(), "request_wait_answer") })
	for i := range messages {
		if err := os.Remove(filepath.Join(homeOn(others[0], a.Address), "new", fmt.Sprintf("%d.known", i))); err != nil {
			t.Fatal(err)
		}
	}
	mute.Eventually("the daemon waits for the folder", func() bool { return inKernel(mute.PID(), "fuse_reverse_inval_entry") })
	mute.Kill()
	if err := <-held; err == nil {
		t.Error("the daemon that was killed made the file")
	}
	network.Heal()
	mute.Start()
	if err := deliverTo(homeOn(mute, a.Address), "0.after"); err != nil {
		t.Error(err)
	}
}

// inKernel tells whether a thread of the process is in that function of the kernel.
func inKernel(pid int, function string) bool {
	stacks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stack", pid))
	for _, path := range stacks {
		if b, _ := os.ReadFile(path); strings.Contains(string(b), function) { // the thread may have ended
			return true
		}
	}
	return false
}

// leadersOf are the leaders of the shards by their numbers, as a node knows them.
func leadersOf(n *node.Node) map[int]string {
	leaders := map[int]string{}
	for _, line := range strings.Split(strings.TrimSpace(n.Admin("shard", "list")), "\n")[1:] {
		var shard int
		var leader string
		if _, err := fmt.Sscan(line, &shard, &leader); err == nil {
			leaders[shard] = leader
		}
	}
	return leaders
}
