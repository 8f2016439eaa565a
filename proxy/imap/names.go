package imap

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// delimiter separates the levels of a mailbox name.
const delimiter = '/'

const inbox = "INBOX"

// folderOf returns the Maildir++ directory name of a mailbox: "Work/2024" is ".Work.2024", INBOX is "". Each level is written in
// modified UTF-7 (RFC 3501, 5.1.3), as Courier and Dovecot do. A dot within a level, which would separate levels there, is
// encoded too ("&AC4-"), so "example.org" can be a mailbox.
func folderOf(name string) (string, error) {
	if strings.EqualFold(name, inbox) {
		return "", nil
	}
	var b strings.Builder
	for i, level := range strings.Split(name, string(delimiter)) {
		if level == "" || !utf8.ValidString(level) || strings.ContainsFunc(level, unicode.IsControl) {
			return "", no(imap.ResponseCodeCannot, "Not a name that a mailbox can have")
		}
		if i == 0 && strings.EqualFold(level, inbox) {
			level = inbox
		}
		b.WriteByte('.')
		b.WriteString(encodeLevel(level))
	}
	if !maildir.ValidFolder(b.String()) {
		return "", no(imap.ResponseCodeCannot, "Mailbox name is too long")
	}
	return b.String(), nil
}

// nameOf returns the mailbox name of a Maildir++ directory. Levels that are not modified UTF-7 are taken as they are: other
// software may have made them in UTF-8. ok is false for those that no mailbox name can stand for.
func nameOf(folder string) (name string, ok bool) {
	if folder == "" {
		return inbox, true
	}
	levels := strings.Split(folder[1:], ".")
	for i, level := range levels {
		if decoded, ok := decodeLevel(level); ok {
			levels[i] = decoded
		} else if !utf8.ValidString(level) || strings.ContainsFunc(level, unicode.IsControl) {
			return "", false
		}
	}
	name = strings.Join(levels, string(delimiter))
	return name, !strings.EqualFold(name, inbox) // ".INBOX" would hide the real one
}

var modifiedBase64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
	WithPadding(base64.NoPadding).Strict()

// encodeLevel writes one level of a mailbox name in modified UTF-7, with dots encoded too.
func encodeLevel(level string) string {
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

// decodeLevel reads one level written in modified UTF-7. Only what encodeLevel writes is accepted, so no two names stand for one.
func decodeLevel(level string) (string, bool) {
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
	if strings.ContainsRune(name, delimiter) || strings.ContainsFunc(name, unicode.IsControl) || encodeLevel(name) != level {
		return "", false
	}
	return name, true
}

// resolve returns the folder of a mailbox that exists.
func (s *session) resolve(name string) (string, error) {
	folder, err := folderOf(name)
	if err != nil {
		return "", no(imap.ResponseCodeNonExistent, "No such mailbox")
	}
	if maildir.FolderExists(s.home, folder) {
		return folder, nil
	}
	folders, err := maildir.Folders(s.home) // its directory may be named otherwise than we would
	if err != nil {
		return "", s.failed("list folders", err)
	}
	for _, f := range folders {
		if n, ok := nameOf(f); ok && n == name {
			return f, nil
		}
	}
	return "", no(imap.ResponseCodeNonExistent, "No such mailbox")
}

// target resolves the mailbox that messages are to be put into.
func (s *session) target(name string) (string, error) {
	folder, err := s.resolve(name)
	if err != nil {
		if _, invalid := folderOf(name); invalid != nil {
			return "", invalid
		}
		return "", no(imap.ResponseCodeTryCreate, "No such mailbox, create it first") // RFC 9051, 6.3.12
	}
	return folder, nil
}
