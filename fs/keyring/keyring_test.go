package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
)

func TestMain(m *testing.M) {
	// The coder's shared state has channels: made in one synctest bubble they could not be used in another.
	id, err := seal.GenerateIdentity(seal.X25519)
	if err == nil {
		var sealed []byte
		if sealed, err = seal.SealBytes(nil, nil, id.Recipient()); err == nil {
			_, err = seal.OpenBytes(sealed, 0, id)
		}
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var quick = slot.Params{Passes: 1, Memory: 8, Threads: 1}

type owner struct {
	account  uint64
	identity seal.Identity
	slots    []*slot.Slot
}

func (o *owner) addSlot(t testing.TB, password string) *slot.Slot {
	t.Helper()
	s, err := slot.Wrap(o.identity, []byte(password), quick, slot.Binding{Account: o.account, Slot: uint64(len(o.slots) + 1), Kind: slot.Password})
	if err != nil {
		t.Fatal(err)
	}
	o.slots = append(o.slots, s)
	return s
}

func newOwner(t testing.TB, account uint64, passwords ...string) *owner {
	t.Helper()
	id, err := seal.GenerateIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{account: account, identity: id}
	for _, p := range passwords {
		o.addSlot(t, p)
	}
	return o
}

func unlock(t testing.TB, k *keyring.Keyring, o *owner, password string, lifetime time.Duration) *keyring.Session {
	t.Helper()
	s, err := k.Unlock(context.Background(), "", o.account, o.slots, []byte(password), lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ended(s *keyring.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// unlocked also checks that the key that is given opens what is sealed to the owner.
func unlocked(t testing.TB, k *keyring.Keyring, o *owner) bool {
	t.Helper()
	id, ok := k.Identity(o.account)
	if ok {
		sealed, err := seal.SealBytes(nil, []byte("mail"), o.identity.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := seal.OpenBytes(sealed, 4, id); err != nil || !bytes.Equal(got, []byte("mail")) {
			t.Errorf("the unlocked key does not open: %v", err)
		}
	}
	return ok
}

// events notes what hooks are told.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) hook(k *keyring.Keyring) {
	note := func(what string) func(uint64) {
		return func(account uint64) {
			k.Identity(account) // hooks may ask: no lock is held
			k.Status()
			e.mu.Lock()
			defer e.mu.Unlock()
			e.all = append(e.all, fmt.Sprint(what, account))
		}
	}
	k.OnLock(note("-"))
	k.OnUnlock(note("+"))
}

func (e *events) want(t testing.TB, all ...string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if fmt.Sprint(e.all) != fmt.Sprint(all) {
		t.Errorf("hooks were told %v, want %v", e.all, all)
	}
}

func TestSessionsAndGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyring.New(keyring.Config{Grace: time.Minute, Gate: slot.NewGate(1)})
		var e events
		e.hook(k)
		o := newOwner(t, 7, "pw")
		first, second := unlock(t, k, o, "pw", 0), unlock(t, k, o, "pw", 0)
		e.want(t, "+7")
		first.Close()
		first.Close()
		time.Sleep(time.Hour) // of the bubble's clock
		if !unlocked(t, k, o) || !ended(first) || ended(second) {
			t.Fatal("one session is left, and the account locked")
		}
		second.Close()
		time.Sleep(59 * time.Second)
		if !unlocked(t, k, o) {
			t.Fatal("locked within the grace")
		}
		third := unlock(t, k, o, "pw", 0)
		time.Sleep(time.Hour)
		if !unlocked(t, k, o) {
			t.Fatal("the grace of a session before ended the next")
		}
		third.Close()
		time.Sleep(30 * time.Second)
		unlock(t, k, o, "pw", 0).Close()
		time.Sleep(59 * time.Second)
		if !unlocked(t, k, o) {
			t.Fatal("the grace did not start again")
		}
		id, _ := k.Identity(o.account)
		e.want(t, "+7")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if unlocked(t, k, o) || !id.Wiped() {
			t.Fatal("unlocked after the grace")
		}
		e.want(t, "+7", "-7")
		k.Close()
		e.want(t, "+7", "-7")
	})
}

func TestNoGrace(t *testing.T) {
	k := keyring.New(keyring.Config{Gate: slot.NewGate(1)})
	defer k.Close()
	var e events
	e.hook(k)
	o := newOwner(t, 1, "pw")
	s := unlock(t, k, o, "pw", 0)
	s.Close()
	if unlocked(t, k, o) {
		t.Fatal("unlocked without session or grace")
	}
	e.want(t, "+1", "-1")
}

func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyring.New(keyring.Config{Gate: slot.NewGate(1)})
		defer k.Close()
		o := newOwner(t, 1, "pw")
		s := unlock(t, k, o, "pw", time.Hour)
		time.Sleep(time.Hour - time.Second)
		if !unlocked(t, k, o) || ended(s) {
			t.Fatal("ended before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if unlocked(t, k, o) || !ended(s) {
			t.Fatal("outlived its time")
		}
		s.Close()
	})
}

func TestLockEndsAll(t *testing.T) {
	k := keyring.New(keyring.Config{Grace: time.Hour, Gate: slot.NewGate(1)})
	defer k.Close()
	var e events
	e.hook(k)
	o, other := newOwner(t, 1, "pw"), newOwner(t, 2, "pw")
	a, b, c := unlock(t, k, o, "pw", 0), unlock(t, k, o, "pw", time.Hour), unlock(t, k, other, "pw", 0)
	id, _ := k.Identity(1)
	if len(k.Status()) != 2 {
		t.Errorf("status %v", k.Status())
	}
	if !k.Lock(1) || k.Lock(1) {
		t.Error("Lock does not tell whether it locked")
	}
	if unlocked(t, k, o) || !ended(a) || !ended(b) || !id.Wiped() {
		t.Error("something of a locked account is left")
	}
	if !unlocked(t, k, other) || ended(c) {
		t.Error("another account was locked too")
	}
	a.Close()
	b.Close()
	e.want(t, "+1", "+2", "-1")
	// What was known of logins went with it: this one derives again, and may not be served from before.
	o.slots = nil
	if _, err := k.Unlock(t.Context(), "", 1, o.slots, []byte("pw"), 0); !errors.Is(err, keyring.ErrWrongPassword) {
		t.Errorf("no slots: %v", err)
	}
}

func TestKeepEndsWhatOtherSlotsOpened(t *testing.T) {
	k := keyring.New(keyring.Config{Grace: time.Hour, Gate: slot.NewGate(1)})
	defer k.Close()
	var e events
	e.hook(k)
	o := newOwner(t, 1, "old", "other")
	old, other := unlock(t, k, o, "old", 0), unlock(t, k, o, "other", 0)
	resumed := unlock(t, k, o, "old", 0)
	k.Keep(1, o.slots)
	if ended(old) || ended(other) || ended(resumed) {
		t.Fatal("a session ended whose slot is there")
	}
	o.slots = o.slots[1:]
	renewed := o.addSlot(t, "old") // the same password, wrapped anew, is another slot
	k.Keep(1, o.slots)
	if !ended(old) || !ended(resumed) || ended(other) || !unlocked(t, k, o) {
		t.Fatal("not the sessions of the slot that is gone, and they alone, ended")
	}
	e.want(t, "+1")

	k.Keep(1, []*slot.Slot{renewed})
	if !ended(other) || unlocked(t, k, o) {
		t.Fatal("unlocked in a grace that nothing valid began")
	}
	e.want(t, "+1", "-1")

	unlock(t, k, o, "other", 0).Close()
	k.Keep(1, o.slots)
	if !unlocked(t, k, o) {
		t.Fatal("the grace ended with its slot still there")
	}
	k.Keep(1, []*slot.Slot{renewed})
	if unlocked(t, k, o) {
		t.Fatal("the grace goes on without its slot")
	}

	identity, err := slot.Unwrap(renewed, 1, []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := k.Open(1, identity, 0)
	if err != nil {
		t.Fatal(err)
	}
	k.Keep(1, nil)
	if !ended(opened) || unlocked(t, k, o) {
		t.Fatal("something is left of an account that is gone")
	}
	k.Keep(1, o.slots) // of an account that is locked
}

// closedGate is a gate nobody passes: what unlocks all the same did so without a derivation.
func closedGate(t *testing.T, g *slot.Gate) (open func()) {
	t.Helper()
	leave, err := g.Enter(t.Context(), "", slot.DefaultParams)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func TestKnownLogins(t *testing.T) {
	g := slot.NewGate(1)
	k := keyring.New(keyring.Config{Gate: g})
	defer k.Close()
	o := newOwner(t, 1, "first", "second")
	defer unlock(t, k, o, "first", 0).Close()
	open := closedGate(t, g)
	try := func(account uint64, slots []*slot.Slot, password string) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // so that a derivation is refused at once
		s, err := k.Unlock(ctx, "", account, slots, []byte(password), 0)
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := try(1, o.slots, "first"); err != nil {
		t.Errorf("a known login was derived again: %v", err)
	}
	for _, c := range []struct {
		what     string
		account  uint64
		slots    []*slot.Slot
		password string
	}{
		{"wrong password", 1, o.slots, "wrong"},
		{"a password that was not used yet", 1, o.slots, "second"},
		{"the slot is gone", 1, o.slots[1:], "first"},
		{"another account", 2, o.slots, "first"},
	} {
		if err := try(c.account, c.slots, c.password); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	// The same slot, password and key wrapped anew is another version.
	renewed := newOwner(t, 1)
	renewed.identity = o.identity
	renewed.addSlot(t, "first")
	if err := try(1, renewed.slots, "first"); !errors.Is(err, context.Canceled) {
		t.Errorf("changed slot: %v", err)
	}
	// One that is added leaves the others known.
	o.addSlot(t, "third")
	if err := try(1, o.slots, "first"); err != nil {
		t.Errorf("after a slot was added: %v", err)
	}
	open()
	unlock(t, k, o, "second", 0).Close()
	open = closedGate(t, g)
	defer open()
	if err := errors.Join(try(1, o.slots, "first"), try(1, o.slots, "second")); err != nil {
		t.Errorf("two passwords of one account: %v", err)
	}
}

func TestWrongPasswords(t *testing.T) {
	k := keyring.New(keyring.Config{Gate: slot.NewGate(1)})
	o := newOwner(t, 1, "pw")
	if _, err := k.Unlock(t.Context(), "", 1, o.slots, []byte("wrong"), 0); !errors.Is(err, keyring.ErrWrongPassword) {
		t.Errorf("wrong password: %v", err)
	}
	hostile := *o.slots[0]
	hostile.Params.Memory = 1 << 31
	if _, err := k.Unlock(t.Context(), "", 1, []*slot.Slot{&hostile}, []byte("pw"), 0); !errors.Is(err, slot.ErrParams) {
		t.Errorf("hostile slot: %v", err)
	}
	s, err := k.Unlock(t.Context(), "", 1, []*slot.Slot{&hostile, o.slots[0]}, []byte("pw"), 0)
	if err != nil {
		t.Fatalf("a good slot behind a hostile one: %v", err)
	}
	k.Close()
	if !ended(s) {
		t.Error("Close left a session")
	}
	if _, err := k.Unlock(t.Context(), "", 1, o.slots, []byte("pw"), 0); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := k.Open(1, o.identity, 0); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOpenTakesIdentities(t *testing.T) {
	k := keyring.New(keyring.Config{Gate: slot.NewGate(1)})
	defer k.Close()
	var e events
	e.hook(k)
	o := newOwner(t, 1, "pw")
	session := unlock(t, k, o, "pw", 0)
	before, _ := k.Identity(1)
	same, err := slot.Unwrap(o.slots[0], 1, []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(1, same, 0); err != nil {
		t.Fatal(err)
	}
	if after, _ := k.Identity(1); after != before || !same.Wiped() {
		t.Error("a second copy of the key is kept")
	}
	next := newOwner(t, 1).identity
	if _, err := k.Open(1, next, 0); err != nil {
		t.Fatal(err)
	}
	if after, _ := k.Identity(1); after != next || !before.Wiped() || !ended(session) {
		t.Error("a new key does not replace the old one, with its sessions")
	}
	e.want(t, "+1", "-1", "+1")
	next.Wipe()
	if _, err := k.Open(1, next, 0); !errors.Is(err, seal.ErrWiped) {
		t.Errorf("wiped identity: %v", err)
	}
}

// Many of all operations at once, for the race detector; in the end nothing is left.
func TestRaces(t *testing.T) {
	k := keyring.New(keyring.Config{Grace: time.Microsecond, Gate: slot.NewGate(2)})
	var e events
	e.hook(k)
	owners := []*owner{newOwner(t, 0, "pw"), newOwner(t, 1, "pw"), newOwner(t, 2, "pw")}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				o := owners[(g+i)%len(owners)]
				switch i % 5 {
				case 0:
					k.Lock(o.account)
				case 1:
					k.Unlock(t.Context(), "", o.account, o.slots, []byte("wrong"), 0)
				default:
					s := unlock(t, k, o, "pw", time.Duration(i%3)*time.Millisecond)
					k.Identity(o.account)
					s.Close()
					<-s.Done()
				}
			}
		})
	}
	wg.Wait()
	k.Close()
	if left := k.Status(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func BenchmarkIdentity(b *testing.B) {
	k := keyring.New(keyring.Config{Gate: slot.NewGate(1)})
	defer k.Close()
	o := newOwner(b, 1, "pw")
	unlock(b, k, o, "pw", 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := k.Identity(1); !ok {
				b.Error("locked")
			}
		}
	})
}

func BenchmarkKnownLogin(b *testing.B) {
	k := keyring.New(keyring.Config{Gate: slot.NewGate(1)})
	defer k.Close()
	o := newOwner(b, 1, "pw")
	unlock(b, k, o, "pw", 0)
	b.ReportAllocs()
	for b.Loop() {
		s, err := k.Unlock(b.Context(), "", 1, o.slots, []byte("pw"), 0)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
