package machine

import (
	"testing"

	"mailraft/raftstore/raftpb"
)

// An account with a key of its owner's is kept from programs that would seal its mail as any other's, however it comes.
func TestPinnedAccountsNeedTheirVersion(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		a := &raftpb.Account{Number: 1, Recipient: "age1mail", Slots: []*raftpb.Slot{{Kind: "password"}}}
		if pinned {
			a.LoginRecipient = "age1login"
		}
		for what, cmd := range map[string]*raftpb.Command{
			"made":     {Op: &raftpb.Command_UpdateAccounts{UpdateAccounts: &raftpb.UpdateAccounts{Accounts: []*raftpb.Account{a}}}},
			"changed":  {Op: &raftpb.Command_UpdateAccount{UpdateAccount: &raftpb.UpdateAccount{Account: a}}},
			"restored": {Op: &raftpb.Command_RestoreAccount{RestoreAccount: &raftpb.RestoreAccount{Account: a}}},
		} {
			if needs := Needs(cmd); needs >= PinnedKeys != pinned || needs > Version {
				t.Errorf("%s, pinned %v: version %d", what, pinned, needs)
			}
		}
	}
}
