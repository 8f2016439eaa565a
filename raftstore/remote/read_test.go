package remote

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Every method of a Client answers as the replica's own View does, on random trees, and with errors alike.
func TestAnswersAreTheReplicas(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		l := newLocal(t)
		n := newNode(t, "n1", map[uint32]Replica{1: l})
		c := newClient(t, dir, to(n), ignore)
		index := uint64(0)
		apply := func(cmd *raftpb.Command) {
			index++
			c.Seen(index) // as after a proposal
			l.apply(index, cmd)
		}
		accounts := []tree.Account{1, 2, tree.MaxAccount}
		for _, a := range accounts {
			apply(makeAccount(a))
			apply(reserve(a))
		}
		next := map[tree.Account]uint64{}
		names := []string{"a", "b", "m1", "m2:2,S", ".F", "cur", "new", "tmp", "longer name"}
		draw := func() {
			a := rapid.SampledFrom(accounts).Draw(t, "account")
			ino := func() tree.Ino { return tree.MakeIno(a, rapid.Uint64Range(1, 8+next[a]).Draw(t, "inode")) }
			name := func() string { return rapid.SampledFrom(names).Draw(t, "name") }
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0, 1, 2, 3:
				mode := rapid.SampledFrom([]uint32{modeFile, modeFile, modeFile, modeDir, modeDir, modeLink}).Draw(t, "mode")
				var content []byte
				if mode == modeFile {
					content = bytes.Repeat([]byte{byte(next[a])}, rapid.SampledFrom([]int{0, 1, 1000, 64 << 10, 64<<10 + 1, 700 << 10}).Draw(t, "size"))
				}
				apply(create(ino(), tree.MakeIno(a, 8+next[a]), name(), mode, content))
				next[a]++
			case 4:
				apply(unlink(ino(), name(), rapid.Bool().Draw(t, "dir")))
			case 5, 6:
				apply(rename(ino(), name(), ino(), name()))
			case 7:
				apply(&raftpb.Command{Now: 3e18, Op: &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{
					Inode: uint64(ino()), Name: "user." + name(), Value: []byte(name()),
				}}})
			case 8:
				apply(&raftpb.Command{Now: 3e18, Op: &raftpb.Command_Link{Link: &raftpb.Link{
					Inode: uint64(ino()), Parent: uint64(ino()), Name: []byte(name()),
				}}})
			case 9:
				id := tree.MakeIno(a, 8+next[a])
				next[a]++
				b := bytes.Repeat([]byte{byte(next[a])}, 3000)
				apply(&raftpb.Command{Now: 3e18, Op: &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{
					Inode: uint64(ino()), Content: &raftpb.Content{Id: uint64(id), Size: 3000, SealedSize: 3000, Inline: b},
				}}})
			}
		}
		for range rapid.IntRange(1, 2).Draw(t, "rounds") {
			for range rapid.IntRange(1, 40).Draw(t, "commands") {
				draw()
			}
			since := tree.ModSeq(rapid.Uint64Range(0, index+1).Draw(t, "since"))
			same(t, "accounts", func(r tree.Reader) (any, error) {
				var list []tree.Account
				return &list, r.Accounts(func(a tree.Account) bool { list = append(list, a); return len(list) < 2 })
			}, l, c)
			for _, a := range append(accounts, 77) {
				same(t, "account", func(r tree.Reader) (any, error) { return r.Account(a) }, l, c)
				for n := range 10 + next[a] {
					compareInode(t, l, c, tree.MakeIno(a, n), since)
				}
			}
		}
	})
}

// compareInode compares all that can be asked of an inode.
func compareInode(t *rapid.T, l *local, c *Client, i tree.Ino, since tree.ModSeq) {
	same(t, "inode", func(r tree.Reader) (any, error) { return r.Inode(i) }, l, c)
	same(t, "path", func(r tree.Reader) (any, error) { return r.Path(i) }, l, c)
	same(t, "index", func(r tree.Reader) (any, error) { return r.FolderIndex(i, 0) }, l, c)
	same(t, "index since", func(r tree.Reader) (any, error) { return r.FolderIndex(i, since) }, l, c)
	same(t, "attributes", func(r tree.Reader) (any, error) { return r.Xattrs(i) }, l, c)
	same(t, "attribute", func(r tree.Reader) (any, error) { return r.Xattr(i, "user.a") }, l, c)
	for _, name := range []string{"a", "m1", "cur", "none"} {
		same(t, "name", func(r tree.Reader) (any, error) { return r.Lookup(i, name) }, l, c)
	}
	for _, from := range []string{"", "a", "cur"} {
		same(t, "directory", func(r tree.Reader) (any, error) {
			d, err := r.OpenDir(i)
			if err != nil {
				return nil, err
			}
			var list []tree.DirEntry
			read := func() {
				for de, ok := d.Next(); ok; de, ok = d.Next() {
					list = append(list, de)
				}
			}
			if from == "a" {
				d.Next()
			} else {
				read()
			}
			d.SeekAfter(from)
			read()
			return list, errors.Join(d.Err(), d.Close())
		}, l, c)
	}
	in, err := l.View().Inode(i)
	if err != nil || !in.IsRegular() {
		return
	}
	other := *in
	other.Content += 1 << 20 // no file has that
	same(t, "content", func(r tree.Reader) (any, error) { return r.ReadContent(in, nil) }, l, c)
	for _, in := range []*tree.Inode{in, &other} {
		if in.Content == 0 {
			continue
		}
		same(t, "open content", func(r tree.Reader) (any, error) {
			k, err := r.OpenContent(in)
			if err != nil {
				return nil, err
			}
			defer k.Close()
			b := make([]byte, 100)
			var all []any
			for _, off := range []int64{0, k.Size() - 50, k.Size(), k.Size() + 1, -1} {
				n, err := k.ReadAt(b, max(off, -1))
				all = append(all, string(b[:n]), fmt.Sprint(err))
			}
			return all, nil
		}, l, c)
	}
}

func same(t *rapid.T, what string, read func(tree.Reader) (any, error), l *local, c *Client) {
	t.Helper()
	want, wantErr := read(l.View())
	got, err := read(c)
	if err != wantErr {
		t.Fatalf("%s: error %v, want %v", what, err, wantErr)
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		if d := gocmp.Diff(want, got); d != "" {
			t.Fatalf("%s differs (-want +got):\n%s", what, d)
		}
	}
}

// What can't be read is EIO or ETIMEDOUT, and nothing that the tree says: in time, and whatever the transport's error holds.
func TestAFailureIsNoAnswer(t *testing.T) {
	l := newLocal(t)
	l.apply(1, makeAccount(1))
	check := func(what string, c *Client, want syscall.Errno) {
		t.Helper()
		c.limit, c.try = 300*time.Millisecond, 100*time.Millisecond
		_, err := c.Lookup(tree.RootIno(1), "none")
		if !errors.Is(err, want) || errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if _, err := c.OpenDir(tree.RootIno(1)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	n := newNode(t, "n1", map[uint32]Replica{2: l})
	check("a node without the shard", newClient(t, t.TempDir(), to(n), ignore), syscall.EIO)
	n = newNode(t, "n1", map[uint32]Replica{1: l})
	behind := newClient(t, t.TempDir(), to(n), ignore)
	behind.Seen(2)
	check("a replica that is behind", behind, syscall.ETIMEDOUT)
	n.stop()
	check("a dead node", newClient(t, t.TempDir(), to(n), ignore), syscall.EIO)
	closed := newClient(t, t.TempDir(), to(n), ignore)
	closed.Close()
	check("a closed reader", closed, syscall.EIO)
}

// A replica that dies while a directory is read, and a content, is followed by the next; one that is behind is waited for.
func TestAnotherReplicaGoesOn(t *testing.T) {
	a, b := newLocal(t), newLocal(t)
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	var log []*raftpb.Command
	log = append(log, makeAccount(1), reserve(1))
	cur := tree.MakeIno(1, 2)
	for i := range 2000 {
		log = append(log, create(cur, tree.MakeIno(1, 100+uint64(i)), fmt.Sprintf("m%04d", i), modeFile, nil))
	}
	file := tree.MakeIno(1, 99)
	log = append(log, create(tree.RootIno(1), file, "big", modeFile, big))
	for i, cmd := range log {
		a.apply(uint64(i+1), cmd)
	}
	first, second := newNode(t, "first", map[uint32]Replica{1: a}), newNode(t, "second", map[uint32]Replica{1: b})
	c := newClient(t, t.TempDir(), to(first, second), ignore)
	c.Seen(uint64(len(log)))
	c.cache.kinds[inFile].limit = 0 // read from the node as it is asked for
	dir, err := c.OpenDir(cur)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	in, err := c.Inode(file)
	if err != nil {
		t.Fatal(err)
	}
	k, err := c.OpenContent(in)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	got := make([]byte, len(big))
	if _, err := k.ReadAt(got[:1000], 0); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for de, ok := dir.Next(); ok; de, ok = dir.Next() {
		if want := fmt.Sprintf("m%04d", seen); de.Name != want {
			t.Fatalf("%s, want %s", de.Name, want)
		}
		if seen++; seen == 100 {
			first.stop()
			go func() {
				for i, cmd := range log {
					b.apply(uint64(i+1), cmd)
				}
			}()
		}
	}
	if err := dir.Err(); err != nil || seen != 2000 {
		t.Errorf("%d names, %v", seen, err)
	}
	if _, err := k.ReadAt(got[1000:], 1000); err != nil || !bytes.Equal(got, big) {
		t.Error(err)
	}
}
