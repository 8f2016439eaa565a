package directory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
)

// ErrCorrupt is a stored record that is not what this package writes.
var ErrCorrupt = errors.New("stored record is corrupt")

// canonical makes the one encoding of a record that is stored, and read: replicas are compared octet by octet.
var canonical = proto.MarshalOptions{Deterministic: true}

func put(b *pebble.Batch, k []byte, m proto.Message) error {
	v, err := canonical.Marshal(m)
	if err != nil {
		return err
	}
	return b.Set(k, v, nil)
}

func decode(v []byte, m proto.Message) error {
	if err := proto.Unmarshal(v, m); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	again, err := canonical.Marshal(m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !bytes.Equal(again, v) {
		return fmt.Errorf("%w: %s is encoded in another way", ErrCorrupt, m.ProtoReflect().Descriptor().Name())
	}
	return nil
}

// record reads a record into m: ENOENT.
func record[M proto.Message](r pebble.Reader, k []byte, m M) (M, error) {
	v, err := get(r, k)
	if err == nil {
		err = decode(v, m)
	}
	return m, err
}

// absent makes sure that nothing is stored under a key: EEXIST.
func absent(r pebble.Reader, k []byte) error {
	switch _, err := get(r, k); err {
	case syscall.ENOENT:
		return nil
	case nil:
		return syscall.EEXIST
	default:
		return err
	}
}

// replaceable makes sure that the record under a key is of that version still; of none is 0: EAGAIN. It is read into m.
func replaceable(r pebble.Reader, k []byte, m interface {
	proto.Message
	GetVersion() uint64
}, version uint64) error {
	if _, err := record(r, k, m); err != nil && err != syscall.ENOENT {
		return err
	}
	if m.GetVersion() != version {
		return syscall.EAGAIN
	}
	return nil
}

func account(r pebble.Reader, n uint32) (*raftpb.Account, error) {
	v, err := get(r, key(keyAccount, n, ""))
	if err != nil {
		return nil, err
	}
	return decodeAccount(n, v)
}

func decodeAccount(n uint32, v []byte) (*raftpb.Account, error) {
	a := new(raftpb.Account)
	if err := decode(v, a); err != nil {
		return nil, fmt.Errorf("account %d: %w", n, err)
	}
	return a, nil
}

func appendNumber(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

func decodeNumber(v []byte) (uint32, error) {
	if len(v) != 4 {
		return 0, fmt.Errorf("%w: a number of %d octets", ErrCorrupt, len(v))
	}
	return binary.BigEndian.Uint32(v), nil
}

// decodeNumbers decodes the account and the domain number given last.
func decodeNumbers(v []byte) (acct, dom uint32, err error) {
	if len(v) != 8 {
		return 0, 0, fmt.Errorf("%w: numbers of %d octets", ErrCorrupt, len(v))
	}
	return binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), nil
}
