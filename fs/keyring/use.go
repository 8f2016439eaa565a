package keyring

import (
	"slices"
	"time"
)

// Of sessions that last while their account is used.
const (
	// firstUse is how long such a session waits for the account to be used at all: a server that has just heard that the password is right
	// has yet to start what will read the mail.
	firstUse = time.Minute
	// sweepEvery is how often it is looked for those that are over.
	sweepEvery = time.Second
)

// WhileUsed gives the session up to the keyring, for a login of which nobody will tell that it is over. The session lasts while the
// account's files are in use, and for the grace after it: there is no second grace. Before the first use it lasts for a minute, and without
// a grace for that minute at least. Sessions of one slot and the same readers that last so are one: then this one ends, and the other goes on as if it began now.
func (s *Session) WhileUsed() {
	k := s.ring
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.ended || s.whileUsed {
		return
	}
	now := k.now()
	for other := range s.account.sessions {
		if other.whileUsed && other.record == s.record && slices.Equal(other.readers, s.readers) {
			other.since = now
			s.end()
			delete(s.account.sessions, s)
			return
		}
	}
	s.whileUsed, s.since = true, now
	k.whileUsed.Add(1)
	if !k.sweeping {
		k.sweeping = true
		time.AfterFunc(sweepEvery, k.sweep)
	}
}

// Use notes that the account's files are in use now. It is quick: for every request about them.
func (k *Keyring) Use(account uint64) {
	if k.whileUsed.Load() == 0 {
		return
	}
	k.mu.RLock()
	if a := k.accounts[account]; a != nil {
		a.used.Store(int64(k.now()))
	}
	k.mu.RUnlock()
}

// AskUse has f asked before sessions end because their account is not used: f calls Use for those accounts that are in use without a
// request being made, such as by files that are open. It is called with no lock held, once a second at most, and not twice at once.
func (k *Keyring) AskUse(f func()) {
	k.hookMu.Lock()
	defer k.hookMu.Unlock()
	k.askUse = append(k.askUse, f)
}

// now is the time since the keyring was made.
func (k *Keyring) now() time.Duration { return time.Since(k.made) }

// unused says whether a session that lasts while its account is used is over now, as far as uses are noted. The caller holds k.mu.
func (s *Session) unused(now time.Duration) bool {
	used, first := time.Duration(s.account.used.Load()), s.since+firstUse
	switch {
	case used < s.since: // not since the login
		return now >= first
	case s.ring.grace == 0:
		return now >= first && now > used
	}
	return now >= used+s.ring.grace
}

// sweep ends the sessions of accounts that are not used any more.
func (k *Keyring) sweep() {
	begun := k.now()
	if k.anyUnused(begun) {
		k.hookMu.Lock()
		asked := k.askUse // only ever appended to
		k.hookMu.Unlock()
		for _, f := range asked {
			f()
		}
		for _, id := range k.endUnused(begun) {
			k.call(&k.onLock, id)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sweeping = k.whileUsed.Load() > 0; k.sweeping {
		time.AfterFunc(sweepEvery, k.sweep)
	}
}

func (k *Keyring) anyUnused(now time.Duration) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, a := range k.accounts {
		for s := range a.sessions {
			if s.whileUsed && s.unused(now) {
				return true
			}
		}
	}
	return false
}

// endUnused ends the sessions that were over at that time, and answers which accounts it has locked.
func (k *Keyring) endUnused(then time.Duration) (locked []uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, a := range k.accounts {
		had := len(a.sessions)
		for s := range a.sessions {
			if s.whileUsed && s.unused(then) {
				s.end()
				delete(a.sessions, s)
			}
		}
		if had > 0 && len(a.sessions) == 0 {
			k.remove(a)
			locked = append(locked, id)
		}
	}
	return locked
}
