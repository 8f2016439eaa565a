package access

import (
	"log/slog"
	"testing"
	"time"

	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
)

// What happened to accounts while nobody told of it is enforced when the directory is said to be another one.
func TestAReplacedDirectoryIsEnforced(t *testing.T) {
	store, err := raftstore.Open(t.Context(), raftstore.Config{Dir: t.TempDir(), NodeID: "n1", Shards: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ring := keyring.New(keyring.Config{})
	defer ring.Close()
	c := New(store, ring, slot.MinIterations, slog.New(slog.DiscardHandler))
	defer c.Close()
	d := store.Directory()
	if err := d.AddDomain(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	id, err := seal.GenerateIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	made, err := d.AddAccounts(t.Context(), []raftstore.NewAccount{{
		LocalPart: "alice", Domain: "example.org",
		Keys: func(uint32) (string, []*raftpb.Slot, error) { return id.Recipient().String(), nil, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	session, err := ring.Open(uint64(made[0].Number), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.cancel() // it hears of no change
	if err := d.RemoveAccount(t.Context(), "alice", "example.org"); err != nil {
		t.Fatal(err)
	}
	if ended(session) {
		t.Fatal("it has heard of the removal, so there is nothing to see here")
	}
	c.note(raftstore.DirectoryEvent{Replaced: true})
	select {
	case <-session.Done():
	case <-time.After(10 * time.Second):
		t.Error("the session of an account that is gone goes on")
	}
}
