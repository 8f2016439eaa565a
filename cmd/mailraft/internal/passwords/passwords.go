// Package passwords brings passwords to the one form in which they are stretched, wherever they come from: the same characters
// typed on two keyboards may come as different bytes (RFC 8265, 4.2).
package passwords

import (
	"crypto/rand"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxGrowth is how many times longer form C can be, in octets of UTF-8 (Unicode's FAQ on normalization).
const maxGrowth = 3

// Normal is the password in Unicode's form C; bytes that are not UTF-8 stay as they are. The caller wipes both.
func Normal(password []byte) []byte {
	if !utf8.Valid(password) {
		return append([]byte(nil), password...)
	}
	// Room for whatever comes of it: a buffer that grows leaves the password behind in what it grew out of.
	return norm.NFC.Append(make([]byte, 0, maxGrowth*len(password)), password...)
}

// alphabet has no characters that look like others.
const alphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// group is how many characters are in a group of a random password, and randomSize in all of it: 100 bits.
const (
	group      = 5
	randomSize = 20
)

// Random makes a password of 100 bits, in groups that can be typed.
func Random() []byte {
	var b [randomSize]byte
	defer clear(b[:])
	rand.Read(b[:]) // never fails
	out := make([]byte, 0, randomSize+randomSize/group-1)
	for i, c := range b {
		if i > 0 && i%group == 0 {
			out = append(out, '-')
		}
		out = append(out, alphabet[c%byte(len(alphabet))])
	}
	return out
}

// Secret is the characters of a password that Random made, however they were typed, or nil: it can be none. The caller wipes it.
func Secret(password []byte) []byte {
	secret := make([]byte, 0, randomSize+1)
	for _, c := range password {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case c == '-' || c == ' ':
			continue
		case strings.IndexByte(alphabet, c) < 0 || len(secret) == randomSize:
			clear(secret)
			return nil
		}
		secret = append(secret, c)
	}
	if len(secret) < randomSize {
		clear(secret)
		return nil
	}
	return secret
}
