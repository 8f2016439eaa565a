package group

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A replica that comes again takes in the group's log from the beginning, where its predecessor voted alone. When the leader goes away before
// the rest has come, it must not elect itself: what the others acknowledged since is not in its log.
func TestAReplicaThatComesAgainIsNotElected(t *testing.T) {
	c := newCluster(t, 2)
	c.joining = true
	for again := range 2 { // it makes no difference that it is started again
		g := c.start(0)
		if again == 0 {
			header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte("n1")}
			alone := raft.EncodeConfiguration(raft.Configuration{Servers: c.servers[:1]})
			err := g.transport.say(&raft.AppendEntriesRequest{
				RPCHeader: header, Term: 5, LeaderCommitIndex: 1,
				Entries: []*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: alone}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		awaitThat(t, "the configuration", g.IsMember)
		g.PeerDown("n1", func(string) bool { return false })
		for end := time.Now().Add(4 * g.cfg.Election); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if s := g.raft.State(); s != raft.Follower {
				t.Fatalf("it is %v in term %d, with a part of the log", s, g.raft.CurrentTerm())
			}
		}
		c.stop(0)
	}
}
