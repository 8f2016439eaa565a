package raftstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailraft/raftstore/group"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	return openStoreOn(t, dir, 0)
}

// full is a MinFree that no disk has: nothing may be added.
const full = 1 << 62

func openStoreOn(t testing.TB, dir string, minFree uint64) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{
		Dir: dir, NodeID: "n1", Shards: 2, UID: 5000, GID: 5000, MinFree: minFree, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func addAccount(t testing.TB, s *Store, address string) *raftpb.Account {
	t.Helper()
	local, domain, err := SplitAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Directory().AddDomain(t.Context(), domain); err != nil && !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	made, err := s.Directory().AddAccounts(t.Context(), []NewAccount{{LocalPart: local, Domain: domain}})
	if err != nil {
		t.Fatal(err)
	}
	return made[0]
}

// deliver commits a message into the account's new/.
func deliver(ctx context.Context, p *Proposer, a tree.Account, name string, content []byte) error {
	dir, err := p.store.Home(a).View().Lookup(tree.RootIno(a), "new")
	if err != nil {
		return err
	}
	ino, err := p.ReserveIno(ctx, a)
	if err != nil {
		return err
	}
	r, err := p.Propose(ctx, &raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(dir.Ino), Name: []byte(name), Inode: uint64(ino), Mode: syscall.S_IFREG | 0o600,
		Content: &raftpb.Content{Id: uint64(ino), SealedSize: uint64(len(content)), Size: uint64(len(content)), Inline: content},
	}}})
	if err != nil {
		return err
	}
	return r.Err()
}

func TestStoreKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a := tree.Account(addAccount(t, s, "alice@example.org").Number)
	p := s.NewProposer()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 50 {
				if err := deliver(t.Context(), p, a, fmt.Sprintf("%d.%d", w, i), []byte("sealed")); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir)
		sh, err := s.Shard(a)
		if err != nil {
			t.Fatal(err)
		}
		x, err := sh.View().FolderIndex(tree.RootIno(a), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Messages) != 400 || x.Folder.UIDNext != 401 {
			t.Fatalf("%d messages, UIDNEXT %d", len(x.Messages), x.Folder.UIDNext)
		}
	}
	s.Close()
}

func TestResolve(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	addAccount(t, s, "alice@example.org")
	addAccount(t, s, "bob@example.org")
	d := s.Directory()
	for _, al := range []struct {
		address string
		targets []string
	}{
		{"team@example.org", []string{"alice@example.org", "Bob@example.org", "alice+x@example.org"}},
		{"all@example.org", []string{"team@example.org", "bob@example.org"}},
	} {
		if err := d.AddAlias(t.Context(), al.address, al.targets); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		address, want, detail string
		err                   error
	}{
		{"alice@example.org", "alice", "", nil},
		{"ALICE@Example.ORG", "alice", "", nil},
		{"alice+lists@example.org", "alice", "lists", nil},
		{"team@example.org", "alice bob", "", nil},
		{"all@example.org", "bob alice", "", nil},
		{"all+x@example.org", "bob alice", "", nil},
		{"carol@example.org", "", "", ErrNoSuchAccount},
		{"alice@elsewhere.org", "", "", ErrNoSuchDomain},
		{"alice", "", "", ErrAddress},
		{"../x@example.org", "", "", ErrAddress},
		{"@example.org", "", "", ErrAddress},
	} {
		list, detail, err := d.Resolve(c.address)
		var names []string
		for _, a := range list {
			names = append(names, a.LocalPart)
		}
		if got := strings.Join(names, " "); got != c.want || detail != c.detail || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, detail %q, %v", c.address, got, detail, err)
		}
	}
}

// An account that aliases lead to stays until they are gone.
func TestAliasedAccountsStay(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	addAccount(t, s, "alice@example.org")
	addAccount(t, s, "bob@example.org")
	d, ctx := s.Directory(), t.Context()
	for alias, target := range map[string]string{"a@example.org": "ALICE@example.org", "b@example.org": "alice+b@example.org", "c@example.org": "bob@example.org"} {
		if err := d.AddAlias(ctx, alias, []string{target}); err != nil {
			t.Fatal(err)
		}
	}
	for _, alias := range []string{"a@example.org", "b@example.org"} {
		if err := d.RemoveAccount(ctx, "Alice", "example.org"); !errors.Is(err, ErrAliased) || !strings.Contains(err.Error(), alias) {
			t.Errorf("with %s: %v", alias, err)
		}
		if err := d.RemoveAlias(ctx, alias); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.RemoveAccount(ctx, "Alice", "example.org"); err != nil {
		t.Error(err)
	}
}

func TestDirectoryErrors(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	addAccount(t, s, "alice@example.org")
	d, ctx := s.Directory(), t.Context()
	if err := d.RemoveDomain(ctx, "example.org"); !errors.Is(err, ErrDomainInUse) {
		t.Error(err)
	}
	if err := d.AddDomain(ctx, "example.org"); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if _, err := d.AddAccounts(ctx, []NewAccount{{LocalPart: "bob", Domain: "example.org"}, {LocalPart: "alice", Domain: "example.org"}}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if _, err := d.FindAccount("bob", "example.org"); !errors.Is(err, ErrNoSuchAccount) {
		t.Error(err)
	}
	if err := d.RemoveAccount(ctx, "alice", "example.org"); err != nil {
		t.Error(err)
	}
	if err := d.RemoveAccount(ctx, "alice", "example.org"); !errors.Is(err, ErrNoSuchAccount) {
		t.Error(err)
	}
	if err := d.RemoveDomain(ctx, "example.org"); err != nil {
		t.Error(err)
	}
}

func TestFolderThatCannotBeOpened(t *testing.T) {
	whole := t.TempDir()
	s := openStore(t, whole)
	if _, err := Open(t.Context(), Config{Dir: whole, NodeID: "n1"}); !errors.Is(err, ErrLocked) {
		t.Errorf("second process: %v", err)
	}
	s.Close()
	if _, err := Open(t.Context(), Config{Dir: whole, NodeID: "n2"}); !errors.Is(err, group.ErrNotMember) {
		t.Errorf("another node's name: %v", err)
	}
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"other data":        {func(d string) error { os.Remove(d + "/FORMAT"); return os.WriteFile(d+"/x", nil, 0o600) }, "not empty"},
		"version":           {func(d string) error { return os.WriteFile(d+"/FORMAT", []byte("mailraft data 2, shards 2\n"), 0o600) }, "version 2"},
		"damaged format":    {func(d string) error { return os.WriteFile(d+"/FORMAT", []byte("mailraft date 1"), 0o600) }, "FORMAT"},
		"shards tampered":   {func(d string) error { return os.WriteFile(d+"/FORMAT", []byte("mailraft data 1, shards 0\n"), 0o600) }, "FORMAT"},
		"group lost":        {func(d string) error { return os.RemoveAll(d + "/shard-2") }, "shard-2"},
		"a file, no folder": {func(d string) error { os.RemoveAll(d); return os.WriteFile(d, nil, 0o600) }, "data folder"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), Config{Dir: dir, NodeID: "n1"})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A crash while the store is made leaves a folder that the next start goes on with.
func TestAStoreHalfMadeIsFinished(t *testing.T) {
	dir := t.TempDir()
	openStore(t, dir).Close()
	if err := os.Rename(filepath.Join(dir, formatFile), filepath.Join(dir, newFormatFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "shard-2")); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir).Close()
	if _, err := os.Stat(filepath.Join(dir, formatFile)); err != nil {
		t.Error(err)
	}
}

func BenchmarkDelivery(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, err := Open(b.Context(), Config{Dir: b.TempDir(), NodeID: "n1", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			p := s.NewProposer()
			var accounts []tree.Account
			for i := range 16 {
				accounts = append(accounts, tree.Account(addAccount(b, s, fmt.Sprintf("u%d@example.org", i)).Number))
			}
			content := make([]byte, 8<<10)
			rand.Read(content) // sealed, so it looks random
			start := time.Now()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for i := w; i < b.N; i += writers {
						if err := deliver(b.Context(), p, accounts[i%16], fmt.Sprint("m", i), content); err != nil {
							b.Error(err)
						}
					}
				}()
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "deliveries/s")
		})
	}
}

func TestCheckComparesDirectoryAndShards(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	a := addAccount(t, s, "alice@example.org")
	b := addAccount(t, s, "bob@example.org")
	if err := s.Directory().AddAlias(t.Context(), "team@example.org", []string{"bob@example.org"}); err != nil {
		t.Fatal(err)
	}
	p := s.NewProposer()
	if err := deliver(t.Context(), p, tree.Account(a.Number), "m1", []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	check := func() (found []string) {
		err := s.Check(func(first []byte) error {
			if string(first) != "sealed" {
				return errors.New("bad seal")
			}
			return nil
		}, func(p Problem) { found = append(found, fmt.Sprintf("%s: %s: %s", p.Group, p.Account, p.What)) })
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := check(); len(found) > 0 {
		t.Fatal(found)
	}
	if err := deliver(t.Context(), p, tree.Account(a.Number), "m2", []byte("plain")); err != nil {
		t.Fatal(err)
	}
	// Bob's tree goes, his directory entry stays; somebody's tree comes that the directory does not know.
	for _, cmd := range []*raftpb.Command{
		{Op: &raftpb.Command_RemoveAccount{RemoveAccount: &raftpb.RemoveAccount{Account: b.Number}}},
		{Op: &raftpb.Command_CreateAccount{CreateAccount: &raftpb.CreateAccount{Account: 77}}},
	} {
		if r, err := p.ProposeIn(t.Context(), s.shards[b.Shard-1], cmd); err != nil || r.Errno != 0 {
			t.Fatal(r, err)
		}
	}
	if err := s.directory.drop(t.Context(), b); err != nil { // as if the alias had come meanwhile
		t.Fatal(err)
	}
	found := strings.Join(check(), "\n")
	for _, want := range []string{"bad seal", "account 77", "alias leads nowhere"} {
		if !strings.Contains(found, want) {
			t.Errorf("%q is not among\n%s", want, found)
		}
	}
}

// Whoever caches what a store has is told when a snapshot replaces it, and of which shard.
func TestReplacedIsTold(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	a := addAccount(t, s, "alice@example.org")
	if _, err := s.Shard(tree.Account(a.Number)); err != nil {
		t.Fatal(err)
	}
	var told []tree.Event
	cancel := s.Subscribe(func(ev *tree.Event) { told = append(told, *ev) })
	listed := 0
	cancelListed := s.Directory().Subscribe(func(ev DirectoryEvent) {
		if ev.Replaced {
			listed++
		}
	})
	s.stop() // what is told here is told by the goroutine that applies, which has nothing to do any more
	s.done.Wait()
	s.each(func(_ int, g *group.Group) {
		if err := g.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	for range 2 {
		s.shards[1].replica.tree.Replaced()
		s.directory.state.Replaced()
		cancel()
		cancelListed()
	}
	// Where an account is, the directory said: of another any account may be elsewhere.
	if len(told) != 2 || !told[0].Replaced || told[0].Shard != 2 || !told[1].Replaced || told[1].Shard != 0 || listed != 1 {
		t.Errorf("told of %+v, and %d times of the directory", told, listed)
	}
	for n := range uint32(1000) {
		if s.directory.shards.get(n) != 0 {
			t.Errorf("account %d's shard is still known", n)
		}
	}
}
