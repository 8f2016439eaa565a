package group

import (
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
)

// script has a replica hear what a leader says, as if one did.
func script(t *testing.T, g *Group, leader string, term uint64, prev raft.Log, commit uint64, entries ...*raft.Log) {
	t.Helper()
	err := g.transport.say(&raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader), Addr: []byte(leader)},
		Term:      term, PrevLogEntry: prev.Index, PrevLogTerm: prev.Term, Entries: entries, LeaderCommitIndex: commit,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func entry(t *testing.T, index, term uint64, cmd proto.Message) *raft.Log {
	t.Helper()
	data, err := proto.Marshal(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data}
}

// A replica has an entry of a leader that was deposed, at an index where the next one has committed another. The hint at that one does
// nothing, since Raft compares the entry's term. Were it not compared, the replica would apply what was never committed, and comparing the
// replicas finds that.
func TestAHintAtAnotherEntry(t *testing.T) {
	for _, c := range []struct {
		what  string
		forge func(*raft.AppendEntriesRequest)
		same  bool
	}{
		{"as it is", forge, true},
		{"without the entry's term", func(req *raft.AppendEntriesRequest) { req.PrevLogEntry, req.PrevLogTerm = 0, 0 }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			defer func(was func(*raft.AppendEntriesRequest)) { forge = was }(forge)
			forge = c.forge
			cl := newCluster(t, 4)
			cl.joining = true
			replicas := []*Group{cl.start(0), cl.start(1)}
			all := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{Servers: cl.servers})}
			lost, kept := entry(t, 2, 1, put(1, 1, 1, 1, []byte("lost"))), entry(t, 2, 2, put(2, 1, 1, 1, []byte("kept")))
			for i, g := range replicas {
				script(t, g, "n3", 1, raft.Log{}, 1, all)
				if i == 0 {
					script(t, g, "n3", 1, *all, 1, lost)
				}
				script(t, g, "n2", 2, raft.Log{}, 0)
				g.handInOne(Hint{Term: 2, Index: 2, EntryTerm: 2}, "n2")
			}
			var sums [][32]byte
			session, mark := Mark()
			for _, g := range replicas {
				_, sum, err := g.Hash(t.Context(), session, func() error {
					script(t, g, "n2", 2, *all, 3, kept, entry(t, 3, 2, mark))
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				sums = append(sums, sum)
			}
			if same := sums[0] == sums[1]; same != c.same {
				t.Errorf("the replicas are the same: %v", same)
			}
		})
	}
}
