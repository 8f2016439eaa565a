package keyring_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
)

func unlockFor(t testing.TB, k *keyring.Keyring, o *owner, readers ...uint32) *keyring.Session {
	t.Helper()
	s, err := k.Unlock(t.Context(), "", o.account, o.slots, []byte("pw"), 0, readers...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantReaders checks who of the users 0, 1 and 2 may read.
func wantReaders(t testing.TB, k *keyring.Keyring, o *owner, when string, want ...uint32) {
	t.Helper()
	var got []uint32
	for uid := range uint32(3) {
		if unlocked, readable := k.Readable(o.account, uid); readable {
			got = append(got, uid)
		} else if !unlocked {
			t.Fatalf("%s: locked", when)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: readable for %v, want %v", when, got, want)
	}
}

func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyring.New(keyring.Config{Grace: time.Minute, Gate: slot.NewGate(1)})
		defer k.Close()
		o := newOwner(t, 7, "pw")
		if unlocked, readable := k.Readable(7, 0); unlocked || readable {
			t.Fatal("readable while locked")
		}
		one := unlockFor(t, k, o, 1)
		wantReaders(t, k, o, "one session for 1", 1)
		two := unlockFor(t, k, o, 2, 1, 2)
		wantReaders(t, k, o, "another for 1 and 2", 1, 2)
		if st := k.Status(); len(st) != 1 || st[0].Sessions != 2 || fmt.Sprint(st[0].Readers) != "[1 2]" {
			t.Errorf("status %+v", st)
		}
		all := unlockFor(t, k, o)
		wantReaders(t, k, o, "one for all", 0, 1, 2)
		if st := k.Status(); st[0].Readers != nil {
			t.Errorf("status %+v", st)
		}

		// Each session's grace is for whom it was.
		all.Close()
		time.Sleep(30 * time.Second)
		wantReaders(t, k, o, "in the grace of the one for all", 0, 1, 2)
		two.Close()
		time.Sleep(31 * time.Second)
		wantReaders(t, k, o, "after it", 1, 2)
		time.Sleep(30 * time.Second)
		wantReaders(t, k, o, "after that of the one for 1 and 2", 1)
		one.Close()
		time.Sleep(59 * time.Second)
		wantReaders(t, k, o, "in the grace of the last", 1)
		third := unlockFor(t, k, o, 2)
		wantReaders(t, k, o, "with one for 2 in it", 1, 2)
		time.Sleep(2 * time.Second)
		wantReaders(t, k, o, "behind it", 2)
		third.Close()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if unlocked, _ := k.Readable(7, 2); unlocked {
			t.Error("unlocked after the last grace")
		}
	})
}

// A grace ends with its slot, and does not last for others.
func TestReadersOfTakenSlot(t *testing.T) {
	k := keyring.New(keyring.Config{Grace: time.Hour, Gate: slot.NewGate(1)})
	defer k.Close()
	o := newOwner(t, 1, "old", "pw")
	stays := unlockFor(t, k, o, 1)
	s, err := k.Unlock(t.Context(), "", o.account, o.slots, []byte("old"), 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	wantReaders(t, k, o, "in its grace", 1, 2)
	k.Keep(1, o.slots[1:])
	wantReaders(t, k, o, "its slot is gone", 1)
	stays.Close()
	wantReaders(t, k, o, "in the other's grace", 1)
}

// Logins of which nobody tells the end are one only for the same readers.
func TestReadersWhileUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyring.New(keyring.Config{Gate: slot.NewGate(1)})
		defer k.Close()
		o := newOwner(t, 1, "pw")
		for _, readers := range [][]uint32{{1}, {2}, {1}} {
			unlockFor(t, k, o, readers...).WhileUsed()
		}
		wantReaders(t, k, o, "both", 1, 2)
		if st := k.Status(); st[0].Sessions != 2 {
			t.Errorf("status %+v", st)
		}
	})
}
