package keyring_test

import (
	"context"
	"errors"
	"testing"

	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
)

// An account that had other keys before is unlocked with these as well, and they are wiped with the current one.
func TestPreviousKeys(t *testing.T) {
	o := newOwner(t, 1, "pw", "other")
	old := newOwner(t, 1).identity
	encoded, err := old.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal.SealBytes(nil, []byte("mail"), old.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	var asked []seal.Identity
	failing := errors.New("the record can't be read")
	fail := false
	k := keyring.New(keyring.Config{Gate: slot.NewGate(1), Previous: func(account uint64, current seal.Identity) ([]seal.Identity, error) {
		if account != 1 || current.Recipient().String() != o.identity.Recipient().String() {
			t.Errorf("asked for account %d, %v", account, current)
		}
		if fail {
			return nil, failing
		}
		id, err := seal.ParseIdentity(encoded)
		asked = append(asked, id)
		return []seal.Identity{id}, err
	}})
	defer k.Close()
	if ids := k.Identities(1); len(ids) != 0 {
		t.Errorf("a locked account has %d keys", len(ids))
	}
	k.OnUnlock(func(uint64) { // who is told of the unlock has all of them
		if ids := k.Identities(1); len(ids) != 2 {
			t.Errorf("%d keys at the unlock", len(ids))
		}
	})
	first := unlock(t, k, o, "pw", 0)
	second := unlock(t, k, o, "other", 0) // another slot of the same key
	if len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
	ids := k.Identities(1)
	if current, _ := k.Identity(1); len(ids) != 2 || ids[0] != current {
		t.Fatalf("%d keys", len(ids))
	}
	if got, err := seal.OpenBytes(sealed, 4, ids...); err != nil || string(got) != "mail" {
		t.Errorf("what is sealed to the key before: %q, %v", got, err)
	}
	first.Close()
	second.Close()
	if len(k.Identities(1)) != 0 || !ids[0].Wiped() || !ids[1].Wiped() {
		t.Error("a lock leaves a key")
	}
	fail = true
	if _, err := k.Unlock(context.Background(), "", 1, o.slots, []byte("pw"), 0); !errors.Is(err, failing) || unlocked(t, k, o) {
		t.Errorf("unlocked without what it takes to read all: %v", err)
	}
}

// An account that is locked while another login opens it is unlocked by that one with all its keys.
func TestPreviousKeysOfALoginUnderWay(t *testing.T) {
	o := newOwner(t, 1, "pw", "other")
	var k *keyring.Keyring
	encoded, err := newOwner(t, 1).identity.Encode()
	if err != nil {
		t.Fatal(err)
	}
	k = keyring.New(keyring.Config{Gate: slot.NewGate(1), Previous: func(uint64, seal.Identity) ([]seal.Identity, error) {
		id, err := seal.ParseIdentity(encoded)
		return []seal.Identity{id}, err
	}})
	defer k.Close()
	stop := make(chan struct{})
	locker := make(chan struct{})
	go func() {
		defer close(locker)
		for {
			select {
			case <-stop:
				return
			default:
				k.Lock(1)
			}
		}
	}()
	for range 300 {
		a, b := unlock(t, k, o, "pw", 0), unlock(t, k, o, "other", 0)
		if ids := k.Identities(1); len(ids) == 1 {
			t.Fatal("unlocked with the current key alone")
		}
		a.Close()
		b.Close()
	}
	close(stop)
	<-locker
}
