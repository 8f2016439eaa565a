package slot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// What slots answer; test with errors.Is.
var (
	// ErrWrongPassword: the password does not open this slot, or the record was altered or moved: these cannot be told apart.
	ErrWrongPassword = errors.New("wrong password")
	// ErrRecord: the bytes are not a slot record.
	ErrRecord = errors.New("malformed key slot")
	// ErrParams: the derivation parameters are outside of what is served.
	ErrParams = errors.New("key derivation parameters out of bounds")
	// ErrBusy: so many derivations wait for the same party that no more may.
	ErrBusy = errors.New("too many derivations are waiting")
)

// Kind is the kind of secret that opens a slot.
type Kind uint8

// The kinds of slots. The numbers are stored: they never change.
const (
	Password Kind = 1 // chosen by a person, stretched with Argon2id
	Recovery Kind = 2 // SecretSize random octets, which need no stretching
	App      Kind = 3 // an app password: the SecretSize random characters of it
	SCRAM    Kind = 4 // the ClientKey that SCRAM-SHA-256 makes of a password (RFC 5802, 3; RFC 7677)
)

// SecretSize is the size of a secret that this program makes, in bytes: of random octets 160 bits, of an app password's characters 100. Neither
// can be guessed.
const SecretSize = 20

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Password:
		return "password"
	case Recovery:
		return "recovery"
	case App:
		return "app"
	case SCRAM:
		return "scram"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Params are the cost parameters of Argon2id (RFC 9106, 3.1); of SCRAM Passes alone, the iterations of PBKDF2.
type Params struct {
	Passes  uint32 // t
	Memory  uint32 // m, in KiB
	Threads uint8  // p
}

// DefaultParams is RFC 9106's second recommended option (section 4): t=3, p=4, m=64 MiB.
var DefaultParams = Params{Passes: 3, Memory: 64 << 10, Threads: 4}

// Bounds of the parameters that are served, whatever a record asks for.
const (
	MaxPasses  = 64
	MaxMemory  = 1 << 20 // KiB: 1 GiB
	MaxThreads = 16
	// MaxWork bounds Passes times Memory, in KiB: about twenty times the default, seconds rather than minutes.
	MaxWork = 4 << 20
	// MinMemory is what Argon2id needs a thread, in KiB (RFC 9106, 3.1).
	MinMemory = 8
	// MinIterations is the least of SCRAM (RFC 7677, 4), and MaxIterations what a client may be made to spend: seconds.
	MinIterations = 4096
	MaxIterations = 10_000_000
)

// DefaultIterations of SCRAM is the most that clients with Cyrus SASL take (mbsync for one, which else hangs). OWASP's Password Storage Cheat Sheet
// has 600,000 for PBKDF2-HMAC-SHA-256.
const DefaultIterations = 65_536

// Check says whether the parameters are served. Errors: ErrParams.
func (p Params) Check() error {
	switch {
	case p.Passes < 1 || p.Passes > MaxPasses,
		p.Threads < 1 || p.Threads > MaxThreads,
		p.Memory < MinMemory*uint32(p.Threads) || p.Memory > MaxMemory,
		uint64(p.Passes)*uint64(p.Memory) > MaxWork:
		return fmt.Errorf("%w: t=%d, m=%d KiB, p=%d", ErrParams, p.Passes, p.Memory, p.Threads)
	}
	return nil
}

// check says whether slots of the kind may have these parameters. Errors: ErrParams.
func (k Kind) check(p Params) error {
	switch {
	case k.kdf() == kdfArgon2id:
		return p.Check()
	case k == SCRAM && p == Params{Passes: p.Passes} && p.Passes >= MinIterations && p.Passes <= MaxIterations:
		return nil
	case k == SCRAM:
		return fmt.Errorf("%w: %d iterations", ErrParams, p.Passes)
	}
	if p != (Params{}) {
		return fmt.Errorf("%w: a %v slot has none", ErrParams, k)
	}
	return nil
}

// Sizes of a record's fields, in bytes.
const (
	saltSize    = 16
	nonceSize   = chacha20poly1305.NonceSizeX
	tagSize     = chacha20poly1305.Overhead
	maxIdentity = 256 // an encoded identity has 74 to 77

	recordVersion = 1
	headSize      = 1 + 1 + 8 + 1 + 4 + 4 + 1 + saltSize
)

// The derivations. The numbers are stored: they never change.
const (
	kdfArgon2id = 1 // Argon2id, version 0x13
	kdfHKDF     = 2 // HKDF-SHA-256 (RFC 5869)
)

// kdf is the derivation of the kind's key-encryption keys; 0: no such kind.
func (k Kind) kdf() byte {
	switch k {
	case Password:
		return kdfArgon2id
	case Recovery, App, SCRAM:
		return kdfHKDF
	}
	return 0
}

// MaxRecord is the size of the largest record, in bytes.
const MaxRecord = headSize + verifierSize + nonceSize + 2 + maxIdentity + tagSize

// verifierSize is the size of SCRAM's StoredKey and ServerKey.
const verifierSize = 2 * sha256.Size

// Slot is a wrapped private key. Its fields are public, but nothing in it but ID, Kind and Params means anything without
// the password. A Slot made by [Wrap] or [Unmarshal] is not to be changed.
type Slot struct {
	ID     uint64 // unique among the account's slots, for ever
	Kind   Kind
	Params Params
	Salt   [saltSize]byte
	SCRAM  Verifier // of that kind
	Nonce  [nonceSize]byte
	Sealed []byte // the encoded identity, sealed: maxIdentity+tagSize bytes at most
}

// Verifier is what a SCRAM exchange is checked by (RFC 5802, 3). Neither opens the slot, nor is good for a login.
type Verifier struct{ StoredKey, ServerKey [sha256.Size]byte }

// appendHead appends everything that the additional data binds: all but the nonce and the sealed identity.
func (s *Slot) appendHead(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, recordVersion, byte(s.Kind))
	b = be.AppendUint64(b, s.ID)
	b = append(b, s.Kind.kdf())
	b = be.AppendUint32(b, s.Params.Passes)
	b = be.AppendUint32(b, s.Params.Memory)
	b = append(b, s.Params.Threads)
	b = append(b, s.Salt[:]...)
	if s.Kind == SCRAM {
		b = append(b, s.SCRAM.StoredKey[:]...)
		b = append(b, s.SCRAM.ServerKey[:]...)
	}
	return b
}

// headSize is the size of what appendHead appends.
func (k Kind) headSize() int {
	if k == SCRAM {
		return headSize + verifierSize
	}
	return headSize
}

// Marshal returns the record that is stored. All integers are big-endian:
//
//	offset size
//	 0      1   version, 1
//	 1      1   kind
//	 2      8   slot ID
//	10      1   derivation, 1: Argon2id version 0x13, of a password; 2: HKDF-SHA-256, of any other secret
//	11      4   passes (of Argon2id, like the next two; of SCRAM the iterations; else 0)
//	15      4   memory, KiB
//	19      1   threads
//	20     16   salt
//	36     24   nonce
//	60      2   n, size of what follows
//	62      n   encoded identity, sealed with XChaCha20-Poly1305, its tag last
//
// Of SCRAM, StoredKey and ServerKey, 32 each, come before the nonce. A slot of a hybrid identity is 155 bytes, of an X25519 one 152.
func (s *Slot) Marshal() []byte {
	b := make([]byte, 0, s.Kind.headSize()+nonceSize+2+len(s.Sealed))
	b = s.appendHead(b)
	b = append(b, s.Nonce[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Sealed)))
	return append(b, s.Sealed...)
}

// Unmarshal reads a record. It takes exactly what Marshal gives, with parameters that are served. b is not kept.
// Errors: ErrRecord, ErrParams.
func Unmarshal(b []byte) (*Slot, error) {
	if len(b) < headSize+nonceSize+2 || len(b) > MaxRecord {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	if b[0] != recordVersion {
		return nil, fmt.Errorf("%w: version %d is not served", ErrRecord, b[0])
	}
	be := binary.BigEndian
	s := &Slot{
		Kind:   Kind(b[1]),
		ID:     be.Uint64(b[2:]),
		Params: Params{Passes: be.Uint32(b[11:]), Memory: be.Uint32(b[15:]), Threads: b[19]},
	}
	if len(b) < s.Kind.headSize()+nonceSize+2 {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	if b[10] == 0 || b[10] != s.Kind.kdf() {
		return nil, fmt.Errorf("%w: kind %d with derivation %d is not served", ErrRecord, b[1], b[10])
	}
	if err := s.Kind.check(s.Params); err != nil {
		return nil, err
	}
	copy(s.Salt[:], b[20:])
	rest := b[s.Kind.headSize():]
	if s.Kind == SCRAM {
		copy(s.SCRAM.StoredKey[:], b[headSize:])
		copy(s.SCRAM.ServerKey[:], b[headSize+sha256.Size:])
	}
	copy(s.Nonce[:], rest)
	sealed := rest[nonceSize+2:]
	if n := int(be.Uint16(rest[nonceSize:])); n != len(sealed) || n <= tagSize || n > maxIdentity+tagSize {
		return nil, fmt.Errorf("%w: %d sealed bytes, %d told", ErrRecord, len(sealed), n)
	}
	s.Sealed = append(s.Sealed, sealed...)
	return s, nil
}
