package test

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailraft/test/node"
)

// TestLeadersKilled kills one node after the other while mail comes to all shards: each shard that it led takes mail again within two
// seconds, and the others never stop.
func TestLeadersKilled(t *testing.T) {
	nodes := node.NewNetwork(t).Cluster(3)
	var on atomic.Int32 // the node that the mail is delivered on
	homes := oneInEachShard(t, nodes[0], 4)
	var mu sync.Mutex // for what follows
	longest := map[int]time.Duration{}
	var stop atomic.Bool
	var writers sync.WaitGroup
	for shard, a := range homes {
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				begun := time.Now()
				if err := deliverTo(homeOn(nodes[on.Load()], a.Address), fmt.Sprintf("%d.mail", i)); err != nil {
					t.Errorf("shard %d: %v", shard, err)
					return
				}
				mu.Lock()
				longest[shard] = max(longest[shard], time.Since(begun))
				mu.Unlock()
			}
		})
	}
	var led, others []time.Duration
	for kill := range numberOf(t, "MAILRAFT_TEST_LEADER_KILLS", 5) {
		victim := kill % 3
		on.Store(int32((victim + 1) % 3))
		nodes[0].Eventually("all vote", func() bool { return node.Voting(nodes[0]) == 3 })
		leaders := leadersOf(nodes[0])
		mu.Lock()
		clear(longest)
		mu.Unlock()
		nodes[victim].Kill()
		<-time.After(2 * time.Second) // in which each has to go on
		mu.Lock()
		for shard := range homes {
			took, goesOn := longest[shard]
			if !goesOn {
				t.Errorf("shard %d took no mail for 3s", shard)
			}
			if leaders[shard] == nodes[victim].Name {
				led = append(led, took)
			} else {
				others = append(others, took)
			}
		}
		mu.Unlock()
		nodes[victim].Start()
	}
	stop.Store(true)
	writers.Wait()
	t.Log("a delivery to a shard whose leader was killed took at most", spread(led))
	t.Log("to the other shards meanwhile", spread(others))
	if len(led) > 0 && led[len(led)-1] > 2*time.Second {
		t.Error("a shard took no mail for", led[len(led)-1])
	}
	if len(others) > 0 && others[len(others)-1] > time.Second {
		t.Error("a shard that kept its leader took no mail for", others[len(others)-1])
	}
}

// oneInEachShard makes an account in each of so many shards.
func oneInEachShard(t *testing.T, n *node.Node, shards int) map[int]node.Account {
	t.Helper()
	accounts := map[int]node.Account{}
	for i := 0; len(accounts) < shards && i < 10*shards; i++ {
		a := n.AddAccount(fmt.Sprintf("user%d@cluster.example", i))
		var shown struct{ Shard int }
		if err := json.Unmarshal([]byte(n.Admin("account", "quota", a.Address, "--json")), &shown); err != nil {
			t.Fatal(err)
		}
		accounts[shown.Shard] = a
	}
	return accounts
}
