package transport

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// FuzzParseToken: what is taken is what String writes, and every refusal has its name.
func FuzzParseToken(f *testing.F) {
	token, err := NewToken([]string{"a.example:7000", "[::1]:7000"}, [32]byte{1}, time.Unix(2e9, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token.String())
	f.Add(tokenPrefix)
	f.Add(tokenPrefix + "aaaaaaaa")
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, line string) {
		got, err := ParseToken(line, now)
		if err != nil {
			for _, known := range []error{ErrNotToken, ErrTokenCut, ErrTokenDamaged, ErrTokenExpired} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatal(err)
		}
		if again, err := ParseToken(got.String(), now); err != nil || again.String() != got.String() || again.Hash() != got.Hash() {
			t.Errorf("%q became %q: %v", line, got, err)
		}
	})
}

// TestATokenCutAnywhere is told from one that was changed.
func TestATokenCutAnywhere(t *testing.T) {
	token, err := NewToken([]string{"a.example:7000"}, [32]byte{1}, time.Unix(2e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	line := token.String()
	for n := 1; n < len(line); n++ {
		if _, err := ParseToken(line[:n], time.Unix(1e9, 0)); !errors.Is(err, ErrTokenCut) {
			t.Errorf("the first %d of %d characters: %v", n, len(line), err)
		}
	}
	for i := len(tokenPrefix) + 8; i < len(line); i++ {
		other := "a"
		if line[i] == 'a' {
			other = "b"
		}
		if _, err := ParseToken(line[:i]+other+line[i+1:], time.Unix(1e9, 0)); !errors.Is(err, ErrTokenDamaged) {
			t.Errorf("character %d changed: %v", i, err)
		}
	}
}

// FuzzReadGroup: a name is what the header says, or an error.
func FuzzReadGroup(f *testing.F) {
	f.Add([]byte("\x07shard-1rest"))
	f.Add([]byte("\x00"))
	f.Add([]byte("\xff" + strings.Repeat("x", 255)))
	f.Fuzz(func(t *testing.T, b []byte) {
		group, err := readGroup(bytes.NewReader(b))
		if err == nil && (group == "" || len(group) > maxGroup || !bytes.HasPrefix(b[1:], []byte(group)) || int(b[0]) != len(group)) {
			t.Errorf("%q of %q", group, b)
		}
	})
}
