package fs

import (
	"log/slog"
	"testing"

	"mailraft/fs/keyring"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// The gate's table of accounts stays within its bound, and mostly full.
func TestGateForgetsSomeAccounts(t *testing.T) {
	store, err := raftstore.Open(t.Context(), raftstore.Config{Dir: t.TempDir(), NodeID: "n1", Shards: 1, MinFree: 1, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer store.Close()
	d := store.Directory()
	must(t, d.AddDomain(t.Context(), "example.org"))
	_, err = d.AddAccounts(t.Context(), []raftstore.NewAccount{{
		LocalPart: "alice", Domain: "example.org",
		Keys: func(uint32) (string, []*raftpb.Slot, error) { return "a key", nil, nil },
	}})
	must(t, err)
	keys := keyring.New(keyring.Config{})
	defer keys.Close()
	g := newGate(store, keys)
	for n := range tree.Account(maxAccounts) {
		g.accounts[1000+n] = new(account)
	}
	record, err := d.FindAccount("alice", "example.org")
	must(t, err)
	n := tree.Account(record.Number)
	for range 2 {
		a, err := g.account(n)
		must(t, err)
		if g.accounts[n] != a || len(g.accounts) != maxAccounts {
			t.Errorf("the gate knows %d accounts", len(g.accounts))
		}
	}
}
