package tree

import (
	"encoding/binary"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/raftpb"
)

// setPieces makes c the content of a regular file: the pieces come with it or have come before. EFBIG, EINVAL when they are not
// what c says; EKEYREVOKED when its key pair is fenced off.
func (x *txn) setPieces(in *Inode, c *raftpb.Content) error {
	in.Content, in.Size, in.SealedSize, in.Key = 0, c.GetSize(), c.GetSealedSize(), c.GetKey()
	if c == nil || c.Id == 0 {
		if in.Size != 0 || in.SealedSize != 0 || in.Key != 0 || len(c.GetInline()) > 0 {
			return syscall.EINVAL
		}
		return nil
	}
	id := Ino(c.Id)
	switch {
	case c.Size > MaxContent:
		return syscall.EFBIG
	case !x.account.reserved(id) || c.SealedSize == 0:
		return syscall.EINVAL
	case c.Key < x.account.Fence:
		return syscall.EKEYREVOKED
	}
	in.Content = id.Local()
	if len(c.Inline) > 0 {
		if uint64(len(c.Inline)) != c.SealedSize || len(c.Inline) > MaxInline {
			return syscall.EINVAL
		}
		if err := x.unusedContent(id); err != nil {
			return err
		}
		for n, rest := uint32(0), c.Inline; len(rest) > 0; n++ {
			piece := rest[:min(len(rest), MaxPiece)]
			rest = rest[len(piece):]
			x.set(pieceKey(id, n), piece)
		}
		return nil
	}
	o, err := x.orphan(id)
	if err == syscall.ENOENT || err == nil && (o.octets != c.SealedSize || o.pieces != o.top+1) {
		err = syscall.EINVAL
	}
	x.delete(orphanKey(id))
	return err
}

// unusedContent makes sure that nothing is stored under the content's number, be it named by an inode or not: EINVAL.
func (x *txn) unusedContent(id Ino) error {
	there, err := x.has(appendOrphan(x.key[:0], id))
	if !there && err == nil {
		// A content that an inode names has its first piece.
		there, err = x.has(binary.BigEndian.AppendUint32(appendIno(x.key[:0], kindContent, id), 0))
	}
	if there {
		err = syscall.EINVAL
	}
	return err
}

// orphan reads the record of a content that no inode names: ENOENT.
func (x *txn) orphan(id Ino) (orphan, error) {
	b, c, err := x.get(appendOrphan(x.key[:0], id))
	if err != nil {
		return orphan{}, err
	}
	o, err := decodeOrphan(b)
	return o, closed(c, err)
}

// regular loads a regular file, and its account's record: ENOENT, EISDIR, EINVAL.
func (x *txn) regular(i Ino) (*loaded, error) {
	in, err := x.inode(i)
	switch {
	case err != nil:
		return nil, err
	case in.IsDir():
		return nil, syscall.EISDIR
	case !in.IsRegular():
		return nil, syscall.EINVAL
	}
	_, err = x.counters(i.Account())
	return in, err
}

// setContent replaces the content of a regular file. Errors as regular's and setPieces'; EDQUOT.
func (x *txn) setContent(c *raftpb.SetContent) error {
	in, err := x.regular(Ino(c.Inode))
	if err != nil {
		return err
	}
	was := in.Size
	x.dropPieces(in.Inode)
	if err := x.setPieces(in.Inode, c.Content); err != nil {
		return err
	}
	x.charge(int64(in.Size)-int64(was), 0)
	in.Mtime, in.Ctime = c.Mtime, x.now
	if c.Mtime == 0 {
		in.Mtime = x.now
	}
	x.changed(ContentChanged, 0, "", in.Inode)
	return x.touchNames(in, in.Links, true)
}

// resealContent replaces the sealed form of the message that a file holds. ESTALE when another has taken its place, and EINVAL for what is
// another message's, or is not sealed to a newer key. Other errors as regular's and setPieces'.
func (x *txn) resealContent(c *raftpb.ResealContent) error {
	in, err := x.regular(Ino(c.Inode))
	switch {
	case err != nil:
		return err
	case c.Was == 0 || c.GetContent().GetId() == 0:
		return syscall.EINVAL
	case MakeIno(in.Ino.Account(), in.Content) != Ino(c.Was):
		return syscall.ESTALE
	case c.Content.Size != in.Size || c.Content.Key <= in.Key:
		return syscall.EINVAL
	}
	x.dropPieces(in.Inode)
	if err := x.setPieces(in.Inode, c.Content); err != nil {
		return err
	}
	x.changed(ContentResealed, 0, "", in.Inode)
	return x.touchNames(in, in.Links, false)
}

// fenceKeys has the account refuse contents that are sealed to older key pairs: ENOENT. A fence is never lowered.
func (x *txn) fenceKeys(c *raftpb.FenceKeys) error {
	r, err := x.counters(Account(c.Account))
	if err == nil && c.Key > r.Fence {
		r.Fence, x.counted = c.Key, true
	}
	return err
}

// Numbers of pieces are below this: a sealed form may be twice as long as the longest message.
const maxPieces = MaxContent / MaxPiece * 2

// putPiece brings one piece of a content that is to be named later, in any order. Every piece but the last is MaxPiece octets. A
// piece that is there already is left as it is. EINVAL, also for a content that an inode names; EDQUOT when the pieces alone are
// over the quota.
func (x *txn) putPiece(c *raftpb.PutPiece) error {
	r, err := x.counters(Account(c.Account))
	if err != nil {
		return err
	}
	id := Ino(c.Content)
	if !r.reserved(id) || len(c.Data) == 0 || len(c.Data) > MaxPiece || c.Number >= maxPieces {
		return syscall.EINVAL
	}
	o, err := x.orphan(id)
	switch {
	case err == syscall.ENOENT:
		if err := x.unusedContent(id); err != nil {
			return err
		}
		o = orphan{since: x.now, top: c.Number}
	case err != nil:
		return err
	default:
		if ok, err := x.has(pieceKey(id, c.Number)); ok || err != nil {
			return err
		}
		ended, last := o.octets%MaxPiece != 0, len(c.Data) < MaxPiece
		if ended && (last || c.Number > o.top) || last && c.Number < o.top {
			return syscall.EINVAL // it can't be whole any more
		}
	}
	o.octets += uint64(len(c.Data))
	o.pieces++
	o.top = max(o.top, c.Number)
	if r.QuotaBytes > 0 && o.octets > r.QuotaBytes && !c.Reseals {
		return syscall.EDQUOT
	}
	x.set(orphanKey(id), o.appendTo(nil))
	x.set(pieceKey(id, c.Number), c.Data)
	return nil
}

// dropContent drops pieces that no inode names: ENOENT.
func (x *txn) dropContent(c *raftpb.DropContent) error {
	id := Ino(c.Content)
	if id.Account() != Account(c.Account) {
		return syscall.EINVAL
	}
	if _, err := x.orphan(id); err != nil {
		return err
	}
	x.dropOrphan(id)
	return nil
}

func (x *txn) dropOrphan(id Ino) {
	x.delete(orphanKey(id))
	x.deleteAll(inoKey(kindContent, id))
}

// reapOrphans drops the pieces of at most c.Limit contents that came before a time and were never named, and answers how many.
func (x *txn) reapOrphans(c *raftpb.ReapOrphans) (uint64, error) {
	it, err := newIter(x.b, []byte{prefixOrphan})
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	for ok := it.First(); ok && n < uint64(c.Limit); ok = it.Next() {
		id, o, err := orphanAt(it)
		if err != nil {
			return 0, closed(it, err)
		}
		if o.since < c.Before {
			x.dropOrphan(id)
			n++
		}
	}
	return n, it.Close()
}

// orphanAt decodes the record that the iterator stands on.
func orphanAt(it *pebble.Iterator) (id Ino, o orphan, err error) {
	val, err := it.ValueAndErr()
	if err == nil {
		id, err = splitOrphanKey(it.Key())
	}
	if err == nil {
		o, err = decodeOrphan(val)
	}
	return id, o, err
}
