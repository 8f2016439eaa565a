package raftstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// addRecord puts an account's record into the directory, as AddAccounts does before it makes the tree.
func addRecord(t testing.TB, s *Store, local, domain string, shard uint32) *raftpb.Account {
	t.Helper()
	if err := s.Directory().AddDomain(t.Context(), domain); err != nil && !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	n, err := s.directory.change(t.Context(), &raftpb.Command{Op: &raftpb.Command_AddAccounts{AddAccounts: &raftpb.AddAccounts{
		Accounts: []*raftpb.Account{{LocalPart: local, Domain: domain, Shard: shard}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Directory().Account(tree.Account(n))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// An account that is removed is what makes room on a full disk.
func TestAFullDiskTakesRemovals(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a := addAccount(t, s, "alice@example.org")
	half := addRecord(t, s, "half", "example.org", 1)
	lost := addRecord(t, s, "lost", "example.org", 99) // its shard is nowhere: it can't be finished
	s.Close()

	s = openStoreOn(t, dir, full)
	defer s.Close()
	d, ctx := s.Directory(), t.Context()
	if _, err := d.AddAccounts(ctx, []NewAccount{{LocalPart: "bob", Domain: "example.org"}}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("an account is made: %v", err)
	}
	if _, err := d.Account(tree.Account(half.Number)); !errors.Is(err, ErrNoSuchAccount) {
		t.Errorf("an account that was half made: %v", err)
	}
	if _, err := d.Account(tree.Account(lost.Number)); err != nil {
		t.Errorf("an account that can't be dropped: %v", err)
	}
	if err := d.RemoveAccount(ctx, "alice", "example.org"); err != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := s.shards[a.Shard-1].View().Account(tree.Account(a.Number)); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("her mail: %v", err)
	}
}

// treeThere waits until the account's tree is in its shard.
func treeThere(t testing.TB, s *Store, a *raftpb.Account) {
	t.Helper()
	view := s.shards[a.Shard-1].View()
	there := make(chan struct{})
	var once sync.Once
	defer s.Subscribe(func(*tree.Event) {
		if _, err := view.Account(tree.Account(a.Number)); err == nil {
			once.Do(func() { close(there) })
		}
	})()
	if _, err := view.Account(tree.Account(a.Number)); err == nil {
		return
	}
	select {
	case <-there:
	case <-time.After(20 * time.Second):
		t.Error("no tree")
	}
}

// Of accounts that are made together none takes mail before all can: one that can't be made would take it away again.
func TestAccountsBecomeActiveTogether(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	d := s.Directory()
	if err := d.AddDomain(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	for _, fails := range []bool{true, false} {
		var added []uint32
		cancel := d.Subscribe(func(ev DirectoryEvent) {
			if ev.Added && ev.Account != 0 {
				added = append(added, ev.Account)
			}
		})
		alice := make(chan uint32, 1)
		made, err := d.AddAccounts(t.Context(), []NewAccount{
			{LocalPart: "alice", Domain: "example.org", Keys: func(n uint32) (string, []*raftpb.Slot, error) {
				alice <- n
				return "hers", nil, nil
			}},
			{LocalPart: "bob", Domain: "example.org", Keys: func(uint32) (string, []*raftpb.Slot, error) {
				a, err := d.Account(tree.Account(<-alice))
				if err != nil {
					return "", nil, err
				}
				treeThere(t, s, a)
				if err := d.AddAlias(t.Context(), "x@example.org", nil); !errors.Is(err, syscall.EINVAL) { // a commit in the directory
					t.Error(err)
				}
				if _, err := d.FindAccount("alice", "example.org"); !errors.Is(err, ErrNoSuchAccount) {
					t.Errorf("alice takes mail already: %v", err)
				}
				if fails {
					return "", nil, syscall.ENOMEM
				}
				return "his", nil, nil
			}},
		})
		cancel()
		if !fails {
			if err != nil || len(made) != 2 || len(added) != 2 || made[0].Recipient != "hers" || made[1].Recipient != "his" || made[1].Number != made[0].Number+1 {
				t.Errorf("made %v, told of %v, %v", made, added, err)
			}
			continue
		}
		if !errors.Is(err, syscall.ENOMEM) || len(added) > 0 {
			t.Errorf("told of %v, %v", added, err)
		}
		nothingLeft(t, s)
	}
}

// nothingLeft looks for accounts, and for trees of accounts that there are not.
func nothingLeft(t testing.TB, s *Store) {
	t.Helper()
	if err := s.directory.state.AllAccounts(func(a *raftpb.Account) bool {
		t.Errorf("left behind: %v", a)
		return true
	}); err != nil {
		t.Error(err)
	}
	for _, sh := range s.shards {
		if err := sh.View().Accounts(func(n tree.Account) bool {
			t.Errorf("tree left behind: %d", n)
			return true
		}); err != nil {
			t.Error(err)
		}
	}
}

// An account that somebody removes while it is made leaves no tree.
func TestAnAccountRemovedWhileItIsMade(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	d := s.Directory()
	if err := d.AddDomain(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	_, err := d.AddAccounts(t.Context(), []NewAccount{{LocalPart: "alice", Domain: "example.org", Keys: func(uint32) (string, []*raftpb.Slot, error) {
		return "", nil, d.RemoveAccount(t.Context(), "alice", "example.org")
	}}})
	if !errors.Is(err, ErrNoSuchAccount) {
		t.Error(err)
	}
	nothingLeft(t, s)
}

// Accounts that became active although nobody was told so are made.
func TestAccountsWhoseAnswerIsLost(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	d := s.Directory()
	a := addAccount(t, s, "alice@example.org")
	if err := d.takeBack(t.Context(), []*raftpb.Account{a}); !errors.Is(err, errActive) {
		t.Error(err)
	}
	if _, err := d.FindAccount("alice", "example.org"); err != nil {
		t.Error(err)
	}
	// The caller's time ends while the account is made.
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.AddAccounts(ctx, []NewAccount{{LocalPart: "bob", Domain: "example.org", Keys: func(uint32) (string, []*raftpb.Slot, error) {
		cancel()
		return "his", nil, nil
	}}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := d.RemoveAccount(t.Context(), "alice", "example.org"); err != nil {
		t.Error(err)
	}
	nothingLeft(t, s)
}

// However an address is written, it is one: a domain in A-labels or U-labels, a local part composed or not.
func TestAddressesHaveOneForm(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	d, ctx := s.Directory(), t.Context()
	if err := d.AddDomain(ctx, "Bu\u0308cher.example"); err != nil {
		t.Fatal(err)
	}
	for _, domain := range []string{"bücher.example", "xn--bcher-kva.example", "BÜCHER。EXAMPLE"} {
		if err := d.AddDomain(ctx, domain); !errors.Is(err, ErrExists) {
			t.Errorf("domain %s: %v", domain, err)
		}
	}
	for _, domain := range []string{"b\xffcher.example", "a\u200bb..example", "-ü.example", "ü_.example"} {
		if err := d.AddDomain(ctx, domain); !errors.Is(err, ErrAddress) {
			t.Errorf("domain %q: %v", domain, err)
		}
	}
	if domains, err := d.Domains(); err != nil || len(domains) != 1 || domains[0].Name != "xn--bcher-kva.example" {
		t.Errorf("domains: %v, %v", domains, err)
	}
	made, err := d.AddAccounts(ctx, []NewAccount{{LocalPart: "Gru\u0308n", Domain: "Bücher.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if made[0].LocalPart != "grün" || made[0].Domain != "xn--bcher-kva.example" {
		t.Errorf("made %s@%s", made[0].LocalPart, made[0].Domain)
	}
	if err := d.AddAlias(ctx, "GRÜN@xn--bcher-kva.example", []string{"a@b.example"}); !errors.Is(err, ErrExists) {
		t.Errorf("alias for what is an account: %v", err)
	}
	if err := d.AddAlias(ctx, "alle@BÜCHER.example", []string{"Gru\u0308n@Bu\u0308cher.example"}); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"grün@bücher.example", "GRU\u0308N@xn--BCHER-kva.example", "Grün+x@Bu\u0308cher.Example.", "alle@bücher.example"} {
		if list, _, err := d.Resolve(address); err != nil || len(list) != 1 || list[0].Number != made[0].Number {
			t.Errorf("%s: %v, %v", address, list, err)
		}
	}
	if aliases, err := d.Aliases("xn--bcher-kva.example"); err != nil || len(aliases) != 1 || aliases[0].Targets[0] != "grün@xn--bcher-kva.example" {
		t.Errorf("aliases: %v, %v", aliases, err)
	}
	if err := d.RemoveAlias(ctx, "alle@bücher.example"); err != nil {
		t.Error(err)
	}
	if err := d.RemoveAccount(ctx, "GRU\u0308N", "Bücher.example"); err != nil {
		t.Error(err)
	}
	if err := d.RemoveDomain(ctx, "BÜCHER.example"); err != nil {
		t.Error(err)
	}
}

// What was left unfinished is dropped, but not what was finished after it was read.
func TestOnlyUnfinishedAccountsAreDropped(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	half := addRecord(t, s, "half", "example.org", 1)
	begun := addRecord(t, s, "begun", "example.org", 1)
	done := proto.CloneOf(begun)
	done.State = raftpb.AccountState_ACCOUNT_STATE_ACTIVE
	if err := errors.Join(s.directory.makeTree(t.Context(), done), s.directory.put(t.Context(), done)); err != nil {
		t.Fatal(err)
	}
	if err := s.directory.drop(t.Context(), begun); !errors.Is(err, errState) {
		t.Errorf("an account that was finished meanwhile: %v", err)
	}
	s.finishAccounts(t.Context())
	if _, err := s.Directory().Account(tree.Account(half.Number)); !errors.Is(err, ErrNoSuchAccount) {
		t.Errorf("an account that is half made: %v", err)
	}
	if _, err := s.Directory().FindAccount("begun", "example.org"); err != nil {
		t.Errorf("an account that is made: %v", err)
	}
}

// The check sees an account that would not be finished after a crash.
func TestCheckUnfinished(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	a := addAccount(t, s, "alice@example.org")
	if problem, err := s.checkUnfinished(a); problem != "" || err != nil {
		t.Errorf("an account that is whole: %q, %v", problem, err)
	}
	a.State = raftpb.AccountState_ACCOUNT_STATE_REMOVING // as if its record said so
	if problem, err := s.checkUnfinished(a); !strings.Contains(problem, "not noted") || err != nil {
		t.Errorf("%q, %v", problem, err)
	}
	a.Version-- // a record that was read before it changed
	if problem, err := s.checkUnfinished(a); problem != "" || err != nil {
		t.Errorf("one that has changed: %q, %v", problem, err)
	}
}

func TestShardCache(t *testing.T) {
	var c shardCache
	for _, n := range []uint32{1, 4095, 4096, uint32(tree.MaxAccount)} {
		if c.get(n) != 0 {
			t.Errorf("account %d is known", n)
		}
		c.set(n, n%7+1)
	}
	for _, n := range []uint32{1, 4095, 4096, uint32(tree.MaxAccount)} {
		if c.get(n) != n%7+1 {
			t.Errorf("account %d is on shard %d", n, c.get(n))
		}
	}
	c.set(uint32(tree.MaxAccount)+1, 1)
	if c.set(4096, 0); c.get(4096) != 0 || c.get(2) != 0 || c.get(uint32(tree.MaxAccount)+1) != 0 {
		t.Error("what is not known has a shard")
	}
	if c.clear(); c.get(1) != 0 {
		t.Error("known when all was forgotten")
	}
}
