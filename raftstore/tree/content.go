package tree

import (
	"syscall"

	"mailraft/raftstore/raftpb"
)

// setPieces makes c the content of a regular file: the pieces come with it or have come before. EFBIG, EINVAL when they are not
// what c says.
func (x *txn) setPieces(in *Inode, c *raftpb.Content) error {
	in.Content, in.Size, in.SealedSize = 0, c.GetSize(), c.GetSealedSize()
	if c == nil || c.Id == 0 {
		if in.Size != 0 || in.SealedSize != 0 {
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
	}
	in.Content = id.Local()
	if len(c.Inline) > 0 {
		if uint64(len(c.Inline)) != c.SealedSize || len(c.Inline) > MaxInline {
			return syscall.EINVAL
		}
		if ok, err := x.has(pieceKey(id, 0)); ok || err != nil {
			if err == nil {
				err = syscall.EINVAL // the name of another content
			}
			return err
		}
		for n, rest := uint32(0), c.Inline; len(rest) > 0; n++ {
			piece := rest[:min(len(rest), MaxPiece)]
			rest = rest[len(piece):]
			x.set(pieceKey(id, n), piece)
		}
		return nil
	}
	b, err := x.get(orphanKey(id))
	if err == syscall.ENOENT {
		return syscall.EINVAL
	}
	if err != nil {
		return err
	}
	o, err := decodeOrphan(b)
	if err != nil {
		return err
	}
	if o.octets != c.SealedSize || uint64(o.pieces) != (c.SealedSize+MaxPiece-1)/MaxPiece {
		return syscall.EINVAL
	}
	x.delete(orphanKey(id))
	return nil
}

// setContent replaces the content of a regular file. ENOENT, EISDIR, EINVAL, EDQUOT, EFBIG.
func (x *txn) setContent(c *raftpb.SetContent) error {
	in, err := x.inode(Ino(c.Inode))
	if err != nil {
		return err
	}
	switch {
	case in.IsDir():
		return syscall.EISDIR
	case !in.IsRegular():
		return syscall.EINVAL
	}
	if _, err := x.counters(in.Ino.Account()); err != nil {
		return err
	}
	if err := x.charge(int64(c.Content.GetSize())-int64(in.Size), 0); err != nil {
		return err
	}
	x.dropPieces(in.Inode)
	if err := x.setPieces(in.Inode, c.Content); err != nil {
		return err
	}
	in.Mtime, in.Ctime = c.Mtime, x.now
	if c.Mtime == 0 {
		in.Mtime = x.now
	}
	x.changed(ContentChanged, 0, "", in.Inode)
	return x.touchNames(in, true)
}

// putPiece brings one piece of a content that is to be named later. EINVAL, EDQUOT when the pieces alone are over the quota.
// Every piece but the last is MaxPiece octets. A piece that is there already is left as it is.
func (x *txn) putPiece(c *raftpb.PutPiece) error {
	r, err := x.counters(Account(c.Account))
	if err != nil {
		return err
	}
	id := Ino(c.Content)
	if !r.reserved(id) || len(c.Data) == 0 || len(c.Data) > MaxPiece || uint64(c.Number) >= MaxContent/MaxPiece*2 {
		return syscall.EINVAL
	}
	if ok, err := x.has(pieceKey(id, c.Number)); ok || err != nil {
		return err
	}
	o := orphan{since: x.now}
	if b, err := x.get(orphanKey(id)); err == nil {
		if o, err = decodeOrphan(b); err != nil {
			return err
		}
	} else if err != syscall.ENOENT {
		return err
	}
	o.octets += uint64(len(c.Data))
	o.pieces++
	if r.QuotaBytes > 0 && o.octets > r.QuotaBytes {
		return syscall.EDQUOT
	}
	x.set(orphanKey(id), o.encode())
	x.set(pieceKey(id, c.Number), c.Data)
	return nil
}

// dropContent drops pieces that no inode names: ENOENT.
func (x *txn) dropContent(c *raftpb.DropContent) error {
	id := Ino(c.Content)
	if id.Account() != Account(c.Account) {
		return syscall.EINVAL
	}
	if ok, err := x.has(orphanKey(id)); !ok || err != nil {
		if err == nil {
			err = syscall.ENOENT
		}
		return err
	}
	x.dropOrphan(id)
	return nil
}

func (x *txn) dropOrphan(id Ino) {
	x.delete(orphanKey(id))
	from := inoKey(kindContent, id)
	x.deleteRange(from, keyAfter(from))
}

// reapOrphans drops the pieces of contents that came before a time and were never named, and answers how many contents.
func (x *txn) reapOrphans(c *raftpb.ReapOrphans) (uint64, error) {
	n := uint64(0)
	err := orphans(x.b, func(id Ino, o orphan) bool {
		if o.since < c.Before {
			x.dropOrphan(id)
			n++
		}
		return n < uint64(c.Limit)
	})
	return n, err
}
