package directory

import (
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// applier applies commands one after the other, whose answers must be as wanted, and answers their values. index is that of the last.
func applier(t *testing.T, r *replica, index *uint64) func(want syscall.Errno, cmd *raftpb.Command) uint64 {
	return func(want syscall.Errno, cmd *raftpb.Command) uint64 {
		t.Helper()
		*index++
		res := r.apply(*index, cmd)
		if res.Errno != want {
			t.Fatalf("%v: %v, want %v", cmd, res.Errno, want)
		}
		return res.Value
	}
}

// An account comes back under its number, which is then not given again; never under one, or a name, that is in use.
func TestRestoreAccount(t *testing.T) {
	r := newReplica(t)
	index := uint64(0)
	apply := applier(t, r, &index)
	restore := func(number uint32, local, domain string) *raftpb.Command {
		a := &raftpb.Account{
			Number: number, LocalPart: local, Domain: domain, Shard: 2, Recipient: "age1x", Created: 7, QuotaBytes: 9,
			Slots: []*raftpb.Slot{{Id: 1, Kind: "password", Record: []byte("r")}}, State: raftpb.AccountState_ACCOUNT_STATE_ACTIVE, Version: 5,
		}
		return &raftpb.Command{Version: machine.NamesLives, Op: &raftpb.Command_RestoreAccount{RestoreAccount: &raftpb.RestoreAccount{Account: a}}}
	}
	apply(syscall.ENOENT, restore(40, "alice", "example.org"))
	apply(0, &raftpb.Command{Op: &raftpb.Command_AddDomain{AddDomain: &raftpb.AddDomain{Name: "example.org"}}})
	apply(syscall.EINVAL, restore(0, "alice", "example.org"))
	apply(syscall.EINVAL, restore(1<<28, "alice", "example.org"))
	apply(syscall.EINVAL, restore(40, "", "example.org"))
	restored := apply(0, restore(40, "alice", "example.org"))
	if restored != index {
		t.Errorf("it begins at version %d, not at index %d", restored, index)
	}
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
	if err != nil || a.State != raftpb.AccountState_ACCOUNT_STATE_CREATING || a.Version != restored || a.Move != restored || a.Created != 7 || len(a.Slots) != 1 || a.Shard != 2 {
		t.Errorf("%+v, %v", a, err)
	}
}

// Who goes on late with a removal does not remove what was restored since; and a command of a program before this one means what it meant.
func TestALateDropLeavesWhatWasRestored(t *testing.T) {
	r := newReplica(t)
	index := uint64(0)
	apply := applier(t, r, &index)
	restore := func(version uint32) uint64 {
		t.Helper()
		a := &raftpb.Account{Number: 7, LocalPart: "alice", Domain: "example.org", Shard: 1}
		return apply(0, &raftpb.Command{Version: version, Op: &raftpb.Command_RestoreAccount{RestoreAccount: &raftpb.RestoreAccount{Account: a}}})
	}
	remove := func(version uint64) {
		t.Helper()
		a := &raftpb.Account{
			Number: 7, LocalPart: "alice", Domain: "example.org", Shard: 1, State: raftpb.AccountState_ACCOUNT_STATE_REMOVING, Version: version,
		}
		apply(0, &raftpb.Command{Op: &raftpb.Command_UpdateAccount{UpdateAccount: &raftpb.UpdateAccount{Account: a}}})
	}
	drop := func(version uint64) *raftpb.Command {
		return &raftpb.Command{Op: &raftpb.Command_DropAccount{DropAccount: &raftpb.DropAccount{Number: 7, Version: version}}}
	}
	apply(0, &raftpb.Command{Op: &raftpb.Command_AddDomain{AddDomain: &raftpb.AddDomain{Name: "example.org"}}})
	if restore(machine.NamesLives-1) != 1 {
		t.Error("what an older program restores does not begin at version 1")
	}
	apply(syscall.EAGAIN, drop(1)) // nobody removes it
	remove(1)
	late := uint64(2)
	apply(0, drop(late))
	version := restore(machine.NamesLives)
	apply(syscall.EAGAIN, drop(late))
	remove(version)
	apply(syscall.EAGAIN, drop(late))
	apply(0, drop(version+1))
	restore(machine.NamesLives)
	apply(0, drop(0)) // an older program's
}
