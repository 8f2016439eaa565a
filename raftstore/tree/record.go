package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// Records are a version octet, then numbers as unsigned varints in their shortest form, times as 8 octets big endian, and
// strings behind their length. A record has one encoding alone: anything else is refused as corrupt, so that replicas can be
// compared by hash and a flipped bit is found.

const recordVersion = 1

// ErrCorrupt says that a stored record can't be what was written.
var ErrCorrupt = errors.New("stored record is corrupt")

type encoder []byte

func (e *encoder) version()        { *e = append(*e, recordVersion) }
func (e *encoder) uint(v uint64)   { *e = binary.AppendUvarint(*e, v) }
func (e *encoder) time(v int64)    { *e = binary.BigEndian.AppendUint64(*e, uint64(v)) }
func (e *encoder) string(s string) { e.uint(uint64(len(s))); *e = append(*e, s...) }

type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	d.b = nil
}

func (d *decoder) version() {
	if len(d.b) == 0 {
		d.fail("empty")
		return
	}
	if d.b[0] != recordVersion {
		d.fail(fmt.Sprintf("record of version %d, this program knows %d", d.b[0], recordVersion))
		return
	}
	d.b = d.b[1:]
}

func (d *decoder) uint(max uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 || v > max {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 { return uint32(d.uint(1<<32 - 1)) }
func (d *decoder) uint64() uint64 { return d.uint(1<<64 - 1) }

func (d *decoder) time() int64 {
	if len(d.b) < 8 {
		d.fail("time")
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return int64(v)
}

func (d *decoder) string(max uint64) string {
	n := d.uint(max)
	if n > uint64(len(d.b)) {
		d.fail("string")
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("octets behind its end")
	}
	return d.err
}

func (e *encoder) stat(s *Stat) {
	e.uint(uint64(s.Mode))
	e.uint(uint64(s.UID))
	e.uint(uint64(s.GID))
	e.uint(uint64(s.Nlink))
	e.uint(s.Size)
	e.uint(s.SealedSize)
	e.time(s.Mtime)
	e.time(s.Ctime)
	e.time(s.Atime)
}

func (d *decoder) stat(s *Stat) {
	s.Mode, s.UID, s.GID, s.Nlink = d.uint32(), d.uint32(), d.uint32(), d.uint32()
	s.Size, s.SealedSize = d.uint64(), d.uint64()
	s.Mtime, s.Ctime, s.Atime = d.time(), d.time(), d.time()
}

// appendTo appends the record of the inode.
func (in *Inode) appendTo(b []byte) []byte {
	e := encoder(b)
	e.version()
	e.stat(&in.Stat)
	e.uint(uint64(len(in.Links)))
	for _, l := range in.Links {
		e.uint(l.Parent.Local())
		e.string(l.Name)
	}
	e.uint(in.Content)
	e.uint(uint64(in.Xattrs))
	e.string(in.Target)
	if in.IsDir() {
		e.uint(uint64(in.Role))
		e.uint(in.Entries)
		e.uint(uint64(in.Subdirs))
	}
	if in.Key > 0 {
		e.uint(in.Key)
	}
	if in.Role.IsFolder() {
		e.uint(uint64(in.UIDValidity))
		e.uint(uint64(in.UIDNext))
		e.uint(uint64(in.HighestModSeq))
		e.uint(in.Messages)
		e.uint(in.Vanished)
		e.uint(uint64(in.VanishedFloor))
	}
	return e
}

func decodeInode(i Ino, b []byte) (*Inode, error) {
	in := &Inode{Ino: i}
	d := decoder{b: b}
	d.version()
	d.stat(&in.Stat)
	if n := d.uint(MaxLinks); n > 0 {
		in.Links = make([]LinkName, 0, min(n+1, 8)) // link and rename add one
		for range n {
			in.Links = append(in.Links, LinkName{MakeIno(i.Account(), d.uint(maxLocal)), d.string(MaxName)})
			if d.err != nil {
				break
			}
		}
	}
	in.Content = d.uint(maxLocal)
	in.Xattrs = uint32(d.uint(MaxXattrs))
	in.Target = d.string(MaxTarget)
	if in.IsDir() {
		in.Role = Role(d.uint(uint64(RoleTmp)))
		in.Entries = d.uint64()
		in.Subdirs = d.uint32()
	}
	if d.err == nil && in.IsRegular() && len(d.b) > 0 {
		if in.Key = d.uint64(); in.Key == 0 || in.Content == 0 {
			d.fail("key")
		}
	}
	// Whoever has a directory counts on these: what is in cur and new, on their folder.
	names := 1
	if i.Local() == rootLocal {
		names = 0
	}
	if d.err == nil && (in.IsDir() && len(in.Links) != names || (in.Role == RoleRoot) != (names == 0)) {
		d.fail("names or role of a directory")
	}
	if in.Role.IsFolder() {
		in.UIDValidity = d.uint32()
		in.UIDNext = UID(d.uint32())
		in.HighestModSeq = ModSeq(d.uint64())
		in.Messages = d.uint64()
		in.Vanished = d.uint64()
		in.VanishedFloor = ModSeq(d.uint64())
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("inode %d of account %d: %w", i.Local(), i.Account(), err)
	}
	return in, nil
}

// appendTo appends the record of the entry. Of a directory it holds no more than the number and that it is one: all that
// changes stands in its inode alone.
func (de *DirEntry) appendTo(b []byte) []byte {
	e := encoder(b)
	e.version()
	e.uint(de.Ino.Local())
	if de.Stat.IsDir() {
		e.uint(syscall.S_IFDIR)
		return e
	}
	e.stat(&de.Stat)
	e.uint(uint64(de.UID))
	e.uint(uint64(de.ModSeq))
	return e
}

func (de *DirEntry) decode(dir Ino, name string, b []byte) error {
	d := decoder{b: b}
	d.version()
	*de = DirEntry{Name: name, Ino: MakeIno(dir.Account(), d.uint(maxLocal))}
	rest := d.b
	de.Stat.Mode = d.uint32()
	switch {
	case d.err != nil:
	case !de.Stat.IsDir():
		d.b = rest
		d.stat(&de.Stat)
		de.UID = UID(d.uint32())
		de.ModSeq = ModSeq(d.uint64())
	case de.Stat.Mode != syscall.S_IFDIR:
		d.fail("mode of a directory")
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("entry %q in inode %d of account %d: %w", name, dir.Local(), dir.Account(), err)
	}
	return nil
}

// appendTo appends the account's record.
func (r *AccountRecord) appendTo(b []byte) []byte {
	e := encoder(b)
	e.version()
	e.uint(r.NextLocal)
	e.uint(r.Bytes)
	e.uint(r.Files)
	e.uint(r.QuotaBytes)
	e.uint(r.QuotaFiles)
	e.uint(uint64(r.UIDValidity))
	if r.ModSeqBase > 0 || r.Move > 0 || r.Fence > 0 {
		e.uint(r.ModSeqBase)
	}
	if r.Move > 0 || r.Fence > 0 {
		e.uint(r.Move)
		e.uint(uint64(r.Frozen))
	}
	if r.Fence > 0 {
		e.uint(r.Fence)
	}
	return e
}

func decodeAccount(a Account, b []byte) (*AccountRecord, error) {
	r := &AccountRecord{Account: a}
	d := decoder{b: b}
	d.version()
	r.NextLocal = d.uint(maxLocal)
	r.Bytes, r.Files = d.uint64(), d.uint64()
	r.QuotaBytes, r.QuotaFiles = d.uint64(), d.uint64()
	r.UIDValidity = d.uint32()
	if d.err == nil && len(d.b) > 0 {
		if r.ModSeqBase = d.uint(maxModSeqBase); len(d.b) > 0 {
			r.Move, r.Frozen = d.uint64(), d.uint32()
			if len(d.b) > 0 {
				if r.Fence = d.uint64(); r.Fence == 0 {
					d.fail("fence")
				}
			}
			if r.Move == 0 && (r.Frozen != 0 || r.Fence == 0) {
				d.fail("move")
			}
		} else if r.ModSeqBase == 0 {
			d.fail("MODSEQ base")
		}
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("account %d: %w", a, err)
	}
	return r, nil
}

// position is the record behind a kindModSeq key: where the message lies that changed then.
type position struct {
	box  Role // RoleCur or RoleNew
	name string
}

func (p *position) appendTo(b []byte) []byte {
	e := encoder(b)
	e.version()
	e.uint(uint64(p.box))
	e.string(p.name)
	return e
}

func decodePosition(b []byte) (p position, err error) {
	d := decoder{b: b}
	d.version()
	p.box = Role(d.uint(uint64(RoleTmp)))
	p.name = d.string(MaxName)
	if d.err == nil && !p.box.HoldsMessages() {
		d.fail("box")
	}
	return p, d.end()
}

// tombstone is the record behind a kindVanished key, which says all.
var tombstone = []byte{recordVersion}

func decodeTombstone(b []byte) error {
	d := decoder{b: b}
	d.version()
	return d.end()
}

// orphan is the record of a content whose pieces have come but that no inode names yet. All pieces but the last have MaxPiece
// octets, so octets tells whether the last has come, and with top whether any is missing before it.
type orphan struct {
	since  int64 // when the first piece came
	octets uint64
	pieces uint32
	top    uint32 // the highest number of a piece
}

func (o *orphan) appendTo(b []byte) []byte {
	e := encoder(b)
	e.version()
	e.time(o.since)
	e.uint(o.octets)
	e.uint(uint64(o.pieces))
	e.uint(uint64(o.top))
	return e
}

func decodeOrphan(b []byte) (o orphan, err error) {
	d := decoder{b: b}
	d.version()
	o.since, o.octets, o.pieces, o.top = d.time(), d.uint64(), d.uint32(), d.uint32()
	return o, d.end()
}
