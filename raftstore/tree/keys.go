package tree

import (
	"encoding/binary"

	"mailraft/raftstore/machine"
)

// Every key of the tree is 'a', the account (4 octets, big endian as all numbers here), a letter for the kind of record, and
// the rest below. So an account's records are one range: dropped at once, copied at once.
const prefixTree = machine.PrefixMachine

const (
	kindAccount  = 'a' // AccountRecord
	kindContent  = 'c' // content (8) piece (4): sealed octets
	kindEntry    = 'e' // directory (8) name: directory entry
	kindInode    = 'i' // inode (8)
	kindModSeq   = 'm' // folder (8) modseq (8) uid (4): where the message lies
	kindOrphan   = 'o' // content (8): pieces that came and that no inode names yet
	kindVanished = 'v' // folder (8) modseq (8) uid (4): a message that went
	kindXattr    = 'x' // inode (8) name: value
)

const keyPrefix = 1 + 4 + 1 // octets before a record's own part

func appendKind(k []byte, a Account, kind byte) []byte {
	k = append(k, prefixTree)
	k = binary.BigEndian.AppendUint32(k, uint32(a))
	return append(k, kind)
}

func accountKey(a Account) []byte { return appendKind(make([]byte, 0, keyPrefix), a, kindAccount) }

// accountRange is the half-open range of all keys of an account.
func accountRange(a Account) (from, to []byte) {
	from = binary.BigEndian.AppendUint32([]byte{prefixTree}, uint32(a))
	return from, keyAfter(from)
}

func inoKey(kind byte, i Ino) []byte {
	k := appendKind(make([]byte, 0, 64), i.Account(), kind)
	return binary.BigEndian.AppendUint64(k, i.Local())
}

func inodeKey(i Ino) []byte { return inoKey(kindInode, i) }

func entryKey(dir Ino, name string) []byte { return append(inoKey(kindEntry, dir), name...) }

func pieceKey(content Ino, piece uint32) []byte {
	return binary.BigEndian.AppendUint32(inoKey(kindContent, content), piece)
}

func orphanKey(content Ino) []byte { return inoKey(kindOrphan, content) }

func xattrKey(i Ino, name string) []byte { return append(inoKey(kindXattr, i), name...) }

func changeKey(kind byte, folder Ino, m ModSeq, uid UID) []byte {
	k := binary.BigEndian.AppendUint64(inoKey(kind, folder), uint64(m))
	return binary.BigEndian.AppendUint32(k, uint32(uid))
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
