package maildir

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf16"
)

var modifiedBase64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
	WithPadding(base64.NoPadding).Strict()

// EncodeLevel writes one level of a mailbox name in modified UTF-7 (RFC 3501, 5.1.3), with dots encoded too: as they separate levels
// in the name of a Maildir++ folder.
func EncodeLevel(level string) string {
	var b strings.Builder
	var wide []uint16
	flush := func() {
		if len(wide) == 0 {
			return
		}
		raw := make([]byte, 0, 2*len(wide))
		for _, u := range wide {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + modifiedBase64.EncodeToString(raw) + "-")
		wide = wide[:0]
	}
	for _, r := range level {
		switch {
		case r == '&':
			flush()
			b.WriteString("&-")
		case r >= ' ' && r < 0x7f && r != '.':
			flush()
			b.WriteByte(byte(r))
		default:
			wide = utf16.AppendRune(wide, r)
		}
	}
	flush()
	return b.String()
}

// DecodeLevel reads one level written in modified UTF-7. Only what EncodeLevel writes is accepted, so no two names stand for one;
// and no slash, which would be a level more.
func DecodeLevel(level string) (string, bool) {
	var b strings.Builder
	for rest := level; rest != ""; {
		plain, after, shifted := strings.Cut(rest, "&")
		b.WriteString(plain)
		if !shifted {
			break
		}
		code, after, ended := strings.Cut(after, "-")
		if !ended {
			return "", false
		}
		rest = after
		if code == "" {
			b.WriteByte('&')
			continue
		}
		raw, err := modifiedBase64.DecodeString(code)
		if err != nil || len(raw)%2 != 0 {
			return "", false
		}
		units := make([]uint16, 0, len(raw)/2)
		for i := 0; i < len(raw); i += 2 {
			units = append(units, uint16(raw[i])<<8|uint16(raw[i+1]))
		}
		b.WriteString(string(utf16.Decode(units)))
	}
	name := b.String()
	if strings.ContainsRune(name, '/') || strings.ContainsFunc(name, unicode.IsControl) || EncodeLevel(name) != level {
		return "", false
	}
	return name, true
}
