package directory

import (
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/raftpb"
)

// An account comes back under its number, which is then not given again; never under one, or a name, that is in use.
func TestRestoreAccount(t *testing.T) {
	r := newReplica(t)
	index := uint64(0)
	apply := func(want syscall.Errno, cmd *raftpb.Command) uint64 {
		t.Helper()
		index++
		res := r.apply(index, cmd)
		if res.Errno != want {
			t.Fatalf("%v: %v, want %v", cmd, res.Errno, want)
		}
		return res.Value
	}
	restore := func(number uint32, local, domain string) *raftpb.Command {
		a := &raftpb.Account{
			Number: number, LocalPart: local, Domain: domain, Shard: 2, Recipient: "age1x", Created: 7, QuotaBytes: 9,
			Slots: []*raftpb.Slot{{Id: 1, Kind: "password", Record: []byte("r")}}, State: raftpb.AccountState_ACCOUNT_STATE_ACTIVE, Version: 5,
		}
		return &raftpb.Command{Op: &raftpb.Command_RestoreAccount{RestoreAccount: &raftpb.RestoreAccount{Account: a}}}
	}
	apply(syscall.ENOENT, restore(40, "alice", "example.org"))
	apply(0, &raftpb.Command{Op: &raftpb.Command_AddDomain{AddDomain: &raftpb.AddDomain{Name: "example.org"}}})
	apply(syscall.EINVAL, restore(0, "alice", "example.org"))
	apply(syscall.EINVAL, restore(1<<28, "alice", "example.org"))
	apply(syscall.EINVAL, restore(40, "", "example.org"))
	apply(0, restore(40, "alice", "example.org"))
	apply(syscall.EEXIST, restore(41, "alice", "example.org"))
	apply(syscall.EEXIST, restore(40, "bob", "example.org"))
	apply(0, restore(3, "carol", "example.org"))
	next := apply(0, &raftpb.Command{Op: &raftpb.Command_AddAccounts{AddAccounts: &raftpb.AddAccounts{
		Accounts: []*raftpb.Account{{LocalPart: "dave", Domain: "example.org", Shard: 1}},
	}}})
	if next != 41 {
		t.Errorf("the next account has number %d", next)
	}
	if err := r.batch.Commit(pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	a, err := r.dir.Account(40)
	if err != nil || a.State != raftpb.AccountState_ACCOUNT_STATE_CREATING || a.Version != 1 || a.Created != 7 || len(a.Slots) != 1 || a.Shard != 2 {
		t.Errorf("%+v, %v", a, err)
	}
}
