package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"mailraft/fs/lockedmem"
)

// Kind is the kind of a key pair.
type Kind uint8

// The kinds of key pairs. The numbers are stored: they never change.
const (
	Hybrid Kind = 1 // ML-KEM-768 with X25519, the default: age1pq1..., AGE-SECRET-KEY-PQ-1...
	X25519 Kind = 2 // X25519 alone, for tools that know no hybrid keys: age1..., AGE-SECRET-KEY-1...
)

// String returns "hybrid" or "x25519", as the configuration has it.
func (k Kind) String() string {
	switch k {
	case Hybrid:
		return "hybrid"
	case X25519:
		return "x25519"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind is the reverse of [Kind.String]. Errors: ErrKey.
func ParseKind(s string) (Kind, error) {
	switch s {
	case "hybrid":
		return Hybrid, nil
	case "x25519":
		return X25519, nil
	}
	return 0, fmt.Errorf("%w: kind %q is neither hybrid nor x25519", ErrKey, s)
}

// Prefixes of age's encodings, in the case that age prints them.
const (
	prefixHybridRecipient = "age1pq1"
	prefixX25519Recipient = "age1"
	prefixHybridIdentity  = "AGE-SECRET-KEY-PQ-1"
	prefixX25519Identity  = "AGE-SECRET-KEY-1"
)

// Recipient is an account's public key. It is immutable and safe for concurrent use. Parsing a hybrid one costs about as
// much as sealing: keep it.
type Recipient struct {
	kind Kind
	text string
	key  age.Recipient
}

// ParseRecipient reads a public key as age prints it: "age1pq1..." is hybrid, "age1..." X25519. Only the canonical (lower
// case) form is taken. Errors: ErrKey.
func ParseRecipient(s string) (*Recipient, error) {
	var r *Recipient
	switch {
	case strings.HasPrefix(s, prefixHybridRecipient):
		key, err := age.ParseHybridRecipient(s)
		if err != nil {
			return nil, fmt.Errorf("%w: not a hybrid public key", ErrKey)
		}
		r = &Recipient{Hybrid, key.String(), key}
	case strings.HasPrefix(s, prefixX25519Recipient):
		key, err := age.ParseX25519Recipient(s)
		if err != nil {
			return nil, fmt.Errorf("%w: not an X25519 public key", ErrKey)
		}
		r = &Recipient{X25519, key.String(), key}
	default:
		return nil, fmt.Errorf("%w: a public key begins with age1pq1 or age1", ErrKey)
	}
	if r.text != s {
		return nil, fmt.Errorf("%w: public key is not in its canonical form", ErrKey)
	}
	return r, nil
}

// Kind returns the kind of the key.
func (r *Recipient) Kind() Kind { return r.kind }

// String returns the public key as [ParseRecipient] reads it.
func (r *Recipient) String() string { return r.text }

// Identity is an account's private key: a handle, whose copies share one key and are wiped together. The zero Identity
// holds none. It is safe for concurrent use and never prints its key.
//
// The key is kept in locked memory, and parsed when it is needed: age wants objects of its own, on Go's heap, that cannot be overwritten
// from outside. Parsing a hybrid key costs several times what opening a header does, so an object is kept while it is in use, and for
// parsedFor after that; then it is left to the garbage collector, with what else age made of it. [Identity.Wipe] wipes the locked
// memory and drops the object.
type Identity struct{ s *secret }

type secret struct {
	kind      Kind
	recipient *Recipient
	encoded   *lockedmem.Secret
	known     *knownKeys

	mu     sync.Mutex
	parsed age.Identity // nil: not needed at the moment, or wiped
	unused *time.Timer  // ends it
}

// parsedFor is how long a parsed key is kept that nobody uses.
const parsedFor = 10 * time.Second

// GenerateIdentity makes a new key pair from the system's randomness. Errors: ErrKey for an unknown kind.
func GenerateIdentity(kind Kind) (Identity, error) {
	switch kind {
	case Hybrid:
		key, err := age.GenerateHybridIdentity()
		if err != nil {
			return Identity{}, fmt.Errorf("generate a hybrid key: %w", err)
		}
		return newHybrid(key), nil
	case X25519:
		key, err := age.GenerateX25519Identity()
		if err != nil {
			return Identity{}, fmt.Errorf("generate an X25519 key: %w", err)
		}
		return newX25519(key), nil
	}
	return Identity{}, fmt.Errorf("%w: %v", ErrKey, kind)
}

// ParseIdentity reads a private key as [Identity.Encode] gives it: "AGE-SECRET-KEY-PQ-1..." or "AGE-SECRET-KEY-1...".
// encoded stays the caller's, who wipes it. Errors: ErrKey, which never quotes the input.
func ParseIdentity(encoded []byte) (Identity, error) {
	switch key := parse(encoded).(type) {
	case *age.HybridIdentity:
		return newHybrid(key), nil
	case *age.X25519Identity:
		return newX25519(key), nil
	}
	return Identity{}, fmt.Errorf("%w: not a private key", ErrKey)
}

// parse has age parse a private key; nil: it is none.
func parse(encoded []byte) age.Identity {
	s := string(encoded) // age parses strings alone: this copy cannot be wiped
	switch {
	case strings.HasPrefix(s, prefixHybridIdentity):
		if key, err := age.ParseHybridIdentity(s); err == nil {
			return key
		}
	case strings.HasPrefix(s, prefixX25519Identity):
		if key, err := age.ParseX25519Identity(s); err == nil {
			return key
		}
	}
	return nil
}

func newHybrid(key *age.HybridIdentity) Identity {
	public := key.Recipient()
	return newIdentity(&Recipient{Hybrid, public.String(), public}, key, key.String())
}

func newX25519(key *age.X25519Identity) Identity {
	public := key.Recipient()
	return newIdentity(&Recipient{X25519, public.String(), public}, key, key.String())
}

func newIdentity(public *Recipient, key age.Identity, encoded string) Identity {
	b := []byte(encoded)
	defer clear(b)
	s := &secret{kind: public.kind, recipient: public, encoded: lockedmem.Keep(b), known: newKnownKeys(), parsed: key}
	s.unused = time.AfterFunc(parsedFor, s.drop)
	return Identity{s}
}

// drop leaves the parsed key to the garbage collector.
func (s *secret) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parsed = nil
}

// key returns the parsed key; nil once it is wiped.
func (s *secret) key() age.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parsed == nil {
		s.encoded.Use(func(b []byte) { s.parsed = parse(b) }) // if freed, nil stays
	}
	if s.parsed != nil {
		s.unused.Reset(parsedFor)
	}
	return s.parsed
}

// Kind returns the kind of the key, also after it was wiped; 0 for the zero Identity.
func (i Identity) Kind() Kind {
	if i.s == nil {
		return 0
	}
	return i.s.kind
}

// Recipient returns the public key, also after the private one was wiped; nil for the zero Identity.
func (i Identity) Recipient() *Recipient {
	if i.s == nil {
		return nil
	}
	return i.s.recipient
}

// Encode returns the private key as [ParseIdentity] reads it, 74 to 77 bytes, for the caller to wrap and to wipe.
// Errors: ErrWiped.
func (i Identity) Encode() (encoded []byte, err error) {
	if i.s == nil || i.s.encoded.Use(func(b []byte) { encoded = bytes.Clone(b) }) != nil {
		return nil, ErrWiped
	}
	return encoded, nil
}

// Wipe forgets the key in all copies of i, and the file keys that it has unwrapped; see [Identity] for what stays behind. Opens
// under way finish, later ones are ErrWiped. Wiping again does nothing.
func (i Identity) Wipe() {
	if i.s == nil {
		return
	}
	i.s.encoded.Free()
	i.s.drop()
	i.s.unused.Stop()
	i.s.known.wipe()
}

// Remember has i open what p will seal without unwrapping its header's key first, if p is prepared for i's own public key.
func (i Identity) Remember(p *Prepared) {
	if !i.Wiped() && p.to == i.s.recipient.text && p.age != nil {
		i.s.known.remember(p.out.b[:len(p.out.b)-headerNonce], p.noted.key)
	}
}

// Wiped says whether there is no key to open anything with.
func (i Identity) Wiped() bool { return i.s == nil || i.s.encoded.Freed() }

// String returns a text without any part of the key.
func (i Identity) String() string { return "private " + i.Kind().String() + " key" }

// GoString is String, so that no verb of package fmt reaches the key.
func (i Identity) GoString() string { return i.String() }

// fileKeyOf returns the file key of a header, and remembers it. Errors: ErrWrongKey, ErrCorrupt; ErrWiped when one that was wiped might open it.
func fileKeyOf(header []byte, ids []Identity) (fileKey, error) {
	for _, id := range ids { // before any is tried, which costs more
		if !id.Wiped() {
			if known, ok := id.s.known.find(header); ok {
				return known, nil
			}
		}
	}
	err := ErrWrongKey
	if len(ids) == 0 {
		err = ErrWiped
	}
	for _, id := range ids {
		if id.Wiped() {
			err = ErrWiped
			continue
		}
		key := id.s.key()
		if key == nil {
			err = ErrWiped
			continue
		}
		b, derr := age.DecryptHeader(header, key)
		if derr == nil {
			found := fileKey(b)
			clear(b)
			id.s.known.remember(header, found)
			return found, nil
		}
		var mismatch *age.NoIdentityMatchError
		if !errors.As(derr, &mismatch) {
			return fileKey{}, corrupt("%w", derr)
		}
	}
	return fileKey{}, err
}
