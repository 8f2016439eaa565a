package seal

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"

	"filippo.io/age"
)

// fileKey is age's symmetric key of one sealed content.
type fileKey [16]byte

// knownKeys remembers, beside a private key, the file keys of headers that it has opened, or that were sealed to it while it was
// here. Content that is opened again then costs a hash of its header in place of an ML-KEM and an X25519 operation. What it holds
// is worth less than the private key, lives as long, and is wiped with it.
//
// A header is known by all of its octets: one that is found here has been checked, MAC and all, when it came in.
type knownKeys struct {
	mu   sync.Mutex
	keys map[headerHash]*fileKey // nil once wiped; pointers, so that the map makes no copies of keys
}

// headerHash is the SHA-256 of an age header.
type headerHash [sha256.Size]byte

// maxKnown bounds the keys that all identities of the process remember (some 20 MiB), maxKnownEach those of one.
const (
	maxKnown     = 256 << 10
	maxKnownEach = 16 << 10
)

// known counts the keys that all identities remember.
var known atomic.Int64

func newKnownKeys() *knownKeys { return &knownKeys{keys: map[headerHash]*fileKey{}} }

func (k *knownKeys) find(header []byte) (fileKey, bool) {
	h := headerHash(sha256.Sum256(header))
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.keys[h]; key != nil {
		return *key, true
	}
	return fileKey{}, false
}

// remember takes note of a header's key. Where there is no room, it takes that of another one of this identity.
func (k *knownKeys) remember(header []byte, key fileKey) {
	h := headerHash(sha256.Sum256(header))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || k.keys[h] != nil {
		return
	}
	if len(k.keys) >= maxKnownEach || known.Load() >= maxKnown {
		if len(k.keys) == 0 {
			return
		}
		for h, old := range k.keys { // any
			*old = fileKey{}
			delete(k.keys, h)
			break
		}
		known.Add(-1)
	}
	k.keys[h] = &key
	known.Add(1)
}

func (k *knownKeys) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.keys {
		*key = fileKey{}
	}
	known.Add(-int64(len(k.keys)))
	k.keys = nil
}

// noted is a recipient that keeps the file key that it wrapped.
type noted struct {
	age.Recipient
	key fileKey
}

// Wrap implements age.Recipient.
func (n *noted) Wrap(key []byte) ([]*age.Stanza, error) {
	n.key = fileKey(key)
	return n.Recipient.Wrap(key)
}
