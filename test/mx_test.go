package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailraft/test/client"
	"mailraft/test/node"
)

// TestMXStorm sends mail to three nodes, as to three MX hosts, while each is killed now and then and comes back, and the accounts move from
// shard to shard. A client that got no 250 sends the message again, to whichever node. What was acknowledged is there, no attempt is there
// twice, and all replicas are the same.
func TestMXStorm(t *testing.T) {
	t.Parallel()
	nodes := node.NewNetwork(t).Cluster(3)
	seed, messages := seedOf(t), int64(numberOf(t, "MAILRAFT_TEST_MX_MESSAGES", 3000))
	m := &mx{nodes: nodes, attempts: map[int64]bool{}}
	for i := range 4 {
		m.accounts = append(m.accounts, nodes[i%3].AddAccount(fmt.Sprintf("user%d@cluster.example", i)))
	}
	for i, n := range nodes {
		m.at[i].Store(&n.SMTP)
	}
	var clients sync.WaitGroup
	var next atomic.Int64
	for c := range 8 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(c)))
			links := make([]*client.SMTP, 3)
			for number := next.Add(1); number <= messages; number = next.Add(1) {
				for !m.try(links, rng.IntN(3), number) {
				}
			}
			for _, l := range links {
				if l != nil {
					l.Quit()
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		clients.Wait()
		close(ended)
	}()
	moving := moveAround(nodes, m.accounts)
	rng := rand.New(rand.NewPCG(seed, 100))
	kills := 0
	for going := true; going; {
		i := rng.IntN(3)
		nodes[i].Kill()
		kills++
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond) // as long as it is down
		nodes[i].Start()
		m.at[i].Store(&nodes[i].SMTP)
		select {
		case <-ended:
			going = false
		case <-time.After(time.Duration(500+rng.IntN(1500)) * time.Millisecond):
		}
	}
	moving.settled(t)
	t.Logf("%d messages, %d attempts, %d kills", messages, len(m.attempts), kills)
	m.inspect(t)
	sameEverywhere(t, nodes, m.accounts)
	for _, n := range nodes {
		n.Fsck()
	}
	compared(t, nodes[0])
}

// mx are three nodes that take mail.
type mx struct {
	nodes    []*node.Node
	accounts []node.Account
	at       [3]atomic.Pointer[string] // where each listens

	mu       sync.Mutex // held for a map operation
	attempts map[int64]bool
}

// try makes one attempt to send a message: whether it was acknowledged.
func (m *mx) try(links []*client.SMTP, on int, number int64) bool {
	if links[on] == nil {
		var err error
		if links[on], err = client.DialSMTP(*m.at[on].Load()); err != nil {
			time.Sleep(10 * time.Millisecond) // it is down
			return false
		}
	}
	m.mu.Lock()
	id := int64(len(m.attempts))
	m.attempts[id] = false
	m.mu.Unlock()
	text := fmt.Appendf(nil, "X-Attempt: %d\r\nX-Message: %d\r\n\r\n%s\r\n", id, number, strings.Repeat("Text. ", int(number%500)))
	answers, _, err := links[on].Deliver("sender@example.net", text, m.recipient(number).Address)
	if err != nil || len(answers) != 1 || !answers[0].OK() {
		links[on].Close()
		links[on] = nil
		return false
	}
	m.mu.Lock()
	m.attempts[id] = true
	m.mu.Unlock()
	return true
}

func (m *mx) recipient(number int64) node.Account { return m.accounts[number%int64(len(m.accounts))] }

// inspect reads all messages on one node's mount.
func (m *mx) inspect(t *testing.T) {
	found := map[int64]int{}
	for _, a := range m.accounts {
		m.nodes[0].Unlock(a)
		last := 0
		index, err := os.ReadFile(filepath.Join(homeOn(m.nodes[0], a.Address), ".mailraft-index"))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(index)), "\n")[1:] {
			fields := strings.Fields(line)
			uid, err := strconv.Atoi(fields[0])
			if err != nil || uid <= last {
				t.Errorf("%s: UID %s after %d", a.Address, fields[0], last)
			}
			last = uid
			text, err := os.ReadFile(filepath.Join(homeOn(m.nodes[0], a.Address), fields[4]))
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := bytes.Cut(text, []byte("X-Attempt: "))
			id, err := strconv.ParseInt(string(rest[:max(0, bytes.IndexByte(rest, '\r'))]), 10, 64)
			if err != nil {
				t.Errorf("%s: %.100q is no message of this test", fields[4], text)
			}
			found[id]++
		}
	}
	broken := 0
	for id, acked := range m.attempts {
		switch {
		case acked && found[id] == 0:
			t.Errorf("attempt %d was acknowledged, and is lost", id)
		case found[id] > 1:
			t.Errorf("attempt %d is there %d times", id, found[id])
		case !acked && found[id] == 1:
			broken++
		}
	}
	t.Logf("of the attempts that were not acknowledged, %d are there", broken)
}
