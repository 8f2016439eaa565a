package group

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// requests remembers what commands answered, by request id, until their proposer says that it has the answer (the floor of a
// later request of the same session; Ongaro's thesis, 6.3, calls it the session's lowest outstanding sequence number). It is
// part of the replicated state: key 'R', session (8), sequence (8); value index (8), errno (4), value (8), floor (8), all
// big endian. It lies in the store, and in memory as well.
type requests struct {
	sessions map[uint64]*session
}

type session struct {
	floor   uint64 // every sequence below was answered
	newest  uint64 // index of its last command
	results map[uint64]machine.Result
}

// maxSessions are kept; of more, the one that was silent for longest goes. A proposer makes one at each start.
const maxSessions = 4096

func loadRequests(r pebble.Reader) (*requests, error) {
	q := &requests{map[uint64]*session{}}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{machine.PrefixRequest}, UpperBound: []byte{machine.PrefixRequest + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		k, v := it.Key(), it.Value()
		if len(k) != 17 || len(v) != 28 {
			return nil, fmt.Errorf("stored record is corrupt: request %x", k)
		}
		s := q.session(binary.BigEndian.Uint64(k[1:]))
		r := machine.Result{
			Index: binary.BigEndian.Uint64(v), Errno: syscall.Errno(binary.BigEndian.Uint32(v[8:])), Value: binary.BigEndian.Uint64(v[12:]),
		}
		s.results[binary.BigEndian.Uint64(k[9:])] = r
		s.floor = max(s.floor, binary.BigEndian.Uint64(v[20:]))
		s.newest = max(s.newest, r.Index)
	}
	return q, it.Error()
}

func (q *requests) session(id uint64) *session {
	s := q.sessions[id]
	if s == nil {
		s = &session{results: map[uint64]machine.Result{}}
		q.sessions[id] = s
	}
	return s
}

// find answers what the request got when it was applied before. One below the floor has been answered, so nobody waits for it.
func (q *requests) find(r *raftpb.Request) (machine.Result, bool) {
	s := q.sessions[r.Session]
	if s == nil {
		return machine.Result{}, false
	}
	if r.Sequence < s.floor {
		return machine.Result{Errno: syscall.ESTALE}, true
	}
	result, ok := s.results[r.Sequence]
	return result, ok
}

// keep remembers an answer and forgets those below the request's floor.
func (q *requests) keep(b *pebble.Batch, r *raftpb.Request, result machine.Result) {
	s := q.session(r.Session)
	s.results[r.Sequence], s.newest = result, result.Index
	if floor := min(r.Floor, r.Sequence); floor > s.floor {
		for seq := range s.results { // few: those that were under way at once
			if seq < floor {
				delete(s.results, seq)
				b.Delete(requestKey(r.Session, seq), nil)
			}
		}
		s.floor = floor
	}
	v := make([]byte, 0, 28)
	v = binary.BigEndian.AppendUint64(v, result.Index)
	v = binary.BigEndian.AppendUint32(v, uint32(result.Errno))
	v = binary.BigEndian.AppendUint64(v, result.Value)
	v = binary.BigEndian.AppendUint64(v, s.floor)
	b.Set(requestKey(r.Session, r.Sequence), v, nil)
	if len(q.sessions) > maxSessions {
		q.evict(b)
	}
}

// evict forgets the session that was silent for longest.
func (q *requests) evict(b *pebble.Batch) {
	var oldest uint64
	var silent *session
	for id, s := range q.sessions {
		if silent == nil || s.newest < silent.newest {
			oldest, silent = id, s
		}
	}
	for seq := range silent.results {
		b.Delete(requestKey(oldest, seq), nil)
	}
	delete(q.sessions, oldest)
}

func requestKey(session, sequence uint64) []byte {
	k := make([]byte, 0, 17)
	k = append(k, machine.PrefixRequest)
	k = binary.BigEndian.AppendUint64(k, session)
	return binary.BigEndian.AppendUint64(k, sequence)
}
