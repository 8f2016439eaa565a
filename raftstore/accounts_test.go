package raftstore

import (
	"errors"
	"syscall"
	"testing"

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
