package keyring

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
)

// Session keeps an account unlocked until it is closed, its lifetime is over, the slot that opened it is no longer one of the
// account's, or the account is locked. See WhileUsed for one that nobody closes.
type Session struct {
	ring    *Keyring
	account *account
	record  string   // of the slot; "": none
	readers []uint32 // user ids, in order; none: all of them
	done    chan struct{}
	life    *time.Timer // nil when the lifetime is unlimited
	ended   bool        // guarded by ring.mu

	// What WhileUsed says, guarded by ring.mu.
	whileUsed bool
	since     time.Duration // by ring.now
}

// Account returns the account that the session keeps unlocked.
func (s *Session) Account() uint64 { return s.account.id }

// Done is closed when the session has ended, for whatever reason.
func (s *Session) Done() <-chan struct{} { return s.done }

// end marks the session as ended. The caller holds ring.mu, and takes s out of its account.
func (s *Session) end() {
	s.ended = true
	if s.life != nil {
		s.life.Stop()
	}
	if s.whileUsed {
		s.ring.whileUsed.Add(-1)
	}
	close(s.done)
}

// Close ends the session. When it was the account's last and there is no grace, the account is locked, with its hooks,
// before Close returns. Closing again does nothing. The error is always nil.
func (s *Session) Close() error {
	k := s.ring
	k.mu.Lock()
	if s.ended {
		k.mu.Unlock()
		return nil
	}
	a := s.account
	s.end()
	delete(a.sessions, s)
	a.lapse(s, k.now(), k.grace)
	locked := false
	switch {
	case len(a.sessions) > 0:
	case k.grace == 0:
		k.remove(a)
		locked = true
	default:
		a.graces++
		this := a.graces
		a.idle = time.AfterFunc(k.grace, func() { k.expire(a, this) })
	}
	k.mu.Unlock()
	if locked {
		k.call(&k.onLock, a.id)
	}
	return nil
}

// expire ends that grace of a, unless it was over before: by a new session, or a lock.
func (k *Keyring) expire(a *account, grace uint64) {
	k.mu.Lock()
	if k.accounts[a.id] != a || len(a.sessions) > 0 || a.graces != grace {
		k.mu.Unlock()
		return
	}
	k.remove(a)
	k.mu.Unlock()
	k.call(&k.onLock, a.id)
}

// Unlock opens one of the account's slots with password and starts a session. The slots are those that are valid now: a
// slot that is not among them opens nothing. The session ends after lifetime at the latest; 0: when it is closed. It lets the processes
// of the user ids readers read the account, see Readable; none: those of all. password stays the caller's to wipe.
//
// Where the account is unlocked already, a password that opened one of these very slots before needs no derivation.
// Otherwise each slot costs one, one after the other, in turn with all others of the Gate, there as one of the party from.
//
// That takes its time: the caller looks whether the slots are still the account's, and if not calls Keep, after Unlock
// returned. Then no session is left of a slot that was taken away at any time.
//
// Errors: ErrWrongPassword; ErrClosed; slot.ErrBusy; slot.ErrParams when no slot opens and one asks for more than is granted;
// ctx's.
func (k *Keyring) Unlock(ctx context.Context, from string, account uint64, slots []*slot.Slot, password []byte, lifetime time.Duration, readers ...uint32) (*Session, error) {
	logins := make([]login, len(slots))
	for i, s := range slots {
		logins[i] = k.mac.sum(account, s, password)
	}
	if s, err := k.resume(account, logins, lifetime, readers); s != nil || err != nil {
		return s, err
	}
	failed := ErrWrongPassword
	for i, s := range slots {
		session, err := k.unlockSlot(ctx, from, account, s, password, logins, i, lifetime, readers)
		switch {
		case err == nil:
			return session, nil
		case errors.Is(err, slot.ErrWrongPassword):
		case errors.Is(err, slot.ErrParams), errors.Is(err, slot.ErrRecord):
			failed = err
		default:
			return nil, err
		}
	}
	return nil, failed
}

// unlockSlot opens one slot in turn, unless the password has become known while waiting for it, as it does when a client
// opens several connections at once.
func (k *Keyring) unlockSlot(
	ctx context.Context, from string, account uint64, s *slot.Slot, password []byte, logins []login, i int, lifetime time.Duration, readers []uint32,
) (*Session, error) {
	leave, err := k.gate.Enter(ctx, from, s.Params)
	if err != nil {
		return nil, err
	}
	session, err := k.resume(account, logins, lifetime, readers)
	if session != nil || err != nil {
		leave()
		return session, err
	}
	identity, err := slot.Unwrap(s, account, password)
	leave()
	if err != nil {
		return nil, err
	}
	return k.open(account, identity, &logins[i], lifetime, readers)
}

// Open starts a session with an identity that was unwrapped elsewhere. The Keyring takes the identity over: it is wiped
// when the account is locked, or at once when the account is unlocked already with the same key. A different key locks the
// account first: no session goes on with a key that it has not opened. lifetime and readers are as for Unlock.
// Errors: ErrClosed, seal.ErrWiped, those of Config.Previous.
func (k *Keyring) Open(account uint64, identity seal.Identity, lifetime time.Duration, readers ...uint32) (*Session, error) {
	return k.open(account, identity, nil, lifetime, readers)
}

// OpenSlot is Open of what the slot gave: the session ends when that is no longer one of the account's.
func (k *Keyring) OpenSlot(account uint64, s *slot.Slot, identity seal.Identity, lifetime time.Duration, readers ...uint32) (*Session, error) {
	by := k.mac.sum(account, s, nil) // no password is empty, so no login is this one
	return k.open(account, identity, &by, lifetime, readers)
}

// open starts a session; known, when not nil, is remembered as a login.
func (k *Keyring) open(id uint64, identity seal.Identity, known *login, lifetime time.Duration, readers []uint32) (*Session, error) {
	if identity.Wiped() {
		return nil, seal.ErrWiped
	}
	keys, complete, err := k.withPrevious(id, identity, false)
	if err != nil {
		identity.Wipe()
		return nil, err
	}
	k.mu.Lock()
	for !complete && !k.isOpen(id, identity) { // it was locked since
		k.mu.Unlock()
		if keys, complete, err = k.withPrevious(id, identity, true); err != nil {
			identity.Wipe()
			return nil, err
		}
		k.mu.Lock()
	}
	if k.closed {
		k.mu.Unlock()
		wipe(keys)
		return nil, ErrClosed
	}
	a, ok := k.accounts[id]
	locked := false
	switch {
	case !ok:
	case a.keys[0] == identity:
		wipe(keys[1:])
	case sameKey(a.keys[0], identity):
		wipe(keys)
	default:
		k.remove(a)
		ok, locked = false, true
	}
	if !ok {
		a = &account{id: id, keys: keys, sessions: make(map[*Session]struct{})}
		a.used.Store(-1) // never
		k.accounts[id] = a
	}
	record := ""
	if known != nil {
		a.remember(*known)
		record = known.record
	}
	s := k.start(a, record, lifetime, readers)
	k.mu.Unlock()
	if locked {
		k.call(&k.onLock, id)
	}
	if !ok {
		k.call(&k.onUnlock, id)
	}
	return s, nil
}

// withPrevious is the key and those before it, which are asked for, in any case or unless the account is unlocked with that key.
func (k *Keyring) withPrevious(id uint64, identity seal.Identity, always bool) (keys []seal.Identity, complete bool, err error) {
	keys = []seal.Identity{identity}
	if k.previous == nil {
		return keys, true, nil
	}
	k.mu.RLock()
	open := k.isOpen(id, identity)
	k.mu.RUnlock()
	if open && !always {
		return keys, false, nil
	}
	previous, err := k.previous(id, identity)
	return append(keys, previous...), true, err
}

// isOpen tells whether the account is unlocked with that key. The caller holds mu.
func (k *Keyring) isOpen(id uint64, identity seal.Identity) bool {
	a, ok := k.accounts[id]
	return ok && sameKey(a.keys[0], identity)
}

func sameKey(a, b seal.Identity) bool { return a.Recipient().String() == b.Recipient().String() }

// resume starts a session of an account that is unlocked when one of the logins is known; nil when none is.
func (k *Keyring) resume(account uint64, logins []login, lifetime time.Duration, readers []uint32) (*Session, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, ErrClosed
	}
	a, ok := k.accounts[account]
	if !ok {
		return nil, nil
	}
	known := a.known(logins)
	if known == nil {
		return nil, nil
	}
	return k.start(a, known.record, lifetime, readers), nil
}

// start adds a session to a. The caller holds k.mu.
func (k *Keyring) start(a *account, record string, lifetime time.Duration, readers []uint32) *Session {
	s := &Session{ring: k, account: a, record: record, readers: slices.Compact(slices.Sorted(slices.Values(readers))), done: make(chan struct{})}
	if lifetime > 0 {
		s.life = time.AfterFunc(lifetime, func() { s.Close() })
	}
	a.sessions[s] = struct{}{}
	if a.idle != nil {
		a.idle.Stop()
		a.idle = nil
	}
	return s
}
