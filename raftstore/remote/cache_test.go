package remote

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"mailraft/raftstore/tree"
)

// counting is a replica that counts how often contents are opened, and how much is read of them.
type counting struct {
	*local
	opened, read atomic.Int64 // contents, and octets of them
}

type countingView struct {
	tree.Reader
	r *counting
}

func (r *counting) View() tree.Reader { return countingView{r.local.View(), r} }

func (v countingView) OpenContent(in *tree.Inode) (tree.ContentReader, error) {
	v.r.opened.Add(1)
	k, err := v.Reader.OpenContent(in)
	return countingContent{k, v.r}, err
}

type countingContent struct {
	tree.ContentReader
	r *counting
}

func (k countingContent) ReadAt(p []byte, off int64) (int, error) {
	k.r.read.Add(int64(len(p)))
	return k.ContentReader.ReadAt(p, off)
}

// contents is a replica with files of these sizes in an account's home, and a reader of it. Inode 100+n is file n.
func contents(t *testing.T, sizes ...int) (*counting, *Client, []*tree.Inode, [][]byte) {
	t.Helper()
	r := &counting{local: newLocal(t)}
	r.apply(1, makeAccount(1))
	r.apply(2, reserve(1))
	rng := rand.NewChaCha8([32]byte{1})
	c := newClient(t, t.TempDir(), to(newNode(t, "n1", map[uint32]Replica{1: r})), ignore)
	var list []*tree.Inode
	var want [][]byte
	for n, size := range sizes {
		b := make([]byte, size)
		rng.Read(b)
		i := tree.MakeIno(1, 100+uint64(n))
		if res := r.apply(uint64(3+n), create(tree.RootIno(1), i, fmt.Sprint(n), modeFile, b)); res.Errno != 0 {
			t.Fatal(res.Errno)
		}
		c.Seen(uint64(3 + n))
		in, err := c.Inode(i)
		if err != nil {
			t.Fatal(err)
		}
		list, want = append(list, in), append(want, b)
	}
	return r, c, list, want
}

func (c *Cache) used(kind int) (octets int64, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.kinds[kind].recent.Front(); at != nil; at = at.Next() {
		octets += int64(at.Value.(*cached).key.size)
	}
	if octets != c.kinds[kind].octets {
		panic(fmt.Sprintf("%d octets are cached, %d are counted", octets, c.kinds[kind].octets))
	}
	return octets, len(c.entries)
}

// Readers of one content at once share a transfer, those who come later need none; what is read is what is there, at random too.
func TestATransferIsShared(t *testing.T) {
	r, c, in, want := contents(t, 900<<10, 10<<10)
	for range 2 {
		var readers sync.WaitGroup
		for n := range 8 {
			readers.Go(func() {
				k, err := c.OpenContent(in[0])
				if err != nil {
					t.Error(err)
					return
				}
				defer k.Close()
				rng := rand.New(rand.NewPCG(1, uint64(n)))
				for range 20 {
					off := rng.IntN(len(want[0]) + 1)
					b := make([]byte, rng.IntN(200<<10))
					got, err := k.ReadAt(b, int64(off))
					if exp := want[0][off:min(off+len(b), len(want[0]))]; !bytes.Equal(b[:got], exp) || (err == io.EOF) != (got < len(b)) {
						t.Errorf("%d octets at %d: %v", got, off, err)
						return
					}
				}
				if b, err := c.ReadContent(in[1], nil); err != nil || !bytes.Equal(b, want[1]) {
					t.Error(err)
				}
			})
		}
		readers.Wait()
	}
	// Who opens a content while another does may have opened it in vain, but has not brought it.
	if got, all := r.read.Load(), int64(len(want[0])+len(want[1])); got != all {
		t.Errorf("%d octets were transferred, all there is are %d", got, all)
	}
	opened := r.opened.Load()
	for _, in := range in {
		b, err := c.ReadContent(in, nil)
		if err != nil || uint64(len(b)) != in.SealedSize {
			t.Error(err)
		}
	}
	if now := r.opened.Load(); now != opened {
		t.Errorf("opened %d times more when all was cached", now-opened)
	}
}

// The cache keeps to its bounds, also while contents are read that it has no room for.
func TestTheCacheIsBounded(t *testing.T) {
	sizes := make([]int, 14)
	for n := range sizes {
		sizes[n] = 20<<10 + n
		if n%2 == 0 {
			sizes[n] = 300<<10 + n
		}
	}
	_, c, in, want := contents(t, sizes...)
	c.cache.kinds[inMemory].limit, c.cache.kinds[inFile].limit = 100<<10, 1<<20
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(r)))
			for range 20 {
				n := rng.IntN(len(in))
				k, err := c.OpenContent(in[n])
				if sizes[n] <= maxInMemory {
					if err == nil {
						k.Close()
					}
					b, err := c.ReadContent(in[n], nil)
					if err != nil || !bytes.Equal(b, want[n]) {
						t.Error(err)
					}
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				b := make([]byte, 1+rng.IntN(sizes[n])) // some close before all has come
				if _, err := k.ReadAt(b, 0); err != nil || !bytes.Equal(b, want[n][:len(b)]) {
					t.Errorf("content %d: %v", n, err)
				}
				for kind, limit := range []int64{100 << 10, 1 << 20} {
					if octets, _ := c.cache.used(kind); octets > limit {
						t.Errorf("%d octets of kind %d are cached, the bound is %d", octets, kind, limit)
					}
				}
				k.Close()
			}
		})
	}
	readers.Wait()
	for kind := range 2 {
		if octets, count := c.cache.used(kind); octets == 0 || count == 0 {
			t.Errorf("nothing of kind %d is cached", kind)
		}
	}
	c.cache.forget(1)
	for kind := range 2 {
		if octets, count := c.cache.used(kind); octets != 0 || count != 0 {
			t.Errorf("%d octets, %d contents of an account are cached that was forgotten", octets, count)
		}
	}
}

// An open content can be read after its file has gone; and when the cache's disk has changed it, it is read from the node again.
func TestAnOpenContentStays(t *testing.T) {
	for _, room := range []int64{8 << 20, 0} {
		r, c, in, want := contents(t, 800<<10)
		c.cache.kinds[inFile].limit = room
		k, err := c.OpenContent(in[0])
		if err != nil {
			t.Fatal(err)
		}
		if room > 0 {
			e := k.(*content).e
			if err := e.filling.wait(int64(e.key.size)); err != nil {
				t.Fatal(err)
			}
			if _, err := e.file.WriteAt([]byte("damage"), 100<<10); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 800<<10)
			if n, err := k.ReadAt(b, 0); err != nil || !bytes.Equal(b[:n], want[0]) {
				t.Errorf("damaged: %d octets, %v", n, err)
			}
		}
		r.apply(10, unlink(tree.RootIno(1), "0", false))
		b := make([]byte, 800<<10)
		if n, err := k.ReadAt(b, 0); err != nil || !bytes.Equal(b[:n], want[0]) {
			t.Errorf("gone, with %d octets of room: %d octets, %v", room, n, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(c.cache.dir); err != nil || len(left) > 0 {
			t.Errorf("%v, %v are left in the cache's folder", left, err)
		}
	}
}
