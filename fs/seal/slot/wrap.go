package slot

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sync/semaphore"

	"mailraft/fs/seal"
)

// Gate makes derivations take turns. A turn is DefaultParams.Memory (64 MiB); a record that asks for more takes several
// turns at once. So the derivations of one Gate take at most its turns times 64 MiB together (and what the garbage
// collector has not yet taken back of those before).
type Gate struct {
	turns int64
	sem   *semaphore.Weighted
}

// NewGate returns a Gate of that many turns; at least one.
func NewGate(turns int) *Gate {
	n := int64(max(1, turns))
	return &Gate{n, semaphore.NewWeighted(n)}
}

// Enter waits until there is memory for a derivation with p; leave gives it back, once. Errors: ctx's, ErrParams when the
// parameters are not served, or need more than all of the Gate's turns.
func (g *Gate) Enter(ctx context.Context, p Params) (leave func(), err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	n := (int64(p.Memory) + int64(DefaultParams.Memory) - 1) / int64(DefaultParams.Memory)
	if n > g.turns {
		return nil, fmt.Errorf("%w: m=%d KiB, more than this node grants", ErrParams, p.Memory)
	}
	if err := g.sem.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { g.sem.Release(n) }, nil
}

// Wrap is [Wrap], when it is its turn. Errors: those of Enter and Wrap.
func (g *Gate) Wrap(ctx context.Context, id seal.Identity, password []byte, p Params, b Binding) (*Slot, error) {
	leave, err := g.Enter(ctx, p)
	if err != nil {
		return nil, err
	}
	defer leave()
	return Wrap(id, password, p, b)
}

// Unwrap is [Unwrap], when it is its turn. Errors: those of Enter and Unwrap.
func (g *Gate) Unwrap(ctx context.Context, s *Slot, account uint64, password []byte) (seal.Identity, error) {
	leave, err := g.Enter(ctx, s.Params)
	if err != nil {
		return seal.Identity{}, err
	}
	defer leave()
	return Unwrap(s, account, password)
}

// Binding is where a slot belongs.
type Binding struct {
	Account uint64
	Slot    uint64 // becomes Slot.ID
	Kind    Kind
}

// Wrap seals id under password, which stays the caller's to wipe and is taken byte for byte: normalising it is the
// caller's business. It takes p's time and memory at once: where several may come together, go through a [Gate].
// Errors: ErrParams, ErrRecord for an unknown kind, seal.ErrWiped.
func Wrap(id seal.Identity, password []byte, p Params, b Binding) (*Slot, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if b.Kind != Password {
		return nil, fmt.Errorf("%w: kind %v", ErrRecord, b.Kind)
	}
	encoded, err := id.Encode()
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	s := &Slot{ID: b.Slot, Kind: b.Kind, Params: p}
	rand.Read(s.Salt[:]) // never fails
	rand.Read(s.Nonce[:])
	kek := s.derive(password)
	defer clear(kek)
	aead, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return nil, fmt.Errorf("wrap: %w", err)
	}
	s.Sealed = aead.Seal(nil, s.Nonce[:], encoded, s.additional(b.Account))
	return s, nil
}

// Unwrap opens slot s of account. password stays the caller's to wipe. It takes s.Params' time and memory at once: where
// several may come together, go through a [Gate]. Errors: ErrWrongPassword, ErrParams.
//
// The key-encryption key is wiped. Copies of it in the cipher object, and the memory that Argon2id filled, are the x/crypto
// library's and only left to the garbage collector.
func Unwrap(s *Slot, account uint64, password []byte) (seal.Identity, error) {
	if err := s.Params.Check(); err != nil {
		return seal.Identity{}, err
	}
	kek := s.derive(password)
	defer clear(kek)
	aead, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return seal.Identity{}, fmt.Errorf("unwrap: %w", err)
	}
	encoded, err := aead.Open(nil, s.Nonce[:], s.Sealed, s.additional(account))
	if err != nil {
		return seal.Identity{}, ErrWrongPassword
	}
	defer clear(encoded)
	id, err := seal.ParseIdentity(encoded)
	if err != nil {
		return seal.Identity{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return id, nil
}

// derive returns the key-encryption key, 32 bytes, for the caller to wipe.
func (s *Slot) derive(password []byte) []byte {
	p := s.Params
	return argon2.IDKey(password, s.Salt[:], p.Passes, p.Memory, p.Threads, chacha20poly1305.KeySize)
}

// additional returns the AEAD's additional data: a name, the account, and the record up to the nonce.
func (s *Slot) additional(account uint64) []byte {
	b := append(make([]byte, 0, 64), "mailraft key slot\x00"...)
	b = binary.BigEndian.AppendUint64(b, account)
	return s.appendHead(b)
}
