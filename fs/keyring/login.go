package keyring

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"

	"golang.org/x/crypto/blake2b"

	"mailraft/fs/seal/slot"
)

// login is a slot's record, and the keyed hash of the account, that record and the password that opened it.
type login struct {
	record string
	sum    [blake2b.Size256]byte
}

// maxLogins is how many logins are remembered an account; the oldest go first.
const maxLogins = 16

// loginMAC hashes logins under a key of this process.
type loginMAC struct {
	mu  sync.RWMutex
	key [32]byte
}

func newLoginMAC() *loginMAC {
	m := new(loginMAC)
	rand.Read(m.key[:]) // never fails
	return m
}

// wipe makes the key unknown: hashes made later equal none made before.
func (m *loginMAC) wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	rand.Read(m.key[:])
}

// sum hashes one login. The record is in it whole, so another version of a slot is another login.
func (m *loginMAC) sum(account uint64, s *slot.Slot, password []byte) (l login) {
	m.mu.RLock()
	h, err := blake2b.New256(m.key[:])
	m.mu.RUnlock()
	if err != nil {
		panic("keyring: blake2b: " + err.Error()) // the key's size is constant
	}
	record := s.Marshal()
	l.record = string(record)
	var head [16]byte
	binary.BigEndian.PutUint64(head[:], account)
	binary.BigEndian.PutUint64(head[8:], uint64(len(record)))
	h.Write(head[:])
	h.Write(record)
	h.Write(password)
	h.Sum(l.sum[:0])
	h.Reset()
	return l
}

// remember adds l to what opened the account. The caller holds Keyring.mu.
func (a *account) remember(l login) {
	if a.known([]login{l}) != nil {
		return
	}
	if len(a.logins) == maxLogins {
		a.logins = a.logins[:copy(a.logins, a.logins[1:])]
	}
	a.logins = append(a.logins, l)
}

// known is the one of these that opened the account before, or nil. The caller holds Keyring.mu.
func (a *account) known(logins []login) *login {
	var known *login
	for i := range logins {
		for j := range a.logins {
			if subtle.ConstantTimeCompare(logins[i].sum[:], a.logins[j].sum[:]) == 1 {
				known = &logins[i]
			}
		}
	}
	return known
}
