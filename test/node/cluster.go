package node

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
)

// Cluster makes nodes n1, n2 and so on, of one cluster on the loopback, and starts them.
func Cluster(t testing.TB, count int, options ...Option) []*Node {
	t.Helper()
	return cluster(t, count, func(name string) Option { return Member(t, name) }, options)
}

func cluster(t testing.TB, count int, member func(name string) Option, options []Option) []*Node {
	t.Helper()
	var nodes []*Node
	for i := range count {
		n := New(t, append(slices.Clip(options), member(fmt.Sprint("n", i+1)))...)
		if i > 0 {
			n.Join(nodes[0])
		}
		n.Launch()
		if i == 0 { // the others come while those before them start
			n.Await()
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes[1:] {
		n.Await()
	}
	nodes[0].Eventually("as many nodes vote in every shard as may", func() bool { return Voting(nodes[0]) == min(count, 3) })
	return nodes
}

// Member makes a node that others can reach, under a name.
func Member(t testing.TB, name string) Option {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return func(n *Node) {
		n.Name = name
		n.flags = append(n.flags, "--node", name, "--cluster-listen", l.Addr().String())
	}
}

// Join makes the node, which does not run yet, one of another's cluster.
func (n *Node) Join(of *Node) {
	n.t.Helper()
	if a := n.TryJoin(strings.TrimSpace(of.Admin("token"))); a.Code != 0 {
		n.t.Fatalf("join: exit code %d\n%s%s", a.Code, a.Stdout, a.Stderr)
	}
}

// TryJoin is Join with a token, which may be refused.
func (n *Node) TryJoin(token string) Answer {
	n.t.Helper()
	return n.Try("", append([]string{"join", token, "--data", n.Data, "--mount", n.Mount, "--run", n.Run}, n.flags...)...)
}

// Voting is how many nodes vote in each shard, as the node sees it; 0 when not the same in all, or when one has no leader.
func Voting(n *Node) int {
	n.t.Helper()
	count := -1
	for _, line := range strings.Split(strings.TrimSpace(n.Admin("shard", "list")), "\n")[1:] {
		f := strings.Fields(line)
		voters := len(strings.Split(f[2], ","))
		if f[1] == "none" || count >= 0 && count != voters {
			return 0
		}
		count = voters
	}
	return count
}
