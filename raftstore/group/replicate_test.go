package group

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
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

// What the pipeline sends has all that the follower lacks, or the pipeline ends: nothing waits for commitTimeout.
func TestThePipelineSendsAll(t *testing.T) {
	c := startCluster(t, 3)
	g := c.leader()
	for seq := uint64(1); seq <= 2*maxBatch+10; seq++ {
		mustPropose(t, g, put(1, seq, seq, 1, nil))
	}
	last := g.raft.LastIndex()
	send := func(first uint64) (*raft.AppendEntriesRequest, error) {
		t.Helper()
		req := &raft.AppendEntriesRequest{PrevLogEntry: first - 1}
		for index := first; index < first+maxBatch; index++ {
			e := new(raft.Log)
			if err := g.logs.GetLog(index, e); err != nil {
				t.Fatal(err)
			}
			req.Entries = append(req.Entries, e)
		}
		_, err := (&pipeline{AppendPipeline: noPipeline{}, t: g.transport}).AppendEntries(req, nil)
		return req, err
	}
	if req, err := send(last - maxBatch - 10); err != nil || lastOf(req) != last || req.Entries[len(req.Entries)-1].Index != last {
		t.Errorf("%d entries up to %d, of %d: %v", len(req.Entries), lastOf(req), last, err)
	}
	if _, err := send(last - 2*maxBatch - 5); err != errBehind {
		t.Errorf("a follower that lacks more: %v", err)
	}
}

// noPipeline sends nothing.
type noPipeline struct{ raft.AppendPipeline }

func (noPipeline) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	return nil, nil
}

// Raft reads no answer after one that refuses. What it sends all the same does not wait for ever.
func TestAPipelineEndsWithARefusal(t *testing.T) {
	g := startCluster(t, 1).leader()
	listen := func() *raft.NetworkTransport {
		tr, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, 10*time.Second, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tr.Close() })
		return tr
	}
	from, to := listen(), listen()
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case rpc := <-to.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{}, nil)
			case <-over:
				return
			}
		}
	}()
	p, err := (&transport{Transport: from, g: g}).AppendEntriesPipeline("n1", to.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 10 {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 1}, new(raft.AppendEntriesResponse)); err != nil {
				return
			}
		}
		t.Error("it did not end")
	}()
	if f := <-p.Consumer(); f.Response().Success {
		t.Error("not refused")
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("it hangs")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
