package tree

import (
	"encoding/binary"
	"fmt"

	"mailraft/raftstore/machine"
)

// Every key of the tree but one kind is 'a', the account (4 octets, big endian as all numbers here), a letter for the kind of
// record, and the rest below. So an account's records are one range: dropped at once, copied at once. The exception are the
// orphans, 'o', account (4), content (8): those of all accounts lie together, since they are looked for all at once.
const (
	prefixTree   = machine.PrefixMachine
	prefixOrphan = 'o' // pieces that came and that no inode names yet
	prefixLast   = 'z' // of those that a machine may use
)

const (
	kindAccount  = 'a' // AccountRecord
	kindContent  = 'c' // content (8) piece (4): sealed octets
	kindEntry    = 'e' // directory (8) name: directory entry
	kindInode    = 'i' // inode (8)
	kindModSeq   = 'm' // folder (8) modseq (8) uid (4): where the message lies
	kindVanished = 'v' // folder (8) modseq (8) uid (4): a message that went
	kindXattr    = 'x' // inode (8) name: value

	kindImport = 't' // instead of kindAccount while the account is being imported
)

const (
	keyPrefix  = 1 + 4 + 1     // octets before a record's own part
	inoPrefix  = keyPrefix + 8 // octets before what follows an inode's number
	pieceLen   = inoPrefix + 4
	changeLen  = inoPrefix + 8 + 4
	orphanLen  = 1 + 4 + 8
	keyScratch = 64 // octets that most keys fit in
)

func appendKind(k []byte, a Account, kind byte) []byte {
	k = append(k, prefixTree)
	k = binary.BigEndian.AppendUint32(k, uint32(a))
	return append(k, kind)
}

func appendIno(k []byte, kind byte, i Ino) []byte {
	return binary.BigEndian.AppendUint64(appendKind(k, i.Account(), kind), i.Local())
}

func appendOrphan(k []byte, content Ino) []byte {
	k = binary.BigEndian.AppendUint32(append(k, prefixOrphan), uint32(content.Account()))
	return binary.BigEndian.AppendUint64(k, content.Local())
}

func accountKey(a Account) []byte { return appendKind(make([]byte, 0, keyPrefix), a, kindAccount) }

func importKey(a Account) []byte { return appendKind(make([]byte, 0, keyPrefix), a, kindImport) }

// accountRange is the half-open range of all keys of an account, but its orphans.
func accountRange(a Account) (from, to []byte) {
	from = binary.BigEndian.AppendUint32([]byte{prefixTree}, uint32(a))
	return from, keyAfter(from)
}

// orphanRange is the half-open range of the keys of an account's orphans.
func orphanRange(a Account) (from, to []byte) {
	from = binary.BigEndian.AppendUint32([]byte{prefixOrphan}, uint32(a))
	return from, keyAfter(from)
}

func inoKey(kind byte, i Ino) []byte { return appendIno(make([]byte, 0, keyScratch), kind, i) }

func inodeKey(i Ino) []byte { return inoKey(kindInode, i) }

func entryKey(dir Ino, name string) []byte { return append(inoKey(kindEntry, dir), name...) }

func pieceKey(content Ino, piece uint32) []byte {
	return binary.BigEndian.AppendUint32(inoKey(kindContent, content), piece)
}

func orphanKey(content Ino) []byte { return appendOrphan(make([]byte, 0, orphanLen), content) }

func xattrKey(i Ino, name string) []byte { return append(inoKey(kindXattr, i), name...) }

func changeKey(kind byte, folder Ino, m ModSeq, uid UID) []byte {
	k := binary.BigEndian.AppendUint64(inoKey(kind, folder), uint64(m))
	return binary.BigEndian.AppendUint32(k, uint32(uid))
}

// splitChangeKey takes a changeKey apart.
func splitChangeKey(k []byte) (ModSeq, UID, error) {
	if len(k) != changeLen {
		return 0, 0, fmt.Errorf("%w: key of a change", ErrCorrupt)
	}
	k = k[inoPrefix:]
	return ModSeq(binary.BigEndian.Uint64(k)), UID(binary.BigEndian.Uint32(k[8:])), nil
}

// splitOrphanKey takes an orphanKey apart.
func splitOrphanKey(k []byte) (Ino, error) {
	if len(k) == orphanLen {
		a, local := Account(binary.BigEndian.Uint32(k[1:])), binary.BigEndian.Uint64(k[5:])
		if a != 0 && a <= MaxAccount && local <= maxLocal {
			return MakeIno(a, local), nil
		}
	}
	return 0, fmt.Errorf("%w: key of an orphan", ErrCorrupt)
}

// keyAfter is the least key greater than all that begin with k.
func keyAfter(k []byte) []byte {
	a := append([]byte(nil), k...)
	for i := len(a) - 1; i >= 0; i-- {
		if a[i]++; a[i] != 0 {
			return a[:i+1]
		}
	}
	return nil
}
