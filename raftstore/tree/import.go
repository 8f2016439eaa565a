package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/raftpb"
)

// An account's tree comes from elsewhere as the records that it was stored as: so UIDs, MODSEQs, inode numbers and times are what they
// were. Meanwhile a record of its own stands where the account's will be: it holds that, and the greatest MODSEQ that has come. The mover of
// an account (package raftstore) brings what has changed since it began again, and has it frozen where it was for the last of it.

// maxModSeqBase keeps MODSEQs far from where they would wrap (RFC 7162 has 63 bits).
const maxModSeqBase = 1 << 62

// importing is the record behind a kindImport key.
type importing struct {
	account []byte // the account's record; none: it has not come
	modSeq  ModSeq
	attempt uint64 // what is brought has to name it
	move    uint64 // Account.move that it gets; 0: it was restored by a program before machine.NamesLives
}

func (i *importing) appendTo(b []byte) []byte {
	e := encoder(b)
	e.version()
	e.uint(uint64(i.modSeq))
	e.string(string(i.account))
	if i.attempt != 0 || i.move != 0 {
		e.uint(i.attempt)
		e.uint(i.move)
	}
	return e
}

func decodeImporting(b []byte) (i importing, err error) {
	d := decoder{b: b}
	d.version()
	i.modSeq = ModSeq(d.uint(maxModSeqBase))
	i.account = []byte(d.string(1 << 10))
	if d.err == nil && len(d.b) > 0 {
		if i.attempt, i.move = d.uint64(), d.uint64(); i.attempt == 0 && i.move == 0 {
			d.fail("attempt")
		}
	}
	return i, d.end()
}

// beginImport begins anew: EEXIST when there is such an account.
func (x *txn) beginImport(c *raftpb.BeginImport) error {
	a := Account(c.Account)
	if a == 0 || a > MaxAccount {
		return syscall.EINVAL
	}
	if ok, err := x.has(accountKey(a)); ok || err != nil {
		if err == nil {
			err = syscall.EEXIST
		}
		return err
	}
	x.deleteRange(accountRange(a))
	x.deleteRange(orphanRange(a))
	x.set(importKey(a), (&importing{attempt: c.Attempt, move: c.Move}).appendTo(nil))
	return nil
}

// imported reads how far an import has come: ENOENT when none has begun.
func (x *txn) imported(a Account) (importing, error) {
	b, c, err := x.get(importKey(a))
	if err != nil {
		return importing{}, err
	}
	i, err := decodeImporting(b)
	return i, closed(c, err)
}

// importing is imported of that attempt: ESTALE when another has begun since.
func (x *txn) importing(a Account, attempt uint64) (importing, error) {
	i, err := x.imported(a)
	if err == nil && i.attempt != attempt {
		err = syscall.ESTALE
	}
	return i, err
}

// importRecords takes records that are what this program would have written: EINVAL for any other. Errors as importing's.
func (x *txn) importRecords(c *raftpb.ImportRecords) error {
	a := Account(c.Account)
	i, err := x.importing(a, c.Attempt)
	if err != nil {
		return err
	}
	for _, k := range c.Removed {
		if err := x.removeRecord(a, k); err != nil {
			return err
		}
	}
	for _, r := range c.Records {
		if len(r.Key) == 1 && r.Key[0] == kindAccount {
			if _, err := decodeAccount(a, r.Value); err != nil {
				return syscall.EINVAL
			}
			i.account = r.Value
			continue
		}
		m, err := checkRecord(a, r.Key, r.Value)
		if err != nil || m >= maxModSeqBase {
			return syscall.EINVAL
		}
		i.modSeq = max(i.modSeq, m)
		x.set(recordKey(a, r.Key), r.Value)
	}
	x.set(importKey(a), i.appendTo(nil))
	return nil
}

// removeRecord drops a record that came and has changed its key since, or all pieces of a content.
func (x *txn) removeRecord(a Account, key []byte) error {
	switch {
	case len(key) < 1+8 || key[0] == kindAccount || key[0] == kindImport:
		return syscall.EINVAL
	case key[0] == kindContent && len(key) == 1+8:
		x.deleteAll(recordKey(a, key))
	default:
		x.delete(recordKey(a, key))
	}
	return nil
}

// recordKey is where a record lies whose key without the account's number is given.
func recordKey(a Account, key []byte) []byte {
	from, _ := accountRange(a)
	if key[0] == prefixOrphan {
		from, _ = orphanRange(a)
		key = key[1:]
	}
	return append(from, key...)
}

// endImport makes the account one like others: EINVAL when its record or its home has not come, and errors as importing's. Its next
// MODSEQ is above all that it has given.
func (x *txn) endImport(c *raftpb.EndImport) error {
	a := Account(c.Account)
	i, err := x.importing(a, c.Attempt)
	if err != nil {
		return err
	}
	if len(i.account) == 0 {
		return syscall.EINVAL
	}
	home, err := x.inode(RootIno(a))
	if err == syscall.ENOENT || err == nil && home.Role != RoleRoot {
		err = syscall.EINVAL
	}
	if err != nil {
		return err
	}
	r, err := decodeAccount(a, i.account)
	if err != nil {
		return err
	}
	r.ModSeqBase, r.Move, r.Frozen = 0, i.move, 0
	if last := uint64(i.modSeq); last > x.index {
		r.ModSeqBase = last - x.index
	}
	x.account, x.before, x.counted = r, *r, true
	x.event.Account = a
	x.delete(importKey(a))
	x.event.Changes = []Change{{Kind: AccountAdded, Ino: RootIno(a), Dir: true}}
	return nil
}

// checkRecord tells whether a record can be one of the account's: its key without the account's number. It answers the greatest MODSEQ
// in it. What records say of each other Check looks at.
func checkRecord(a Account, key, value []byte) (ModSeq, error) {
	if len(key) < 1+8 {
		return 0, fmt.Errorf("%w: key of a record", ErrCorrupt)
	}
	local, rest := binary.BigEndian.Uint64(key[1:9]), key[9:]
	if local == 0 || local > maxLocal {
		return 0, fmt.Errorf("%w: number in a key", ErrCorrupt)
	}
	i := MakeIno(a, local)
	switch key[0] {
	case kindContent:
		if len(rest) == 4 && len(value) > 0 && len(value) <= MaxPiece {
			return 0, nil
		}
	case kindEntry:
		if len(rest) > 0 && len(rest) <= MaxName {
			var de DirEntry
			err := de.decode(i, string(rest), value)
			return de.ModSeq, err
		}
	case kindInode:
		if len(rest) == 0 {
			in, err := decodeInode(i, value)
			if err != nil {
				return 0, err
			}
			return in.HighestModSeq, nil
		}
	case kindModSeq:
		if len(rest) == 12 {
			_, err := decodePosition(value)
			return 0, err
		}
	case kindVanished:
		if len(rest) == 12 {
			return 0, decodeTombstone(value)
		}
	case kindXattr:
		if len(rest) > 0 && len(rest) <= MaxName && len(value) <= MaxXattr {
			return 0, nil
		}
	case prefixOrphan:
		if len(rest) == 0 {
			_, err := decodeOrphan(value)
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w: record of kind %q", ErrCorrupt, key[0])
}

// Snapshot is a state of a shard that does not change, from which accounts are copied. It may be used by many goroutines.
type Snapshot struct{ snap *snapshot }

// Snapshot takes the state that View shows now. It must be closed.
func (v *View) Snapshot() *Snapshot { return &Snapshot{v.snapshot()} }

// Close lets the state go.
func (s *Snapshot) Close() error { return s.snap.Close() }

// Records calls fn with all records of the account but its contents, as ImportRecords takes them: ENOENT when it is not there. fn must
// not keep them.
func (s *Snapshot) Records(a Account, fn func(key, value []byte) error) error {
	if _, err := account(s.snap, a); err != nil {
		return err
	}
	from, to := accountRange(a)
	prefix := len(from)
	content := keyAfter(appendKind(nil, a, kindContent))
	it, err := s.snap.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; {
		k := it.Key()
		if k[prefix] == kindContent {
			ok = it.SeekGE(content)
			continue
		}
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			err = fn(k[prefix:], v)
		}
		ok = it.Next()
	}
	return closed(it, err)
}

// Orphans calls fn with the records of the account's contents that no inode names yet, and with their pieces, as ImportRecords takes them.
// fn must not keep them.
func (s *Snapshot) Orphans(a Account, fn func(key, value []byte) error) error {
	from, to := orphanRange(a)
	it, err := s.snap.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var id Ino
		if id, _, err = orphanAt(it); err != nil {
			break
		}
		// The pieces come first: where the record is already, they may be reaped before all have come.
		if err = s.pieces(id, fn); err == nil {
			err = fn(append([]byte{prefixOrphan}, it.Key()[len(from):]...), it.Value())
		}
	}
	return closed(it, err)
}

// pieces calls fn with the pieces of a content, however many there are.
func (s *Snapshot) pieces(id Ino, fn func(key, value []byte) error) error {
	it, err := newIter(s.snap, inoKey(kindContent, id))
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			err = fn(it.Key()[keyPrefix-1:], v)
		}
	}
	return closed(it, err)
}

// ContentKey is the key, as in ImportRecords.removed, of all pieces of a content.
func ContentKey(content uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindContent}, content)
}

// ContentOf answers the local number of the content that an inode's record names, and the octets of its sealed form; 0 for any other
// record.
func ContentOf(a Account, key, value []byte) (content, sealed uint64, err error) {
	in, err := InodeOf(a, key, value)
	if err != nil || in == nil {
		return 0, 0, err
	}
	return in.Content, in.SealedSize, nil
}

// InodeOf reads an inode's record; nil for any other record.
func InodeOf(a Account, key, value []byte) (*Inode, error) {
	if len(key) != 9 || key[0] != kindInode {
		return nil, nil
	}
	return decodeInode(MakeIno(a, binary.BigEndian.Uint64(key[1:])), value)
}

// PieceKey is the key, as in ImportRecords, of a piece of a content: MaxPiece octets each, but the last.
func PieceKey(content uint64, piece uint32) []byte {
	return binary.BigEndian.AppendUint32(ContentKey(content), piece)
}

// Content reads a sealed content: ErrCorrupt when it is not whole.
func (s *Snapshot) Content(a Account, content, sealed uint64, fn func(piece []byte) error) error {
	for n, left := uint32(0), sealed; left > 0; n++ {
		val, c, err := read(s.snap, pieceKey(MakeIno(a, content), n))
		if errors.Is(err, syscall.ENOENT) || err == nil && uint64(len(val)) != min(left, MaxPiece) {
			if err == nil {
				c.Close()
			}
			return fmt.Errorf("%w: piece %d of content %d of account %d", ErrCorrupt, n, content, a)
		}
		if err != nil {
			return err
		}
		left -= uint64(len(val))
		if err := closed(c, fn(val)); err != nil {
			return err
		}
	}
	return nil
}
