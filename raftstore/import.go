package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"

	"mailraft/raftstore/raftpb"
)

// importBatch is the octets of records that go in one command.
const importBatch = 512 << 10

// importer brings the records of an account's tree into a shard. It is used by one goroutine.
type importer struct {
	store   *Store
	shard   *Shard
	account uint32
	attempt uint64
	move    uint64 // that the account gets there
	frozen  bool   // its writes wait until it is there

	throttled bool // as long as they do not

	batch  *raftpb.ImportRecords
	octets int
}

// newImporter makes one that goes on with nothing that anybody else has begun.
func (s *Store) newImporter(sh *Shard, account uint32, move uint64) *importer {
	var b [8]byte
	rand.Read(b[:])
	return &importer{store: s, shard: sh, account: account, attempt: binary.BigEndian.Uint64(b[:]) | 1, move: move}
}

func (i *importer) propose(ctx context.Context, cmd *raftpb.Command) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	r, err := i.store.admin.ProposeIn(ctx, i.shard, cmd)
	if err == nil {
		err = r.Err()
	}
	switch err {
	case syscall.EINVAL:
		err = fmt.Errorf("what is brought is no mail tree of this version: %w", err)
	case syscall.ESTALE:
		err = fmt.Errorf("somebody else has begun to bring account %d to shard %d: %w", i.account, i.shard.id, err)
	}
	return err
}

// begin drops what an import before has left: EEXIST when the account is there.
func (i *importer) begin(ctx context.Context) error {
	i.batch = &raftpb.ImportRecords{Account: i.account, Attempt: i.attempt}
	return i.propose(ctx, &raftpb.Command{Op: &raftpb.Command_BeginImport{BeginImport: &raftpb.BeginImport{
		Account: i.account, Attempt: i.attempt, Move: i.move,
	}}})
}

// put brings a record; it keeps both.
func (i *importer) put(ctx context.Context, key, value []byte) error {
	if err := i.room(ctx, len(key)+len(value)); err != nil {
		return err
	}
	i.batch.Records = append(i.batch.Records, &raftpb.Record{Key: key, Value: value})
	return nil
}

// remove drops a record that was brought, or a content's pieces.
func (i *importer) remove(ctx context.Context, key []byte) error {
	if err := i.room(ctx, len(key)); err != nil {
		return err
	}
	i.batch.Removed = append(i.batch.Removed, slices.Clone(key))
	return nil
}

// room has the batch take so many octets more.
func (i *importer) room(ctx context.Context, octets int) error {
	if i.octets > 0 && i.octets+octets > importBatch {
		if err := i.flush(ctx); err != nil {
			return err
		}
	}
	i.octets += octets + 16
	return nil
}

func (i *importer) flush(ctx context.Context) error {
	if i.octets == 0 {
		return nil
	}
	if i.throttled && !i.frozen {
		if err := i.store.spend(ctx, i.octets); err != nil {
			return err
		}
	}
	i.batch.Frozen = i.frozen
	err := i.propose(ctx, &raftpb.Command{Op: &raftpb.Command_ImportRecords{ImportRecords: i.batch}})
	i.batch, i.octets = &raftpb.ImportRecords{Account: i.account, Attempt: i.attempt}, 0
	return err
}

// end makes the account one like others in the shard.
func (i *importer) end(ctx context.Context) error {
	if err := i.flush(ctx); err != nil {
		return err
	}
	return i.propose(ctx, &raftpb.Command{Op: &raftpb.Command_EndImport{EndImport: &raftpb.EndImport{Account: i.account, Attempt: i.attempt}}})
}
