package keyring

import (
	"math"
	"slices"
	"time"
)

// Nobody is a user id that no process has: (uid_t)-1. A session of whose readers it is the only one keeps the key, and lets nobody read.
const Nobody = math.MaxUint32

// lapsed is a session that has ended, and whose grace lasts for whom it let read.
type lapsed struct {
	session *Session
	until   time.Duration // by Keyring.now
}

// Readable tells whether the account is unlocked, and whether a process of the user may read it: one of its sessions, or one that ended
// within the grace, is bound to no user, or to this one. It is quick: for every open of a file.
func (k *Keyring) Readable(account uint64, uid uint32) (unlocked, readable bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	a, ok := k.accounts[account]
	if !ok {
		return false, false
	}
	for s := range a.sessions {
		if s.lets(uid) {
			return true, true
		}
	}
	now := k.now()
	return true, slices.ContainsFunc(a.lapsed, func(l lapsed) bool { return now < l.until && l.session.lets(uid) })
}

func (s *Session) lets(uid uint32) bool {
	return len(s.readers) == 0 || slices.Contains(s.readers, uid)
}

// lapse begins the grace of a session that has ended. It takes the place of those that it outlasts. The caller holds Keyring.mu.
func (a *account) lapse(s *Session, now, grace time.Duration) {
	a.lapsed = slices.DeleteFunc(a.lapsed, func(l lapsed) bool {
		return now >= l.until || l.session.record == s.record && slices.Equal(l.session.readers, s.readers)
	})
	if grace > 0 {
		a.lapsed = append(a.lapsed, lapsed{s, now + grace})
	}
}

// readers are the user ids whose processes may read the account, in order; nil: all may. The caller holds Keyring.mu.
func (a *account) readers(now time.Duration) []uint32 {
	all := []uint32{}
	add := func(s *Session) bool {
		for _, uid := range s.readers {
			if uid != Nobody {
				all = append(all, uid)
			}
		}
		return len(s.readers) > 0
	}
	for s := range a.sessions {
		if !add(s) {
			return nil
		}
	}
	for _, l := range a.lapsed {
		if now < l.until && !add(l.session) {
			return nil
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
