package group

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Replicas are compared at one index, while others are being applied. A mark is a command that does nothing, under a request id of its own:
// who waits for it takes a snapshot of the state when it has been applied, and before anything else is.

// Mark makes a mark, and the session that it is known by.
func Mark() (session uint64, cmd *raftpb.Command) {
	var b [8]byte
	rand.Read(b[:])
	session = binary.BigEndian.Uint64(b[:])
	return session, &raftpb.Command{Version: 1, Request: &raftpb.Request{Session: session, Sequence: 1, Floor: 1}}
}

// marks are those that somebody waits for.
type marks struct {
	waiting atomic.Int32
	mu      sync.Mutex // held for a map operation
	of      map[uint64]chan marked
}

// marked is the state of a replica that has applied a mark.
type marked struct {
	index uint64
	of    *machine.Handle
	state *pebble.Snapshot
}

func (m *marked) close() error { return errors.Join(m.state.Close(), m.of.Release()) }

func (m *marks) wait(session uint64) <-chan marked {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[uint64]chan marked{}
	}
	c := make(chan marked, 1)
	m.of[session] = c
	m.waiting.Add(1)
	return c
}

// leave ends the wait, also of a state that has come.
func (m *marks) leave(session uint64, c <-chan marked) error {
	m.mu.Lock()
	delete(m.of, session)
	m.waiting.Add(-1)
	m.mu.Unlock()
	select {
	case came := <-c:
		return came.close()
	default:
		return nil
	}
}

// take takes a snapshot if the entry, which has just been applied, is a mark that somebody waits for.
func (m *marks) take(store *machine.Store, l *raft.Log) {
	var cmd raftpb.Command
	if l.Type != raft.LogCommand || proto.Unmarshal(l.Data, &cmd) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.of[cmd.GetRequest().GetSession()]
	if c == nil {
		return
	}
	delete(m.of, cmd.Request.Session)
	h := store.Acquire()
	c <- marked{l.Index, h, h.NewSnapshot()}
}

// markPatience is how long a replica waits for a mark, which may be committed only after a new leader was elected.
const markPatience = 30 * time.Second

var errNoMark = errors.New("it has not applied what the others have")

// Hash answers the index at which this replica has applied a mark, and the SHA-256 of its state there: of all keys and values, each behind
// its length (4 octets, big endian), but for what is noted of this replica alone. ready is called when the replica waits for the mark, which
// may be proposed then, and not before. Errors: ready's, and whatever broke the replica, or kept the mark from it for 30 s.
func (g *Group) Hash(ctx context.Context, session uint64, ready func() error) (index uint64, sum [sha256.Size]byte, err error) {
	c := g.marks.wait(session)
	defer func() { err = errors.Join(err, g.marks.leave(session, c)) }()
	if err := ready(); err != nil {
		return 0, sum, err
	}
	late := time.NewTimer(markPatience)
	defer late.Stop()
	select {
	case <-late.C:
		return 0, sum, errNoMark
	case m := <-c:
		defer func() { err = errors.Join(err, m.close()) }()
		sum, err = machine.Hash(ctx, m.state, nil, flushedKey)
		return m.index, sum, err
	case <-g.failed:
		return 0, sum, g.Err()
	case <-g.stop:
		return 0, sum, ErrClosed
	case <-ctx.Done():
		return 0, sum, g.explain(ctx.Err())
	}
}
