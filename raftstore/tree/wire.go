package tree

import (
	"encoding/binary"

	"mailraft/raftstore/raftpb"
)

// What a Reader answers, as octets for another node: in the form of the stored records where there is one. Decoding is as strict as
// theirs (ErrCorrupt).

// AppendRecord appends the inode, but not its number.
func (in *Inode) AppendRecord(b []byte) []byte { return in.appendTo(b) }

// DecodeInode reads what Inode.AppendRecord wrote.
func DecodeInode(i Ino, b []byte) (*Inode, error) { return decodeInode(i, b) }

// AppendRecord appends the account's counters, but not its number.
func (r *AccountRecord) AppendRecord(b []byte) []byte { return r.appendTo(b) }

// DecodeAccount reads what AccountRecord.AppendRecord wrote.
func DecodeAccount(a Account, b []byte) (*AccountRecord, error) { return decodeAccount(a, b) }

// AppendRecord appends the entry with its name, and a directory's with its status, which the stored record does not hold.
func (de *DirEntry) AppendRecord(b []byte) []byte {
	e := encoder(b)
	e.string(de.Name)
	e.uint(uint64(de.Ino))
	e.stat(&de.Stat)
	e.uint(uint64(de.UID))
	e.uint(uint64(de.ModSeq))
	return e
}

// DecodeEntry reads what DirEntry.AppendRecord wrote, and answers what is behind it.
func DecodeEntry(b []byte) (de DirEntry, rest []byte, err error) {
	d := decoder{b: b}
	de.Name, de.Ino = d.string(MaxName), Ino(d.uint64())
	d.stat(&de.Stat)
	de.UID, de.ModSeq = UID(d.uint32()), ModSeq(d.uint64())
	return de, d.b, d.err
}

// AppendRecord appends the message.
func (m *IndexEntry) AppendRecord(b []byte) []byte {
	e := encoder(b)
	e.uint(uint64(m.UID))
	e.uint(uint64(m.ModSeq))
	e.uint(m.Size)
	e.time(m.Mtime)
	e.uint(uint64(m.Box))
	e.string(m.Name)
	e.uint(uint64(m.Ino))
	return e
}

// DecodeIndexEntry reads what IndexEntry.AppendRecord wrote, and answers what is behind it.
func DecodeIndexEntry(b []byte) (m IndexEntry, rest []byte, err error) {
	d := decoder{b: b}
	m = IndexEntry{UID: UID(d.uint32()), ModSeq: ModSeq(d.uint64()), Size: d.uint64(), Mtime: d.time(), Box: Role(d.uint(uint64(RoleTmp)))}
	m.Name, m.Ino = d.string(MaxName), Ino(d.uint64())
	return m, d.b, d.err
}

// AppendRecord appends the tombstone.
func (v Vanished) AppendRecord(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(v.UID)), uint64(v.ModSeq))
}

// DecodeVanished reads what Vanished.AppendRecord wrote, and answers what is behind it.
func DecodeVanished(b []byte) (v Vanished, rest []byte, err error) {
	d := decoder{b: b}
	v = Vanished{UID(d.uint32()), ModSeq(d.uint64())}
	return v, d.b, d.err
}

// AppendRecord appends the event of a command.
func (ev *Event) AppendRecord(b []byte) []byte {
	e := encoder(b)
	e.version()
	e.uint(ev.Index)
	e.uint(ev.Session)
	e.uint(uint64(ev.Account))
	e.uint(uint64(len(ev.Changes)))
	for i := range ev.Changes {
		c := &ev.Changes[i]
		dir := uint64(0)
		if c.Dir {
			dir = 1
		}
		e.uint(uint64(c.Kind))
		e.uint(uint64(c.Parent))
		e.string(c.Name)
		e.uint(uint64(c.Ino))
		e.uint(dir)
	}
	e.uint(uint64(len(ev.Folders)))
	for _, f := range ev.Folders {
		e.uint(uint64(f.Folder))
		e.uint(uint64(f.ModSeq))
	}
	return e
}

// DecodeEvent reads what Event.AppendRecord wrote.
func DecodeEvent(b []byte) (*Event, error) {
	d := decoder{b: b}
	d.version()
	ev := &Event{Index: d.uint64(), Session: d.uint64(), Account: Account(d.uint(uint64(MaxAccount)))}
	for n := d.uint64(); n > 0 && d.err == nil; n-- {
		c := Change{Kind: ChangeKind(d.uint(uint64(lastChange))), Parent: Ino(d.uint64()), Name: d.string(MaxName), Ino: Ino(d.uint64())}
		c.Dir = d.uint(1) == 1
		ev.Changes = append(ev.Changes, c)
	}
	for n := d.uint64(); n > 0 && d.err == nil; n-- {
		ev.Folders = append(ev.Folders, FolderChange{Ino(d.uint64()), ModSeq(d.uint64())})
	}
	return ev, d.end()
}

// AccountOf is the account whose tree a command changes; 0: none, or many.
func AccountOf(cmd *raftpb.Command) Account {
	switch op := cmd.Op.(type) {
	case *raftpb.Command_CreateAccount:
		return Account(op.CreateAccount.Account)
	case *raftpb.Command_RemoveAccount:
		return Account(op.RemoveAccount.Account)
	case *raftpb.Command_SetQuota:
		return Account(op.SetQuota.Account)
	case *raftpb.Command_ReserveInodes:
		return Account(op.ReserveInodes.Account)
	case *raftpb.Command_Create:
		return Ino(op.Create.Parent).Account()
	case *raftpb.Command_Link:
		return Ino(op.Link.Parent).Account()
	case *raftpb.Command_Unlink:
		return Ino(op.Unlink.Parent).Account()
	case *raftpb.Command_Rename:
		return Ino(op.Rename.OldParent).Account()
	case *raftpb.Command_SetAttr:
		return Ino(op.SetAttr.Inode).Account()
	case *raftpb.Command_SetContent:
		return Ino(op.SetContent.Inode).Account()
	case *raftpb.Command_PutPiece:
		return Account(op.PutPiece.Account)
	case *raftpb.Command_DropContent:
		return Account(op.DropContent.Account)
	case *raftpb.Command_SetXattr:
		return Ino(op.SetXattr.Inode).Account()
	case *raftpb.Command_RemoveXattr:
		return Ino(op.RemoveXattr.Inode).Account()
	case *raftpb.Command_BeginImport:
		return Account(op.BeginImport.Account)
	case *raftpb.Command_ImportRecords:
		return Account(op.ImportRecords.Account)
	case *raftpb.Command_EndImport:
		return Account(op.EndImport.Account)
	case *raftpb.Command_FreezeAccount:
		return Account(op.FreezeAccount.Account)
	case *raftpb.Command_ResealContent:
		return Ino(op.ResealContent.Inode).Account()
	case *raftpb.Command_FenceKeys:
		return Account(op.FenceKeys.Account)
	}
	return 0
}
