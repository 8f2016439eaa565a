// Package machine holds what a replicated state machine and whoever replicates it agree on: package tree and package
// directory are machines, package group replicates them. It knows nothing of Raft.
package machine

import (
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/raftpb"
)

// Version is the newest meaning of commands that this program knows (Command.version). Whoever adds a command, a field that changes what one does,
// or another effect, raises it, and has Needs name it: an older program would apply such a command as another one, and its replica would
// differ.
const Version = 5

// What came with which version.
const (
	// NamesLives: an account that is restored is told from the one that was removed before.
	NamesLives = 4
	// MoreSlots: app passwords and SCRAM, and what is told of failed logins. A program that does not know a kind of slot locks the account.
	MoreSlots = 4
	// PinnedKeys: accounts whose mail is sealed to a key of their owner's. A program that does not know them seals it as any other's.
	PinnedKeys = 5
	// NewKeys: an account's key pairs have numbers, and what was sealed to one is sealed to the next.
	NewKeys = 5
)

// Needs is the version of a command: the oldest program that applies it as this one does knows it. Commands of the first version are all that are
// not named.
func Needs(cmd *raftpb.Command) uint32 {
	switch op := cmd.Op.(type) {
	case *raftpb.Command_FreezeAccount: // 2: accounts move between shards
		return 2
	case *raftpb.Command_PutSecret, *raftpb.Command_NoteFailures:
		return MoreSlots
	case *raftpb.Command_ResealContent, *raftpb.Command_FenceKeys:
		return NewKeys
	case *raftpb.Command_Create:
		return needsKey(op.Create.GetContent().GetKey())
	case *raftpb.Command_SetContent:
		return needsKey(op.SetContent.GetContent().GetKey())
	case *raftpb.Command_PutPiece:
		if op.PutPiece.Reseals {
			return NewKeys
		}
	case *raftpb.Command_BeginImport:
		if op.BeginImport.Move != 0 {
			return 2
		}
	case *raftpb.Command_UpdateAccount:
		return needsRecord(op.UpdateAccount.Account)
	case *raftpb.Command_UpdateAccounts:
		most := uint32(1)
		for _, a := range op.UpdateAccounts.Accounts {
			most = max(most, needsRecord(a))
		}
		return most
	case *raftpb.Command_RestoreAccount:
		return max(NamesLives, needsRecord(op.RestoreAccount.Account))
	case *raftpb.Command_RemoveAccount:
		if op.RemoveAccount.Until != 0 {
			return NamesLives
		}
	case *raftpb.Command_DropAccount:
		if op.DropAccount.Version != 0 {
			return NamesLives
		}
	}
	return 1
}

// needsKey is Needs of what names a content that is sealed to the key pair of that number.
func needsKey(number uint64) uint32 {
	if number != 0 {
		return NewKeys
	}
	return 1
}

// needsRecord is Needs of what gives an account that record.
func needsRecord(a *raftpb.Account) uint32 {
	needs := needsKey(a.GetKey())
	if a.GetMove() != 0 {
		needs = max(needs, 2)
	}
	if a.Pinned() {
		needs = max(needs, PinnedKeys)
	}
	for _, s := range a.GetSlots() {
		switch s.Kind {
		case "password":
		case "recovery":
			needs = max(needs, 3)
		default:
			needs = max(needs, MoreSlots)
		}
	}
	return needs
}

// Result is what applying a command answers. It is stored under the request's id until the proposer says that it has it.
type Result struct {
	Errno syscall.Errno // 0: done
	Value uint64        // what the command's comment says
	Index uint64        // Raft index at which it was applied
}

// Err is the error of the result, nil if it was done.
func (r Result) Err() error {
	if r.Errno == 0 {
		return nil
	}
	return r.Errno
}

// Machine is a deterministic state machine over a Pebble store. It is called by one goroutine.
type Machine interface {
	// Apply adds the effects of a command to the indexed batch b. A command that fails (Result.Errno) adds nothing. An error
	// means that the store can't be read, or holds what can't be: the replica must not go on.
	Apply(b *pebble.Batch, index uint64, cmd *raftpb.Command) (Result, error)
	// Committed is called when all batches of the Apply calls so far are visible in the store.
	Committed()
	// Replaced is called when the store has become that of a snapshot from the leader: anything may differ, and what changed on the way
	// there nobody is told.
	Replaced()
}

// First bytes of the keys of a group's store. Each machine's own keys begin with a prefix from PrefixMachine on.
const (
	PrefixMeta    = 'M' // what package group keeps: applied index, format
	PrefixRequest = 'R' // results by request id
	PrefixMachine = 'a' // to 'z'
)
