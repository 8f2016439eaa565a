package seal

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"filippo.io/age"
)

// counting counts what it unwraps.
type counting struct {
	age.Identity
	n atomic.Int64
}

func (c *counting) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	c.n.Add(1)
	return c.Identity.Unwrap(stanzas)
}

func countedIdentity(t *testing.T) (Identity, *counting) {
	t.Helper()
	id, err := GenerateIdentity(Hybrid)
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{Identity: id.s.key()}
	id.s.parsed = c
	return id, c
}

func open(t *testing.T, sealed, want []byte, id Identity) {
	t.Helper()
	got, err := OpenBytes(sealed, int64(len(want)), id)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// Each header is unwrapped once, whatever its payload's form; what was prepared while the key was here, never.
func TestHeadersAreUnwrappedOnce(t *testing.T) {
	before := known.Load()
	id, c := countedIdentity(t)
	for i, n := range []int{0, 5000, 200 << 10, 3 << 20} {
		message := bytes.Repeat([]byte("a line of mail\r\n"), n/16+1)[:n]
		sealed, err := SealBytes(nil, message, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			open(t, sealed, message, id)
		}
		if got := c.n.Load(); got != int64(i+1) {
			t.Errorf("after %d messages %d headers were unwrapped", i+1, got)
		}
	}
	p, err := Prepare(id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	id.Remember(p)
	sealed, err := p.SealBytes(nil, []byte("mail"))
	if err != nil {
		t.Fatal(err)
	}
	id.Remember(p) // too late, and no harm
	unwrapped := c.n.Load()
	open(t, sealed, []byte("mail"), id)
	if c.n.Load() != unwrapped {
		t.Error("the header of a message that was remembered was unwrapped")
	}
	if got := known.Load() - before; got != 5 {
		t.Errorf("%d keys are known, want 5", got)
	}

	// A known header helps nobody with another payload, nor a payload with another header.
	other, err := SealBytes(nil, []byte("liam"), id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	mixed := append(bytes.Clone(sealed[:len(sealed)-20]), other[len(other)-20:]...)
	if _, err := OpenBytes(mixed, 4, id); !errors.Is(err, ErrCorrupt) {
		t.Errorf("mixed content: %v", err)
	}
	mac := bytes.Index(sealed, []byte("\n--- ")) + 10
	for _, at := range []int{60, mac} {
		damaged := bytes.Clone(sealed)
		damaged[at] ^= 1
		if _, err := OpenBytes(damaged, 4, id); err == nil {
			t.Errorf("a header that differs at octet %d opens", at)
		}
	}

	stranger, _ := countedIdentity(t)
	stranger.Remember(p)
	if _, err := OpenBytes(sealed, 4, stranger); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	keys := id.s.known
	id.Wipe()
	if _, err := OpenBytes(sealed, 4, id); !errors.Is(err, ErrWiped) {
		t.Errorf("wiped key: %v", err)
	}
	if got := known.Load() - before; got != 0 || keys.keys != nil {
		t.Errorf("%d keys are known after wiping", got)
	}
	keys.remember([]byte("header"), fileKey{1}) // by an Open that was under way
	if known.Load() != before {
		t.Error("a key was remembered after wiping")
	}
}

func TestKnownKeysAreBounded(t *testing.T) {
	before := known.Load()
	k := newKnownKeys()
	defer k.wipe()
	for i := range maxKnownEach + 100 {
		k.remember([]byte{byte(i), byte(i >> 8), byte(i >> 16)}, fileKey{})
	}
	if len(k.keys) != maxKnownEach || known.Load()-before != maxKnownEach {
		t.Errorf("%d keys, counted %d", len(k.keys), known.Load()-before)
	}
	known.Add(maxKnown)
	defer known.Add(-maxKnown)
	poor := newKnownKeys()
	defer poor.wipe()
	poor.remember([]byte("header"), fileKey{})
	if len(poor.keys) != 0 {
		t.Error("a key was remembered where there is no room")
	}
}
