package directory

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
)

// records decodes and encodes again each kind of stored record.
var records = map[byte]func(b []byte) ([]byte, error){
	keyAccount:  again(new(raftpb.Account)),
	keyAlias:    again(new(raftpb.AddAlias)),
	keyShard:    again(new(raftpb.PutShard)),
	keyNode:     again(new(raftpb.PutNode)),
	keyToken:    again(new(raftpb.AddToken)),
	keyCluster:  again(new(raftpb.PutCluster)),
	keyVersion:  again(new(raftpb.RaiseVersion)),
	keySecret:   again(new(raftpb.PutSecret)),
	keyFailures: again(new(raftpb.NoteFailures)),
	keyDomain:   numberAgain,
	keyName:     numberAgain,
	keyNumbers: func(b []byte) ([]byte, error) {
		acct, dom, err := decodeNumbers(b)
		return appendNumber(appendNumber(nil, acct), dom), err
	},
}

func again(m proto.Message) func(b []byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		m := m.ProtoReflect().New().Interface()
		if err := decode(b, m); err != nil {
			return nil, err
		}
		return canonical.Marshal(proto.Clone(m))
	}
}

func numberAgain(b []byte) ([]byte, error) {
	n, err := decodeNumber(b)
	return appendNumber(nil, n), err
}

// What is stored is read again by programs that were built with a newer protobuf library, which does not promise to encode as this one
// does.
func TestEncodingStays(t *testing.T) {
	const stored = "08011205616c6963651a09612e6578616d706c6520022a046167653132100801120870617373776f726422020101320708021a0374776f" +
		"3801400149050000000000000050808080808020"
	b, err := hex.DecodeString(stored)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := decodeAccount(1, b); err != nil || a.LocalPart != "alice" || a.QuotaBytes != 1<<40 || len(a.Slots) != 2 {
		t.Errorf("%v, %v", a, err)
	}
}

// FuzzMalleability looks for octets that decode to a record, but are not what that record encodes to: there must be one encoding of
// each. The kind is the letter that docs/format.md has for the record.
func FuzzMalleability(f *testing.F) {
	r := newReplica(f)
	for i, cmd := range []*raftpb.Command{
		{Op: &raftpb.Command_AddDomain{AddDomain: &raftpb.AddDomain{Name: "a.example"}}},
		{Now: 5, Op: &raftpb.Command_AddAccounts{AddAccounts: &raftpb.AddAccounts{Accounts: []*raftpb.Account{{
			LocalPart: "alice", Domain: "a.example", Shard: 2, Recipient: "age1",
			Slots: []*raftpb.Slot{{Id: 1, Kind: "password", Record: []byte{1, 1}}, {Id: 2, Name: "two"}}, QuotaBytes: 1 << 40,
		}}}}},
		{Op: &raftpb.Command_AddAlias{AddAlias: &raftpb.AddAlias{LocalPart: "al", Domain: "a.example", Targets: []string{"alice@a.example", "b"}}}},
		{Op: &raftpb.Command_PutShard{PutShard: &raftpb.PutShard{Id: 2, Voters: []string{"n1", "n2"}}}},
		{Op: &raftpb.Command_PutNode{PutNode: &raftpb.PutNode{Id: "n1", Address: "localhost:1"}}},
		{Op: &raftpb.Command_PutCluster{PutCluster: &raftpb.PutCluster{Name: "c", Certificate: []byte{1}, PrivateKey: []byte{2}}}},
		{Op: &raftpb.Command_AddToken{AddToken: &raftpb.AddToken{Id: []byte("t"), Hash: make([]byte, 32), Expires: 9}}},
	} {
		if res := r.apply(uint64(i+1), cmd); res.Errno != 0 {
			f.Fatalf("%v: %v", cmd, res.Errno)
		}
	}
	r.commit()
	for _, kv := range r.dump() {
		kind, b := kv[0][0], []byte(kv[1])
		if records[kind] == nil {
			continue // a domain's name, which is any
		}
		f.Add(kind, b)
		f.Add(kind, slices.Concat(b, []byte{0}))
		f.Add(kind, slices.Concat(b, b))                        // to protobuf, a message twice over is that message,
		f.Add(kind, slices.Concat(b, []byte{0x08, 0x81, 0x00})) // the last of a field's values counts, and so does a number in a longer form
	}
	r.close()
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
