// Package recoverycode is how a recovery secret is written for people: groups of characters that are not taken for one another, with a
// checksum, so that a mistyped code is told from a wrong one (docs/format.md).
package recoverycode

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"

	"mailraft/fs/seal/slot"
)

// What Parse answers; test with errors.Is.
var (
	// ErrForm: it is no recovery code.
	ErrForm = errors.New("a recovery code is nine groups of four letters and digits")
	// ErrChecksum: it was one, and something in it is wrong.
	ErrChecksum = errors.New("a character of the recovery code is wrong, or two have changed places")
)

const (
	checkSize = 4                               // characters
	size      = slot.SecretSize*8/5 + checkSize // characters
	group     = 4
)

// alphabet is Crockford's: without I, L, O and U.
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// Format writes a secret of slot.SecretSize octets: XXXX-XXXX-... The caller wipes both.
func Format(secret []byte) []byte {
	plain := make([]byte, size)
	defer clear(plain)
	encoding.Encode(plain, secret)
	copy(plain[size-checkSize:], check(secret))
	code := make([]byte, 0, size+size/group-1)
	for i, c := range plain {
		if i > 0 && i%group == 0 {
			code = append(code, '-')
		}
		code = append(code, c)
	}
	return code
}

// Parse reads what Format has written, as people type it: small letters, O for 0, I and L for 1, spaces and "-" anywhere or not at all. The
// caller wipes both. Errors: ErrForm, ErrChecksum; no character of the code is in them.
func Parse(code []byte) ([]byte, error) {
	plain := make([]byte, 0, size+1) // it must not grow: what it grew out of would be left behind
	defer func() { clear(plain[:cap(plain)]) }()
	for _, c := range code {
		switch {
		case c == '-' || c == ' ' || c == '\t':
			continue
		case c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		}
		switch c {
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if bytes.IndexByte([]byte(alphabet), c) < 0 {
			return nil, fmt.Errorf("character %d is none that a code has: %w", len(plain)+1, ErrForm)
		}
		if len(plain) == size {
			return nil, fmt.Errorf("it has more characters: %w", ErrForm)
		}
		plain = append(plain, c)
	}
	if len(plain) < size {
		return nil, fmt.Errorf("it has %d characters, not %d: %w", len(plain), size, ErrForm)
	}
	secret := make([]byte, slot.SecretSize)
	if _, err := encoding.Decode(secret, plain[:size-checkSize]); err != nil {
		return nil, ErrForm
	}
	if !bytes.Equal(check(secret), plain[size-checkSize:]) {
		clear(secret)
		return nil, ErrChecksum
	}
	return secret, nil
}

// check is the checksum, of 20 bits: it is no secret's, as whoever has it without the rest has nothing.
func check(secret []byte) []byte {
	b := append([]byte("mailraft recovery code\x00"), secret...)
	defer clear(b)
	sum := sha256.Sum256(b)
	return encoding.AppendEncode(nil, sum[:3])[:checkSize]
}
