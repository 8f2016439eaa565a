package keyring_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
)

// used starts a session that lasts while the account is used.
func used(t testing.TB, k *keyring.Keyring, o *owner) *keyring.Session {
	t.Helper()
	s := unlock(t, k, o, "pw", 0)
	s.WhileUsed()
	return s
}

// lockedAfter checks that the account is unlocked for that long, and locked soon after: the bubble's time.
func lockedAfter(t testing.TB, k *keyring.Keyring, o *owner, d time.Duration) {
	t.Helper()
	time.Sleep(d - time.Second)
	synctest.Wait()
	if !unlocked(t, k, o) {
		t.Fatalf("locked before %v", d)
	}
	time.Sleep(3 * time.Second)
	synctest.Wait()
	if unlocked(t, k, o) {
		t.Fatalf("unlocked after %v", d)
	}
}

func TestASessionWhileUsed(t *testing.T) {
	const grace = 30 * time.Second
	for name, c := range map[string]struct {
		grace time.Duration
		do    func(t *testing.T, k *keyring.Keyring, o *owner)
		after time.Duration
	}{
		"never used": {grace, func(*testing.T, *keyring.Keyring, *owner) {}, time.Minute},
		"used before it began": {grace, func(t *testing.T, k *keyring.Keyring, o *owner) {
			k.Use(o.account)
			time.Sleep(time.Second)
			used(t, k, o)
		}, time.Minute},
		"used at once":   {grace, func(t *testing.T, k *keyring.Keyring, o *owner) { k.Use(o.account) }, grace},
		"another's used": {grace, func(t *testing.T, k *keyring.Keyring, o *owner) { k.Use(o.account + 1) }, time.Minute},
		"used for hours": {grace, func(t *testing.T, k *keyring.Keyring, o *owner) {
			for range 1000 {
				k.Use(o.account)
				time.Sleep(grace - 2*time.Second)
			}
			k.Use(o.account)
		}, grace},
		"another login": {grace, func(t *testing.T, k *keyring.Keyring, o *owner) {
			time.Sleep(50 * time.Second)
			used(t, k, o)
		}, time.Minute},
		"without a grace":  {0, func(t *testing.T, k *keyring.Keyring, o *owner) { k.Use(o.account) }, time.Minute},
		"a grace of hours": {3 * time.Hour, func(t *testing.T, k *keyring.Keyring, o *owner) { k.Use(o.account) }, 3 * time.Hour},
		"a proxy's session": {grace, func(t *testing.T, k *keyring.Keyring, o *owner) {
			s := unlock(t, k, o, "pw", 0)
			time.Sleep(time.Hour)
			s.Close() // with a grace of its own
		}, grace},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := keyring.New(keyring.Config{Grace: c.grace, Gate: slot.NewGate(1)})
				defer k.Close()
				var e events
				e.hook(k)
				o := newOwner(t, 1, "pw")
				s := used(t, k, o)
				c.do(t, k, o)
				if n := k.Status()[0].Sessions; n > 1 {
					t.Errorf("%d sessions, where one would do", n)
				}
				lockedAfter(t, k, o, c.after)
				if !ended(s) {
					t.Error("the session goes on")
				}
				e.want(t, "+1", "-1")
			})
		})
	}
}

// What is in use without a request is asked for, and no more often than it matters.
func TestTheUsersAreAsked(t *testing.T) {
	for _, grace := range []time.Duration{0, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			k := keyring.New(keyring.Config{Grace: grace, Gate: slot.NewGate(1)})
			defer k.Close()
			o, other := newOwner(t, 1, "pw"), newOwner(t, 2, "pw")
			var open atomic.Bool
			var asked atomic.Int64
			open.Store(true)
			k.AskUse(func() {
				asked.Add(1)
				if open.Load() {
					k.Use(o.account)
				}
			})
			used(t, k, o)
			used(t, k, other)
			time.Sleep(time.Hour)
			synctest.Wait()
			if !unlocked(t, k, o) || unlocked(t, k, other) {
				t.Fatal("used but locked, or unused but unlocked")
			}
			if n := asked.Load(); grace > 0 && n > int64(time.Hour/grace)+1 {
				t.Errorf("asked %d times in an hour", n)
			}
			open.Store(false)
			time.Sleep(grace + 3*time.Second)
			synctest.Wait()
			if unlocked(t, k, o) {
				t.Fatal("unlocked without a user")
			}
			asked.Store(0)
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := asked.Load(); n != 0 {
				t.Errorf("asked %d times without a session", n)
			}
		})
	}
}

// A lock, a changed slot and the end of the keyring end such a session as any other.
func TestASessionWhileUsedCanBeEnded(t *testing.T) {
	for name, end := range map[string]func(k *keyring.Keyring, o *owner){
		"lock":  func(k *keyring.Keyring, o *owner) { k.Lock(o.account) },
		"keep":  func(k *keyring.Keyring, o *owner) { k.Keep(o.account, nil) },
		"close": func(k *keyring.Keyring, _ *owner) { k.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := keyring.New(keyring.Config{Grace: time.Minute, Gate: slot.NewGate(1)})
				defer k.Close()
				o := newOwner(t, 1, "pw")
				s := used(t, k, o)
				end(k, o)
				if unlocked(t, k, o) || !ended(s) {
					t.Fatal("it goes on")
				}
				s.WhileUsed() // an ended one stays ended
				time.Sleep(time.Hour)
				synctest.Wait()
			})
		})
	}
}
