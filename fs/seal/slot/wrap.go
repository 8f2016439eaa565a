package slot

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/hkdf"
	"golang.org/x/crypto/pbkdf2"

	"mailraft/fs/seal"
)

// Unwrap is [Unwrap], when it is its turn. Errors: those of Enter and Unwrap.
func (g *Gate) Unwrap(ctx context.Context, from string, s *Slot, account uint64, password []byte) (seal.Identity, error) {
	leave, err := g.Enter(ctx, from, s.Params)
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
	// Salt is that of the account's other SCRAM slots; nil: a new one. A client is told one salt, before it proves anything (RFC 5802, 5.1), so
	// where it may prove any of several passwords, they share it.
	Salt []byte
}

// Wrap seals id under password, which stays the caller's to wipe and is taken byte for byte: normalising it is the
// caller's business. It takes p's time and memory at once: where several may come together, go through a [Gate]. Under a secret
// of another kind p is Params{}, and it takes none; but for SCRAM, whose password it is given, and whose iterations it takes.
// Errors: ErrParams, also for a secret of another size than SecretSize; ErrRecord for an unknown kind; seal.ErrWiped.
func Wrap(id seal.Identity, password []byte, p Params, b Binding) (*Slot, error) {
	if b.Kind.kdf() == 0 {
		return nil, fmt.Errorf("%w: kind %v", ErrRecord, b.Kind)
	}
	if err := b.Kind.check(p); err != nil {
		return nil, err
	}
	if b.Kind.made() && len(password) != SecretSize {
		return nil, fmt.Errorf("%w: a secret of %d bytes", ErrParams, len(password))
	}
	encoded, err := id.Encode()
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	s := &Slot{ID: b.Slot, Kind: b.Kind, Params: p}
	if copy(s.Salt[:], b.Salt) < saltSize {
		rand.Read(s.Salt[:]) // never fails
	}
	rand.Read(s.Nonce[:])
	secret := password
	if s.Kind == SCRAM {
		secret = s.setVerifier(password)
		defer clear(secret)
	}
	kek := s.derive(secret)
	defer clear(kek)
	aead, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return nil, fmt.Errorf("wrap: %w", err)
	}
	s.Sealed = aead.Seal(nil, s.Nonce[:], encoded, s.additional(b.Account))
	return s, nil
}

// made tells whether this program makes the kind's secrets.
func (k Kind) made() bool { return k == Recovery || k == App }

// Unwrap opens slot s of account; of SCRAM with the ClientKey. password stays the caller's to wipe. It takes s.Params' time and memory at once: where
// several may come together, go through a [Gate]. Errors: ErrWrongPassword, ErrParams.
//
// The key-encryption key is wiped. Copies of it in the cipher object, and the memory that Argon2id filled, are the x/crypto
// library's and only left to the garbage collector.
func Unwrap(s *Slot, account uint64, password []byte) (seal.Identity, error) {
	if err := s.Kind.check(s.Params); err != nil {
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

// setVerifier makes SCRAM's keys of a password, and returns the ClientKey, for the caller to wipe (RFC 5802, 3).
func (s *Slot) setVerifier(password []byte) (clientKey []byte) {
	salted := pbkdf2.Key(password, s.Salt[:], int(s.Params.Passes), sha256.Size, sha256.New)
	defer clear(salted)
	clientKey = mac(salted, "Client Key")
	s.SCRAM.StoredKey = sha256.Sum256(clientKey)
	s.SCRAM.ServerKey = [sha256.Size]byte(mac(salted, "Server Key"))
	return clientKey
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, text)
	return h.Sum(nil)
}

// ClientKey is what a client's proof, that the exchange's messages come with, says that its ClientKey is (RFC 5802, 3). It opens the slot if
// it is right. Errors: ErrWrongPassword, for a proof of another size too. The caller wipes it.
func (v *Verifier) ClientKey(authMessage string, proof []byte) ([]byte, error) {
	key := mac(v.StoredKey[:], authMessage)
	if len(proof) != len(key) {
		return nil, ErrWrongPassword
	}
	subtle.XORBytes(key, key, proof)
	stored := sha256.Sum256(key)
	if subtle.ConstantTimeCompare(stored[:], v.StoredKey[:]) != 1 {
		clear(key)
		return nil, ErrWrongPassword
	}
	return key, nil
}

// derive returns the key-encryption key, 32 bytes, for the caller to wipe.
func (s *Slot) derive(password []byte) []byte {
	if s.Kind.kdf() == kdfHKDF {
		kek := make([]byte, chacha20poly1305.KeySize)
		if _, err := io.ReadFull(hkdf.New(sha256.New, password, s.Salt[:], []byte("mailraft "+s.Kind.String()+" secret")), kek); err != nil {
			panic("slot: hkdf: " + err.Error()) // it gives 255 times as much
		}
		return kek
	}
	p := s.Params
	return argon2.IDKey(password, s.Salt[:], p.Passes, p.Memory, p.Threads, chacha20poly1305.KeySize)
}

// additional returns the AEAD's additional data: a name, the account, and the record up to the nonce.
func (s *Slot) additional(account uint64) []byte {
	b := append(make([]byte, 0, 64), "mailraft key slot\x00"...)
	b = binary.BigEndian.AppendUint64(b, account)
	return s.appendHead(b)
}
