package raftstore

import (
	"slices"
	"testing"

	"mailraft/raftstore/raftpb"
)

func TestPlace(t *testing.T) {
	node := func(id string, s raftpb.NodeState) *raftpb.PutNode { return &raftpb.PutNode{Id: id, State: s} }
	const active, draining, removed = raftpb.NodeState_NODE_STATE_ACTIVE, raftpb.NodeState_NODE_STATE_DRAINING, raftpb.NodeState_NODE_STATE_REMOVED
	for _, c := range []struct {
		what  string
		has   []string
		nodes []*raftpb.PutNode
		load  map[string]int
		want  []string
	}{
		{"one node", []string{"a"}, []*raftpb.PutNode{node("a", active)}, map[string]int{"a": 1}, []string{"a"}},
		{"a second one", []string{"a"}, []*raftpb.PutNode{node("a", active), node("b", active)}, map[string]int{"a": 1}, []string{"a", "b"}},
		{"those that vote stay", []string{"b", "c", "d"}, []*raftpb.PutNode{node("a", active), node("b", active), node("c", active), node("d", active)},
			map[string]int{"b": 9, "c": 9, "d": 9}, []string{"b", "c", "d"}},
		{"the least busy takes a place", []string{"a"}, []*raftpb.PutNode{node("a", active), node("b", active), node("c", active), node("d", active)},
			map[string]int{"a": 1, "b": 5, "c": 4, "d": 3}, []string{"a", "c", "d"}},
		{"one was removed", []string{"a", "b", "c"}, []*raftpb.PutNode{node("a", removed), node("b", active), node("c", active), node("d", active)},
			map[string]int{}, []string{"b", "c", "d"}},
		{"one drains", []string{"a", "b", "c"}, []*raftpb.PutNode{node("a", draining), node("b", active), node("c", active), node("d", active)},
			map[string]int{}, []string{"b", "c", "d"}},
		{"one drains, and nobody can take its place", []string{"a", "b", "c"}, []*raftpb.PutNode{node("a", draining), node("b", active), node("c", active)},
			map[string]int{}, []string{"a", "b", "c"}},
		{"one was removed, and nobody can take its place", []string{"a", "b", "c"}, []*raftpb.PutNode{node("a", removed), node("b", active), node("c", active)},
			map[string]int{}, []string{"b", "c"}},
	} {
		if got := place(c.has, c.nodes, c.load, rooms{}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
