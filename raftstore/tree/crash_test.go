package tree

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

var appliedKey = []byte{machine.PrefixMeta, 'a'}

// TestCrash loses, at any moment, what is not flushed: the state that is found then is the one after a batch, whole, and the
// rest of the log leads from there to where it led before.
func TestCrash(t *testing.T) {
	rapid.Check(t, crash)
}

func crash(t *rapid.T) {
	fs := vfs.NewCrashableMem()
	m := &model{tombs: 3, accounts: map[Account]*modelAccount{}}
	draw := newCommands(t, m)
	r := newReplica(t, fs, m.tombs)
	defer r.close()
	var log []logged
	states := map[uint64][32]byte{0: r.hash()}
	type point struct {
		fs      *vfs.MemFS
		flushed uint64 // what is certain to be there
	}
	var points []point
	index, flushed := uint64(0), uint64(0)
	unsynced := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "unsynced"), 0))

	t.Repeat(map[string]func(*rapid.T){
		"apply a batch": func(t *rapid.T) {
			draw.t = t
			for range 1 + draw.below(8, "batch") {
				cmd := draw.next()
				index++
				octets, err := proto.Marshal(cmd)
				if err != nil {
					t.Fatalf("marshal: %v", err)
				}
				log = append(log, logged{index, octets})
				m.apply(index, cmd)
				r.apply(index, cmd)
			}
			r.commitAt(index)
			states[index] = r.hash()
		},
		"flush": func(t *rapid.T) {
			if err := r.db.Flush(); err != nil {
				t.Fatalf("flush: %v", err)
			}
			flushed = index
		},
		"begin to flush": func(t *rapid.T) {
			if _, err := r.db.AsyncFlush(); err != nil {
				t.Fatalf("flush: %v", err)
			}
		},
		"crash": func(t *rapid.T) {
			percent := rapid.SampledFrom([]int{0, 0, 50, 100}).Draw(t, "survives")
			points = append(points, point{fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: unsynced}), flushed})
		},
	})
	for _, p := range points {
		recover := newReplica(t, p.fs, m.tombs)
		applied := recover.applied()
		if want, ok := states[applied]; !ok || recover.hash() != want || applied < p.flushed {
			t.Fatalf("after a crash the state is not that of a batch (applied %d, flushed %d)", applied, p.flushed)
		}
		if err := Check(recover.tree.View(), func(p Problem) { t.Fatalf("after a crash: %v", p) }); err != nil {
			t.Fatalf("check: %v", err)
		}
		for _, entry := range log[applied:] {
			var cmd raftpb.Command
			if err := proto.Unmarshal(entry.octets, &cmd); err != nil {
				t.Fatalf("unmarshal: %v", err)
			}
			recover.apply(entry.index, &cmd)
		}
		recover.commitAt(index)
		if recover.hash() != states[index] {
			t.Fatalf("after a crash the log leads elsewhere")
		}
		recover.close()
	}
}

// commitAt commits with the applied index, as package group does.
func (r *replica) commitAt(index uint64) {
	r.t.Helper()
	if r.batch == nil {
		return
	}
	if err := r.batch.Set(appliedKey, binary.BigEndian.AppendUint64(nil, index), nil); err != nil {
		r.t.Fatalf("set: %v", err)
	}
	r.commit()
}

func (r *replica) applied() uint64 {
	r.t.Helper()
	v, c, err := r.db.Get(appliedKey)
	if err == pebble.ErrNotFound {
		return 0
	}
	if err != nil {
		r.t.Fatalf("get: %v", err)
	}
	defer c.Close()
	return binary.BigEndian.Uint64(v)
}

func (r *replica) hash() [32]byte {
	r.t.Helper()
	snap := r.tree.View().snapshot()
	h, err := machine.Hash(context.Background(), snap, &pebble.IterOptions{LowerBound: []byte{prefixTree}, UpperBound: []byte{prefixLast + 1}}, nil)
	if err := errors.Join(err, snap.Close()); err != nil {
		r.t.Fatalf("hash: %v", err)
	}
	return h
}
