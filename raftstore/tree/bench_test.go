package tree

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// benchTree is a tree over a store with the options of package group's, in memory.
func benchTree(b *testing.B) (*Tree, *pebble.DB) {
	b.Helper()
	cache := pebble.NewCache(256 << 20)
	defer cache.Unref()
	o := &pebble.Options{
		Cache: cache, DisableWAL: true, FS: vfs.NewMem(), MemTableSize: 32 << 20, MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 24, LBaseMaxBytes: 128 << 20,
		FormatMajorVersion: pebble.FormatNewest, Logger: quiet{},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 8 << 10
	}
	db, err := pebble.Open("", o)
	if err != nil {
		b.Fatal(err)
	}
	s := machine.NewStore(db)
	b.Cleanup(func() { s.Close() })
	return New(s), db
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// fill applies n commands, in batches of the given size, to a new account 1 whose inode numbers up to 2^30 are reserved.
func fill(b *testing.B, t *Tree, db *pebble.DB, from, n, batch int, cmd func(i int) *raftpb.Command) {
	b.Helper()
	for i := from; i < from+n; {
		w := db.NewIndexedBatch()
		for range min(batch, from+n-i) {
			r, err := t.Apply(w, uint64(i+10), cmd(i))
			if err != nil || r.Errno != 0 {
				b.Fatal(i, r.Errno, err)
			}
			i++
		}
		if err := w.Commit(pebble.NoSync); err != nil {
			b.Fatal(err)
		}
		t.Committed()
		w.Close()
	}
}

func benchAccount(b *testing.B, t *Tree, db *pebble.DB) {
	fill(b, t, db, 0, 1, 1, func(int) *raftpb.Command {
		return &raftpb.Command{Now: 1e18, Op: &raftpb.Command_CreateAccount{CreateAccount: &raftpb.CreateAccount{Account: 1}}}
	})
	w := db.NewBatch()
	r := &AccountRecord{Account: 1, NextLocal: 1 << 30, UIDValidity: 1e9}
	w.Set(accountKey(1), r.appendTo(nil), nil)
	if err := w.Commit(pebble.NoSync); err != nil {
		b.Fatal(err)
	}
}

func delivery(i int, sealed []byte) *raftpb.Command {
	ino := uint64(MakeIno(1, uint64(firstLocal+i)))
	return &raftpb.Command{Now: 1e18 + int64(i), Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(MakeIno(1, 3)), Name: fmt.Appendf(nil, "%d.M%dP1Q%d.node1,S=8192", 1700000000+i, i*7919%1000000, i), Inode: ino,
		Mode: syscall.S_IFREG | 0o600, Uid: 1000, Gid: 1000,
		Content: &raftpb.Content{Id: ino, SealedSize: uint64(len(sealed)), Size: 8192, Inline: sealed},
	}}}
}

func BenchmarkDelivery(b *testing.B) {
	sealed := random[:8<<10]
	for _, batch := range []int{1, 16} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			t, db := benchTree(b)
			benchAccount(b, t, db)
			t.Committed()
			b.ReportAllocs()
			b.ResetTimer()
			fill(b, t, db, 1, b.N, batch, func(i int) *raftpb.Command { return delivery(i, sealed) })
		})
	}
}

const benchFolder = 100_000

// benchMessages is a tree with a folder of 100,000 messages, flushed.
func benchMessages(b *testing.B) *Tree {
	t, db := benchTree(b)
	benchAccount(b, t, db)
	fill(b, t, db, 1, benchFolder, 16, func(i int) *raftpb.Command { return delivery(i, []byte("sealed")) })
	if err := db.Flush(); err != nil {
		b.Fatal(err)
	}
	return t
}

func BenchmarkView(b *testing.B) {
	t := benchMessages(b)
	v := t.View()
	b.Run("Lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			c := delivery(1+i*7919%benchFolder, nil).GetCreate()
			if _, err := v.Lookup(Ino(c.Parent), string(c.Name)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("OpenDir", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			r, err := v.OpenDir(MakeIno(1, 3))
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for _, ok := r.Next(); ok; _, ok = r.Next() {
				n++
			}
			if err := r.Close(); err != nil || n != benchFolder {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("FolderIndex", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			x, err := v.FolderIndex(RootIno(1), 0)
			if err != nil || len(x.Messages) != benchFolder {
				b.Fatal(err)
			}
		}
	})
	b.Run("FolderIndexSince", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			x, err := v.FolderIndex(RootIno(1), ModSeq(benchFolder-990))
			if err != nil || len(x.Messages) != 1000 {
				b.Fatal(len(x.Messages), err)
			}
		}
	})
}
