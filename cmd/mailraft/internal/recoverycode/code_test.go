package recoverycode

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailraft/fs/seal/slot"
)

func secrets() *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.Byte(), slot.SecretSize, slot.SecretSize)
}

// TestKnown: what is printed today is read for ever.
func TestKnown(t *testing.T) {
	secret := []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\xfc\xfd\xfe\xff")
	const code = "000G-40R4-0M30-E209-185G-R38E-1ZYF-VZQZ-J9QD"
	if got := string(Format(secret)); got != code {
		t.Error(got)
	}
	if got, err := Parse([]byte(code)); err != nil || !bytes.Equal(got, secret) {
		t.Error(got, err)
	}
}

func TestRoundTrip(t *testing.T) {
	form := regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){8}$`)
	rapid.Check(t, func(t *rapid.T) {
		secret := secrets().Draw(t, "secret")
		code := Format(secret)
		if !form.Match(code) {
			t.Fatalf("%s", code)
		}
		typed := string(code)
		if rapid.Bool().Draw(t, "small") {
			typed = strings.ToLower(typed)
		}
		if rapid.Bool().Draw(t, "alike") {
			typed = strings.NewReplacer("0", "o", "1", rapid.SampledFrom([]string{"l", "I"}).Draw(t, "one")).Replace(typed)
		}
		typed = strings.ReplaceAll(typed, "-", rapid.SampledFrom([]string{"", " ", "--"}).Draw(t, "between"))
		if got, err := Parse([]byte(typed)); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%s: %v", typed, err)
		}
	})
}

// TestMistyped: one other character, or two neighbours that have changed places, is seen but once in a million.
func TestMistyped(t *testing.T) {
	missed, tried := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		code := bytes.ReplaceAll(Format(secrets().Draw(t, "secret")), []byte("-"), nil)
		at := rapid.IntRange(0, len(code)-2).Draw(t, "at")
		wrong := bytes.Clone(code)
		if rapid.Bool().Draw(t, "swap") {
			wrong[at], wrong[at+1] = wrong[at+1], wrong[at]
		} else {
			wrong[at] = alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "character")]
		}
		if bytes.Equal(wrong, code) {
			return
		}
		tried++
		if _, err := Parse(wrong); !errors.Is(err, ErrChecksum) {
			missed++
		}
	})
	if tried == 0 || missed > 1 {
		t.Errorf("%d of %d were missed", missed, tried)
	}
}

func TestNoCode(t *testing.T) {
	good := string(Format(make([]byte, slot.SecretSize)))
	for _, code := range []string{"", "-", "secret", good[:len(good)-1], good + "0", "U" + good[1:], "\xff" + good[1:], strings.Repeat("0", 1<<20)} {
		if _, err := Parse([]byte(code)); !errors.Is(err, ErrForm) {
			t.Errorf("%.40q: %v", code, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("000G-40R4-0M30-E209"))
	f.Add(Format(make([]byte, slot.SecretSize)))
	f.Fuzz(func(t *testing.T, code []byte) {
		secret, err := Parse(code)
		if err != nil {
			return
		}
		again, err := Parse(Format(secret))
		if err != nil || !bytes.Equal(again, secret) {
			t.Fatalf("%x becomes %x: %v", secret, again, err)
		}
	})
}
