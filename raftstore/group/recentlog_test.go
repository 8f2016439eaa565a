package group

import (
	"testing"

	"github.com/hashicorp/raft"
)

func TestRecentLog(t *testing.T) {
	var r recentLog
	entry := func(index, term uint64, octets int) *raft.Log {
		return &raft.Log{Index: index, Term: term, Data: make([]byte, octets)}
	}
	has := func(index, term uint64) {
		t.Helper()
		var l raft.Log
		if found := r.get(index, &l); found != (term > 0) || l.Term != term {
			t.Errorf("entry %d: %v, term %d, want %d", index, found, l.Term, term)
		}
	}
	has(0, 0)
	r.stored([]*raft.Log{entry(5, 1, 10), entry(6, 1, 10), entry(7, 1, 10)})
	has(4, 0)
	has(5, 1)
	has(7, 1)
	has(8, 0)
	r.forget(5)
	has(5, 0)
	has(6, 1)
	r.stored([]*raft.Log{entry(7, 2, 10)}) // in place of one that another leader had
	has(6, 0)
	has(7, 2)
	r.stored([]*raft.Log{entry(8, 2, recentOctets), entry(9, 2, 1)})
	has(7, 0)
	has(8, 0)
	has(9, 2)
	r.forget(20)
	has(9, 0)
	if r.octets != 0 || r.entries != nil {
		t.Errorf("%d octets are left", r.octets)
	}
	r.stored([]*raft.Log{entry(10, 2, 1)})
	has(10, 2)
}
