package group

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// TestAFollowerCatchesUp: one that was away for some seconds, in which much was committed, has it all soon after it is back, also when
// nothing more is proposed.
func TestAFollowerCatchesUp(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	mustPropose(t, leader, put(1, 1, 0, 1, []byte("before")))
	i := c.other(leader)
	node := string(c.servers[i].ID)
	var up atomic.Bool
	c.stop(i)
	leader.PeerDown(node, func(string) bool { return up.Load() })
	<-time.After(2 * time.Second) // so that the pauses between tries would have grown
	var last uint64
	for seq := uint64(2); seq < 50*maxBatch; seq++ {
		last = mustPropose(t, leader, put(1, seq, 0, 1, fmt.Append(nil, seq))).Index
	}
	g := c.start(i)
	begun := time.Now()
	up.Store(true)
	leader.PeerUp(node)
	awaitApplied(t, g, last)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	} else {
		t.Log("it took", took)
	}
}
