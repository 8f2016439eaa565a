package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/test/node"
)

// moving has accounts move from shard to shard, each by a command on another node.
type moving struct {
	nodes    []*node.Node
	accounts []node.Account
	over     chan struct{}
	done     sync.WaitGroup
	moves    int
	failed   error // the first that was no success
}

// moveAround begins to have accounts move.
func moveAround(nodes []*node.Node, accounts []node.Account) *moving {
	m := &moving{nodes: nodes, accounts: accounts, over: make(chan struct{})}
	m.done.Go(m.run)
	return m
}

func (m *moving) run() {
	for n := 0; ; n++ {
		select {
		case <-m.over:
			return
		case <-time.After(100 * time.Millisecond): // else most of what is measured would be the commands' starting
		}
		shard, address := n/len(m.accounts)%4+1, m.accounts[n%len(m.accounts)].Address
		answer := m.nodes[n%len(m.nodes)].TryFor(20*time.Second, "account", "move", address, fmt.Sprint(shard))
		switch {
		case answer.Code == 0:
			m.moves++
		case m.failed == nil && !strings.Contains(answer.Stderr, "is in that shard"):
			m.failed = fmt.Errorf("moving %s to shard %d: exit code %d, %s", address, shard, answer.Code, answer.Stderr)
		}
	}
}

// end answers how many moves came to their end, and what went wrong first.
func (m *moving) end() (moves int, failed error) {
	close(m.over)
	m.done.Wait()
	return m.moves, m.failed
}

// settled ends what has begun while nodes failed, when they fail no more, and wants some to have been done.
func (m *moving) settled(t *testing.T) {
	t.Helper()
	moves, failed := m.end()
	m.nodes[0].Eventually("no account moves any more", func() bool {
		answer := m.nodes[0].TryFor(10*time.Second, "account", "list", "--json")
		return answer.Code == 0 && !strings.Contains(answer.Stdout, "moving_to")
	})
	t.Logf("%d times an account moved to another shard; the first that failed: %v", moves, failed)
	if moves == 0 {
		t.Error("no account has moved")
	}
}
