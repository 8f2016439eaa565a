package imap

import (
	"strings"
	"unicode"
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
		b.WriteString(maildir.EncodeLevel(level))
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
		if decoded, ok := maildir.DecodeLevel(level); ok {
			levels[i] = decoded
		} else if !utf8.ValidString(level) || strings.ContainsFunc(level, unicode.IsControl) {
			return "", false
		}
	}
	name = strings.Join(levels, string(delimiter))
	return name, !strings.EqualFold(name, inbox) // ".INBOX" would hide the real one
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
