package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

var (
	appliedKey = []byte{machine.PrefixMeta, 'a'} // the index of the last applied command, 8 octets
	flushedKey = []byte{machine.PrefixMeta, 's'} // the index of the last snapshot that was noted of this state, 8 octets
)

// fsm is the raft.FSM: it turns the entries that Raft has committed into one batch.
type fsm struct {
	g        *Group
	requests *requests
	flushed  uint64 // index of the last snapshot that was noted when the state was opened
}

func newFSM(g *Group) (*fsm, error) {
	f := &fsm{g: g}
	err := f.load()
	f.pass()
	return f, err
}

// load reads what the store says of itself.
func (f *fsm) load() error {
	h := f.g.store.Acquire()
	defer h.Release()
	applied, err := readIndex(h, appliedKey)
	if err != nil {
		return err
	}
	if f.flushed, err = readIndex(h, flushedKey); err != nil {
		return err
	}
	f.g.applied.Store(applied)
	f.g.hints.committed(&raft.Log{Index: applied}) // its term is not known, so nobody is told
	f.requests, err = loadRequests(h)
	return err
}

// pass notes what a state shows that came whole: all up to its snapshot, whose last entry need not be a command.
func (f *fsm) pass() { f.g.passed.raise(max(f.g.applied.Load(), f.flushed)) }

func readIndex(r pebble.Reader, key []byte) (uint64, error) {
	v, c, err := r.Get(key)
	if err == pebble.ErrNotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if len(v) != 8 {
		return 0, fmt.Errorf("stored record is corrupt: index %q is %d octets long", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM: one Pebble batch for all that one round committed.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	last := logs[len(logs)-1]
	if err := f.g.logs.awaitStored(last.Index); err != nil {
		f.g.fail(err)
	} else {
		f.g.hints.committed(last) // before it is applied here: the others apply it meanwhile
	}
	for done := 0; done < len(logs); {
		n, marked := len(logs)-done, f.g.marks.waiting.Load() > 0
		if marked { // one by one: a mark's state is that behind it
			n = 1
		}
		if err := f.apply(logs[done:done+n], answers[done:done+n]); err != nil {
			f.g.fail(err)
			break
		}
		if marked && f.g.Err() == nil {
			f.g.marks.take(f.g.store, logs[done])
		}
		done += n
	}
	if err := f.g.Err(); err != nil {
		for i := range answers {
			answers[i] = err
		}
		return answers
	}
	f.g.passed.raise(last.Index)
	select {
	case <-f.g.started:
		if !f.g.Leads() { // who leads has it to send yet
			f.g.recent.forget(last.Index)
		}
	default:
	}
	return answers
}

func (f *fsm) apply(logs []*raft.Log, answers []any) error {
	g := f.g
	if g.Err() != nil {
		return nil
	}
	h := g.store.Acquire()
	defer h.Release()
	b := h.NewIndexedBatch()
	defer b.Close()
	applied, octets := g.applied.Load(), 0
	var cmd raftpb.Command
	var forwarded []func()
	for i, l := range logs {
		if l.Type != raft.LogCommand || l.Index <= applied {
			continue
		}
		octets += len(l.Data)
		proto.Reset(&cmd)
		if err := (proto.UnmarshalOptions{}).Unmarshal(l.Data, &cmd); err != nil {
			return fmt.Errorf("entry %d: %w", l.Index, err)
		}
		if cmd.Version > machine.Version {
			return fmt.Errorf("entry %d has version %d, this program knows %d: upgrade it", l.Index, cmd.Version, machine.Version)
		}
		r, err := f.applyOne(b, l.Index, &cmd)
		if err != nil {
			return fmt.Errorf("entry %d: %w", l.Index, err)
		}
		answers[i], applied = r, l.Index
		if to := g.forwarded.take(cmd.Request); to != nil {
			forwarded = append(forwarded, func() { to <- r })
		}
	}
	if b.Empty() {
		return nil
	}
	b.Set(appliedKey, binary.BigEndian.AppendUint64(nil, applied), nil)
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	g.applied.Store(applied)
	g.machine.Committed()
	for _, answer := range forwarded {
		answer()
	}
	if g.pending.Add(int64(octets)) > g.cfg.CheckpointBytes {
		g.wantCheckpoint()
	}
	return nil
}

// applyOne applies a command once: a request that was applied before gets the answer it got then.
func (f *fsm) applyOne(b *pebble.Batch, index uint64, cmd *raftpb.Command) (machine.Result, error) {
	if cmd.Request == nil {
		return machine.Result{Errno: syscall.EINVAL, Index: index}, nil
	}
	if r, known := f.requests.find(cmd.Request); known {
		return r, nil
	}
	r, err := f.g.machine.Apply(b, index, cmd)
	if err == nil {
		f.requests.keep(b, cmd.Request, r)
	}
	return r, err
}

// Snapshot implements raft.FSM. The state is on disk already or will be: Persist flushes it.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.g.Err(); err != nil { // Raft goes on counting entries that were not applied
		return nil, err
	}
	return flusher{f.g}, nil
}

type flusher struct{ g *Group }

// Persist has the state that was applied so far on disk, with the snapshot's index; the sink takes no octets.
func (s flusher) Persist(to raft.SnapshotSink) error {
	h, err := s.g.snapshots.mark(to.(*sink).meta)
	if err == nil {
		err = errors.Join(s.g.flush(h), h.Release())
	}
	if err != nil {
		to.Cancel()
		return err
	}
	return to.Close()
}

// Release implements raft.FSMSnapshot.
func (flusher) Release() {}

// Restore implements raft.FSM: the state becomes that of the received snapshot, which lies in its folder.
func (f *fsm) Restore(r io.ReadCloser) error {
	if err := errors.Join(r.Close(), f.g.replaceState()); err != nil {
		return err
	}
	if err := f.load(); err != nil {
		return err
	}
	f.g.machine.Replaced()
	f.pass() // when that is told
	return nil
}
