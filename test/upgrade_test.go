package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mailraft/test/node"
)

// TestRollingUpgrade upgrades a cluster node by node to a program with which limiting an account is another command than before, which the one
// before does not know: mail flows all the time, and what is new is refused until the last node knows it.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	before := node.Program(t)
	after := node.Changed(t, "raftstore/machine/machine.go",
		"const Version = 5\n", "const Version = 6\n",
		"	switch op := cmd.Op.(type) {\n", "	switch op := cmd.Op.(type) {\n	case *raftpb.Command_SetQuota:\n		return 6\n")
	nodes := node.Cluster(t, 3)
	a := nodes[0].AddAccount("alice@upgrade.example")
	mail := 0
	flows := func() {
		t.Helper()
		for _, from := range nodes {
			mail++
			name := strings.Repeat("x", mail) + ".message"
			if err := deliverTo(homeOn(from, a.Address), name); err != nil {
				t.Fatalf("%s: %v", from.Name, err)
			}
			for _, to := range nodes {
				if found := names(t, filepath.Join(homeOn(to, a.Address), "new")); !found[name] || len(found) != mail {
					t.Fatalf("%s does not have the message from %s: %d are there", to.Name, from.Name, len(found))
				}
			}
		}
	}
	flows()
	for i, n := range nodes {
		n.Stop()
		node.Running(after)(n)
		n.Start()
		flows()
		if i == len(nodes)-1 {
			break
		}
		answer := n.Try("", "account", "quota", a.Address, "1G")
		if answer.Code == 0 || !strings.Contains(answer.Stderr, "n3") {
			t.Errorf("what the others can't do yet: exit code %d, %s", answer.Code, answer.Stderr)
		}
	}
	nodes[0].Eventually("what is new is done", func() bool { return nodes[0].Try("", "account", "quota", a.Address, "1G").Code == 0 })
	flows()
	// There is no way back.
	nodes[2].Stop()
	node.Running(before)(nodes[2])
	serve := nodes[2].Command()
	if wrote, err := exec.Command(serve[0], serve[1:]...).CombinedOutput(); err == nil || !strings.Contains(string(wrote), "newer version") {
		t.Errorf("the program of before ends with %v and says: %s", err, wrote)
	}
	fourth := node.New(t, node.Member(t, "n4"))
	if answer := fourth.TryJoin(strings.TrimSpace(nodes[0].Admin("token"))); answer.Code == 0 || !strings.Contains(answer.Stderr, "upgrade mailraft") {
		t.Errorf("a machine with the program of before joins: exit code %d, %s", answer.Code, answer.Stderr)
	}
}
