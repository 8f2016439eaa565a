package tree

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
)

// records decodes and encodes again each kind of stored record.
var records = map[byte]func(b []byte) ([]byte, error){
	kindAccount: func(b []byte) ([]byte, error) {
		r, err := decodeAccount(7, b)
		if err != nil {
			return nil, err
		}
		return r.appendTo(nil), nil
	},
	kindInode: func(b []byte) ([]byte, error) {
		in, err := decodeInode(MakeIno(7, 99), b)
		if err != nil {
			return nil, err
		}
		return in.appendTo(nil), nil
	},
	kindEntry: func(b []byte) ([]byte, error) {
		var de DirEntry
		err := de.decode(RootIno(7), "name", b)
		return de.appendTo(nil), err
	},
	kindModSeq: func(b []byte) ([]byte, error) {
		p, err := decodePosition(b)
		return p.appendTo(nil), err
	},
	kindImport: func(b []byte) ([]byte, error) {
		i, err := decodeImporting(b)
		return i.appendTo(nil), err
	},
	kindVanished: func(b []byte) ([]byte, error) { return tombstone, decodeTombstone(b) },
	prefixOrphan: func(b []byte) ([]byte, error) {
		o, err := decodeOrphan(b)
		return o.appendTo(nil), err
	},
}

// FuzzMalleability looks for octets that decode to a record, but are not what that record encodes to: there must be one
// encoding of each. The kind is the letter that docs/format.md has for the record.
func FuzzMalleability(f *testing.F) {
	s := newScene(f)
	f.Add(byte(kindImport), (&importing{account: []byte("x"), modSeq: 300}).appendTo(nil))
	f.Add(byte(kindImport), (&importing{attempt: 7, move: 2}).appendTo(nil))
	f.Add(byte(kindAccount), (&AccountRecord{NextLocal: 8, ModSeqBase: 7}).appendTo(nil))
	f.Add(byte(kindAccount), (&AccountRecord{NextLocal: 8, Move: 3, Frozen: 2}).appendTo(nil))
	f.Add(byte(kindAccount), (&AccountRecord{NextLocal: 8, Fence: 2}).appendTo(nil))
	f.Add(byte(kindAccount), (&AccountRecord{NextLocal: 8, ModSeqBase: 1, Move: 3, Frozen: 2, Fence: 2}).appendTo(nil))
	f.Add(byte(kindInode), (&Inode{Stat: Stat{Mode: syscall.S_IFREG}, Content: 9, Key: 2}).appendTo(nil))
	for _, kv := range s.dump() {
		kind := kv[0][0]
		if kind == prefixTree {
			kind = kv[0][keyPrefix-1]
		}
		if records[kind] != nil {
			f.Add(kind, []byte(kv[1]))
		}
	}
	s.close()
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		record := records[kind]
		if record == nil {
			return
		}
		again, err := record(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error that is not ErrCorrupt: %v", err)
			}
			return
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("kind %c: %x decodes, and encodes to %x", kind, b, again)
		}
	})
}
