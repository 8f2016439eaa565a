package seal

import (
	"bytes"
	"encoding/base64"
)

// MaxHeader is the size of the largest age header that this package writes (hybrid), in bytes: so much of the beginning of
// sealed content is enough for [CheckHeader].
const MaxHeader = 1627

// headerForm is the one shape that an age header takes here: one stanza of this type with one argument. Sizes are those of
// the decoded base64, in bytes. Source: age-encryption.org/v1, "Header"; C2SP age, "mlkem768x25519 recipient stanza".
type headerForm struct {
	kind    Kind
	opening []byte // of the file, up to and with the blank before the stanza's argument
	arg     int    // an encapsulated key, or an ephemeral share
}

const (
	headerIntro = "age-encryption.org/v1\n"
	headerBody  = 16 + 16 // the wrapped file key and its tag
	headerMAC   = 32
	headerNonce = 16 // precedes the payload, not part of the header
)

var headerForms = [...]headerForm{
	{Hybrid, []byte(headerIntro + "-> mlkem768x25519 "), 1088 + 32},
	{X25519, []byte(headerIntro + "-> X25519 "), 32},
}

var headerBase64 = base64.RawStdEncoding.Strict()

// CheckHeader says whether content that begins with prefix (at least [MaxHeader] bytes, or all of it) begins as a Writer
// would begin it: with an age v1 header that has exactly one stanza, of a known kind. It needs no key, and so cannot say
// whether the stanza opens. Errors: ErrCorrupt.
func CheckHeader(prefix []byte) error {
	_, _, err := parseHeader(prefix)
	return err
}

// parseHeader returns the header's kind and size in bytes. It takes exactly what age writes, and so bounds what age is
// given to parse. Errors: ErrCorrupt.
func parseHeader(prefix []byte) (Kind, int, error) {
	for _, form := range headerForms {
		rest, ok := bytes.CutPrefix(prefix, form.opening)
		if !ok {
			continue
		}
		for _, part := range [...]struct {
			before string
			size   int
			name   string
		}{
			{"", form.arg, "stanza argument"},
			{"", headerBody, "stanza body"},
			{"--- ", headerMAC, "header MAC"},
		} {
			if rest, ok = bytes.CutPrefix(rest, []byte(part.before)); !ok {
				return 0, 0, corrupt("age header: no %s where it should be", part.name)
			}
			if rest, ok = cutBase64Line(rest, part.size); !ok {
				return 0, 0, corrupt("age header: malformed %s", part.name)
			}
		}
		return form.kind, len(prefix) - len(rest), nil
	}
	return 0, 0, corrupt("not an age v1 header with one stanza of a known kind")
}

// cutBase64Line cuts a line of size bytes in unpadded, canonical base64 from the front of b.
func cutBase64Line(b []byte, size int) (rest []byte, ok bool) {
	n := headerBase64.EncodedLen(size)
	if len(b) <= n || b[n] != '\n' || bytes.ContainsAny(b[:n], "\r\n") {
		return nil, false
	}
	var decoded [1120]byte // the largest argument
	if _, err := headerBase64.Decode(decoded[:], b[:n]); err != nil {
		return nil, false
	}
	return b[n+1:], true
}

// headerSize returns the size of the age header and of the nonce behind it, in bytes.
func headerSize(kind Kind) int {
	for _, form := range headerForms {
		if form.kind == kind {
			enc := headerBase64.EncodedLen
			return len(form.opening) + enc(form.arg) + 1 + enc(headerBody) + 1 + len("--- ") + enc(headerMAC) + 1 + headerNonce
		}
	}
	return MaxHeader + headerNonce
}
