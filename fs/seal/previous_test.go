package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"filippo.io/age"

	"mailraft/fs/seal"
)

// A private key that is sealed to another opens with that alone, and then opens what was sealed to it.
func TestSealedIdentity(t *testing.T) {
	for _, from := range kinds {
		for _, to := range kinds {
			old, next, other := identity(t, from), identity(t, to), identity(t, to)
			message := sealBytes(t, []byte("mail"), old.Recipient())
			sealed, err := old.SealTo(next.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := old.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(sealed, encoded[20:40]) {
				t.Fatal("the key is not sealed")
			}
			opened, err := seal.OpenIdentity(sealed, next)
			if err != nil {
				t.Fatal(err)
			}
			old.Wipe()
			if got, err := seal.OpenBytes(message, 4, next, opened); err != nil || string(got) != "mail" {
				t.Errorf("%v to %v: %q, %v", from, to, got, err)
			}
			if _, err := seal.OpenBytes(message, 4, next); !errors.Is(err, seal.ErrWrongKey) {
				t.Errorf("the new key alone opens what is sealed to the old one: %v", err)
			}
			for what, by := range map[string]seal.Identity{"another key": other, "itself": opened} {
				if _, err := seal.OpenIdentity(sealed, by); !errors.Is(err, seal.ErrCorrupt) {
					t.Errorf("%s opens it: %v", what, err)
				}
			}
			for i := 0; i < len(sealed); i += 7 {
				damaged := bytes.Clone(sealed)
				damaged[i] ^= 1
				if _, err := seal.OpenIdentity(damaged, next); !errors.Is(err, seal.ErrCorrupt) {
					t.Fatalf("octet %d: %v", i, err)
				}
			}
			next.Wipe()
			if _, err := seal.OpenIdentity(sealed, next); !errors.Is(err, seal.ErrWiped) {
				t.Errorf("a wiped key: %v", err)
			}
			if _, err := old.SealTo(other.Recipient()); !errors.Is(err, seal.ErrWiped) {
				t.Errorf("a wiped key is sealed: %v", err)
			}
		}
	}
}

// What is sealed as a private key and is none is refused, however long it is.
func TestSealedIdentityIsOne(t *testing.T) {
	id := identity(t, seal.X25519)
	to, err := age.ParseX25519Recipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "no key", "AGE-SECRET-KEY-1", string(make([]byte, 77)), string(make([]byte, 78)), string(make([]byte, 1<<20))} {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, to)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.OpenIdentity(b.Bytes(), id); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("%d octets: %v", len(text), err)
		}
	}
}

// While keys are wiped one after the other, those that are left do not say that a content is sealed to none of them.
func TestWipedOneByOne(t *testing.T) {
	for _, kind := range kinds {
		current, previous := identity(t, kind), identity(t, kind)
		sealed, err := seal.SealBytes(nil, []byte("mail"), current.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		current.Wipe()
		if _, err := seal.OpenBytes(sealed, 4, current, previous); !errors.Is(err, seal.ErrWiped) {
			t.Errorf("%v: %v", kind, err)
		}
	}
}
