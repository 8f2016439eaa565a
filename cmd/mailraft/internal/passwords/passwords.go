// Package passwords brings passwords to the one form in which they are stretched, wherever they come from: the same characters
// typed on two keyboards may come as different bytes (RFC 8265, 4.2).
package passwords

import (
	"crypto/rand"
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

// Random makes a password of 100 bits, in groups that can be typed.
func Random() string {
	var b [20]byte
	rand.Read(b[:]) // never fails
	out := make([]byte, 0, len(b)+3)
	for i, c := range b {
		if i > 0 && i%5 == 0 {
			out = append(out, '-')
		}
		out = append(out, alphabet[c%byte(len(alphabet))])
	}
	return string(out)
}
