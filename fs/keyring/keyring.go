package keyring

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
)

// What a Keyring answers; test with errors.Is.
var (
	// ErrWrongPassword: the password opens none of the slots. It is slot.ErrWrongPassword.
	ErrWrongPassword = slot.ErrWrongPassword
	// ErrClosed: the Keyring is closed.
	ErrClosed = errors.New("keyring is closed")
)

// Config of a Keyring.
type Config struct {
	// Grace is how long an account stays unlocked after its last session; 0: not at all.
	Grace time.Duration
	// Gate is where derivations take turns. It may be shared with others of this process.
	Gate *slot.Gate
	// Previous gives the private keys that the account had before the one given, and to which contents may still be sealed, for the keyring
	// to wipe; nil: no account has any. It is called before an account is unlocked, with no lock held; an error is the unlock's.
	Previous func(account uint64, current seal.Identity) ([]seal.Identity, error)
}

// Keyring is the set of unlocked accounts. It is safe for concurrent use.
type Keyring struct {
	grace    time.Duration
	gate     *slot.Gate
	mac      *loginMAC
	made     time.Time
	previous func(account uint64, current seal.Identity) ([]seal.Identity, error)

	mu       sync.RWMutex // never held while deriving, or calling hooks
	accounts map[uint64]*account
	closed   bool

	whileUsed atomic.Int64 // sessions that last while their account is used; changed with mu held
	sweeping  bool         // there is a timer that sweeps, or it is at it; guarded by mu

	hookMu   sync.Mutex
	onLock   []func(account uint64)
	onUnlock []func(account uint64)
	askUse   []func()
}

// account is one unlocked account. All but id and used is guarded by Keyring.mu.
type account struct {
	id       uint64
	keys     []seal.Identity // the current one first; never changed
	sessions map[*Session]struct{}
	lapsed   []lapsed    // sessions that ended within the grace, for one reader and slot the last
	idle     *time.Timer // ends the grace; nil while there are sessions
	graces   uint64      // how many have begun: a timer that was stopped too late ends none but its own
	logins   []login
	used     atomic.Int64 // when its files were last used, by Keyring.now; noted only while there is a session that asks for it
}

// New returns an empty Keyring.
func New(c Config) *Keyring {
	return &Keyring{
		grace:    max(0, c.Grace),
		gate:     c.Gate,
		previous: c.Previous,
		mac:      newLoginMAC(),
		made:     time.Now(),
		accounts: make(map[uint64]*account),
	}
}

// OnLock has f called each time that an account was locked: after its key was wiped and its sessions ended, with no lock
// held, before Lock, or the Session.Close that locked it, returns. Calls of different accounts, and of one account that is
// unlocked and locked in turns, may come together and in any order: f asks Identity when it needs to know what is so now.
// Register hooks before the first Unlock.
func (k *Keyring) OnLock(f func(account uint64)) {
	k.hookMu.Lock()
	defer k.hookMu.Unlock()
	k.onLock = append(k.onLock, f)
}

// OnUnlock has f called each time that an account that was locked was unlocked, before the Unlock that did it returns;
// otherwise as OnLock.
func (k *Keyring) OnUnlock(f func(account uint64)) {
	k.hookMu.Lock()
	defer k.hookMu.Unlock()
	k.onUnlock = append(k.onUnlock, f)
}

// call calls hooks (k.onLock or k.onUnlock). The caller holds no lock.
func (k *Keyring) call(hooks *[]func(uint64), account uint64) {
	k.hookMu.Lock()
	fs := *hooks // only ever appended to
	k.hookMu.Unlock()
	for _, f := range fs {
		f(account)
	}
}

// Identity returns the account's private key, and whether it is unlocked. It is quick: for every open of a file. The
// Identity stops working when the account is locked.
func (k *Keyring) Identity(account uint64) (seal.Identity, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	a, ok := k.accounts[account]
	if !ok {
		return seal.Identity{}, false
	}
	return a.keys[0], true
}

// Identities returns the account's private key, and behind it those that it had before and to which contents may still be sealed; none of
// an account that is locked. Otherwise as Identity. The slice must not be changed.
func (k *Keyring) Identities(account uint64) []seal.Identity {
	k.mu.RLock()
	defer k.mu.RUnlock()
	a, ok := k.accounts[account]
	if !ok {
		return nil
	}
	return a.keys
}

// Status is what is known of an unlocked account.
type Status struct {
	Account  uint64
	Sessions int      // 0: it is in its grace
	Readers  []uint32 // the user ids whose processes may read it, in order; nil: all may
}

// Status returns the unlocked accounts, in no order.
func (k *Keyring) Status() []Status {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s := make([]Status, 0, len(k.accounts))
	for id, a := range k.accounts {
		s = append(s, Status{id, len(a.sessions), a.readers(k.now())})
	}
	return s
}

// Lock locks the account now: ends all of its sessions and wipes its key. It returns after the OnLock hooks, and says
// whether the account was unlocked. An Unlock that is under way may unlock it again.
func (k *Keyring) Lock(account uint64) bool {
	k.mu.Lock()
	a, ok := k.accounts[account]
	if ok {
		k.remove(a)
	}
	k.mu.Unlock()
	if ok {
		k.call(&k.onLock, account)
	}
	return ok
}

// Keep ends what other slots than these have opened: the account's sessions, and what is remembered of their passwords. When that
// leaves nothing the account is locked, at once and not after a grace. It is for when the account's slots have changed; no slots:
// it is gone. It returns after the OnLock hooks.
func (k *Keyring) Keep(account uint64, slots []*slot.Slot) {
	valid := make(map[string]bool, len(slots))
	for _, s := range slots {
		valid[string(s.Marshal())] = true
	}
	k.mu.Lock()
	a, ok := k.accounts[account]
	locked := ok && !k.keep(a, valid)
	if locked {
		k.remove(a)
	}
	k.mu.Unlock()
	if locked {
		k.call(&k.onLock, account)
	}
}

// keep ends what is not of the records in valid, and says whether a may stay unlocked. The caller holds k.mu.
func (k *Keyring) keep(a *account, valid map[string]bool) bool {
	ended := false
	for s := range a.sessions {
		if !valid[s.record] {
			s.end()
			delete(a.sessions, s)
			ended = true
		}
	}
	a.logins = slices.DeleteFunc(a.logins, func(l login) bool { return !valid[l.record] }) // clears those behind
	a.lapsed = slices.DeleteFunc(a.lapsed, func(l lapsed) bool { return !valid[l.session.record] })
	return len(a.sessions) > 0 || !ended && len(a.lapsed) > 0
}

// remove takes a out of the keyring, wipes it and ends its sessions. The caller holds k.mu, and calls the OnLock hooks
// after giving it up.
func (k *Keyring) remove(a *account) {
	delete(k.accounts, a.id)
	wipe(a.keys)
	clear(a.logins)
	a.logins, a.lapsed = nil, nil
	if a.idle != nil {
		a.idle.Stop()
	}
	for s := range a.sessions {
		s.end()
	}
	clear(a.sessions)
}

func wipe(keys []seal.Identity) {
	for _, id := range keys {
		id.Wipe()
	}
}

// Close locks all accounts, with their hooks, and forgets the hash key. Later Unlocks are ErrClosed. Closing again does
// nothing.
func (k *Keyring) Close() error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	locked := make([]uint64, 0, len(k.accounts))
	for id, a := range k.accounts {
		k.remove(a)
		locked = append(locked, id)
	}
	k.mu.Unlock()
	k.mac.wipe()
	for _, id := range locked {
		k.call(&k.onLock, id)
	}
	return nil
}
