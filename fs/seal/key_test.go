package seal

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A key that nobody uses is parsed no longer: what is left of it is in locked memory, and serves again.
func TestParsedKeysAreDropped(t *testing.T) {
	for _, kind := range []Kind{Hybrid, X25519} {
		synctest.Test(t, func(t *testing.T) {
			generated, err := GenerateIdentity(kind)
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := generated.Encode()
			if err != nil {
				t.Fatal(err)
			}
			generated.Wipe()
			id, err := ParseIdentity(encoded)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				for range 5 { // in use
					time.Sleep(parsedFor - time.Second)
					id.s.key()
				}
				if !id.s.isParsed() {
					t.Error("a key that is used was dropped")
				}
				time.Sleep(parsedFor + time.Second)
				if id.s.isParsed() {
					t.Error("a key that nobody uses stays parsed")
				}
				header, key := header(t, id.Recipient())
				if got, err := fileKeyOf(header, []Identity{id}); err != nil || got != key {
					t.Error("it opens nothing:", err)
				}
			}
			id.Wipe()
			if _, err := id.Encode(); !errors.Is(err, ErrWiped) || id.s.isParsed() || id.s.key() != nil {
				t.Error("something is left after wiping:", err)
			}
		})
	}
}

func (s *secret) isParsed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parsed != nil
}

// header is a header that is sealed to a key, and the key of its file.
func header(t *testing.T, to *Recipient) ([]byte, fileKey) {
	t.Helper()
	p, err := Prepare(to)
	if err != nil {
		t.Fatal(err)
	}
	return p.out.b[:len(p.out.b)-headerNonce], p.noted.key
}
