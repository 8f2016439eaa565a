package group

import (
	"sync"

	"github.com/hashicorp/raft"
)

// recentLog keeps the entries that were stored last in memory: a leader sends each to the others, and a follower applies it, soon after it
// was stored; each would read it from the log's file. It holds what is not applied, and at the most recentOctets.
type recentLog struct {
	mu      sync.Mutex // held to copy a few words
	first   uint64     // index of the first of entries
	entries []*raft.Log
	octets  int
}

const recentOctets = 8 << 20

// stored takes in entries that follow one another and that Raft changes no more.
func (r *recentLog) stored(entries []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		if e.Index != r.first+uint64(len(r.entries)) {
			r.clear()
			r.first = e.Index
		}
		r.entries = append(r.entries, e)
		r.octets += len(e.Data)
	}
	for len(r.entries) > 0 && r.octets > recentOctets {
		r.drop()
	}
}

// forget drops the entries up to index.
func (r *recentLog) forget(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.entries) > 0 && r.first <= index {
		r.drop()
	}
	if len(r.entries) == 0 {
		r.entries = nil
	}
}

func (r *recentLog) get(index uint64, to *raft.Log) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index < r.first || index >= r.first+uint64(len(r.entries)) {
		return false
	}
	*to = *r.entries[index-r.first]
	return true
}

func (r *recentLog) drop() {
	r.octets -= len(r.entries[0].Data)
	r.entries[0] = nil
	r.entries = r.entries[1:]
	r.first++
}

func (r *recentLog) clear() { r.entries, r.octets = nil, 0 }

func (r *recentLog) forgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
}
