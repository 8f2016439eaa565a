package transport

import (
	"crypto"
	"strings"
	"testing"
	"time"
)

type cryptoPublicKey = crypto.PublicKey

func TestToken(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	made, err := NewToken([]string{"10.0.0.1:7420", "[fd00::1]:7420"}, [32]byte{1, 2, 3}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	line := made.String()
	got, err := ParseToken(" "+line+"\n", now)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != line || got.CA != made.CA || got.ID != made.ID || string(got.Secret) != string(made.Secret) || !got.Expires.Equal(made.Expires) {
		t.Errorf("%+v, want %+v", got, made)
	}
	if !CheckSecret(made.Hash(), got.ID, got.Secret) || CheckSecret(made.Hash(), got.ID, got.Secret[1:]) {
		t.Error("the secret is not told from another")
	}
	for bad, says := range map[string]string{
		"":                          "",
		"hello":                     "",
		line[:len(line)-3]:          "",
		line[:20] + "x" + line[21:]: "",
	} {
		if _, err := ParseToken(bad, now); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", bad, err)
		} else {
			t.Log(err)
		}
	}
	if _, err := ParseToken(line, now.Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
}

func FuzzToken(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	made, err := NewToken([]string{"10.0.0.1:7420"}, [32]byte{1}, now.Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made.String())
	f.Fuzz(func(t *testing.T, line string) {
		if got, err := ParseToken(line, now); err == nil {
			if again, err := ParseToken(got.String(), now); err != nil || again.String() != got.String() {
				t.Fatalf("%q: %v", line, err)
			}
		}
	})
}
