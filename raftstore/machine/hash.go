package machine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Hash is the SHA-256 of all keys and values within the bounds, each behind its length (4 octets, big endian), in the order of the keys, but
// for the key without. Replicas that have applied the same commands have the same hash. It reads all of that.
func Hash(ctx context.Context, r pebble.Reader, bounds *pebble.IterOptions, without []byte) (sum [sha256.Size]byte, err error) {
	it, err := r.NewIter(bounds)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	h := sha256.New()
	var length [4]byte
	for ok := it.First(); ok && ctx.Err() == nil; ok = it.Next() {
		if bytes.Equal(it.Key(), without) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return sum, err
		}
		for _, b := range [][]byte{it.Key(), value} {
			binary.BigEndian.PutUint32(length[:], uint32(len(b)))
			h.Write(length[:])
			h.Write(b)
		}
	}
	h.Sum(sum[:0])
	return sum, ctx.Err()
}
