package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Hash is the SHA-256 of all keys and values of the tree, each behind its length (4 octets, big endian), in the order of the
// keys. Replicas that have applied the same commands have the same hash. It reads all contents.
func Hash(v *View) (sum [sha256.Size]byte, err error) {
	snap := v.snapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixTree}, UpperBound: []byte{prefixLast + 1}})
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	var length [4]byte
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var val []byte
		val, err = it.ValueAndErr()
		for _, b := range [][]byte{it.Key(), val} {
			binary.BigEndian.PutUint32(length[:], uint32(len(b)))
			h.Write(length[:])
			h.Write(b)
		}
	}
	h.Sum(sum[:0])
	return sum, closed(it, err)
}
