package mailcopy

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"mailraft/cmd/mailraft/internal/progress"
	"mailraft/proxy/maildir"
)

// Result is what was copied.
type Result struct {
	Folders  int    `json:"folders"`
	Messages int    `json:"messages"` // copied now
	Octets   uint64 `json:"octets"`   // of these
	Already  int    `json:"already"`  // that were there from a run before
	LeftOut  int    `json:"left_out"` // that could not be copied; each was named
}

// copier is what both directions share.
type copier struct {
	home   string // on the mount
	meter  *progress.Meter
	warn   func(format string, args ...any)
	result Result
}

// leaveOut notes a message that can't be copied, when the others can.
func (c *copier) leaveOut(what string, err error) {
	c.result.LeftOut++
	c.warn("left out %s: %v", what, err)
}

// ErrLocked says that the account's key is needed and not there.
var ErrLocked = errors.New("the account is locked")

// explained adds what to do to the errors that an account's own mount answers.
func explained(err error) error {
	switch {
	case isKept(err):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; give the account more (mailraft account quota) and run this again: it goes on where it ended", err)
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("%w: the daemon has died; start it and run this again: it goes on where it ended", err)
	}
	return err
}

// isKept tells whether the account is locked, or unlocked for other users alone: this one is root, whom no permissions bind.
func isKept(err error) bool { return errors.Is(err, syscall.ENOKEY) || errors.Is(err, syscall.EACCES) }

// FolderNamed is the Maildir++ directory of a folder as mail programs name it: "Work/2024" is ".Work.2024", INBOX "".
func FolderNamed(name string) (string, error) {
	if strings.EqualFold(name, "INBOX") {
		return "", nil
	}
	var b strings.Builder
	for _, level := range strings.Split(strings.Trim(name, "/"), "/") {
		if level == "" || !utf8.ValidString(level) || strings.ContainsFunc(level, unicode.IsControl) {
			return "", fmt.Errorf("folder %q: %w", name, maildir.ErrFolderName)
		}
		b.WriteString("." + maildir.EncodeLevel(level))
	}
	if !maildir.ValidFolder(b.String()) {
		return "", fmt.Errorf("folder %q: %w", name, maildir.ErrFolderName)
	}
	return b.String(), nil
}

// shown is a folder's name for people.
func shown(folder string) string {
	if folder == "" {
		return "INBOX"
	}
	levels := strings.Split(folder[1:], ".")
	for i, level := range levels {
		if name, ok := maildir.DecodeLevel(level); ok {
			levels[i] = name
		}
	}
	return strings.Join(levels, "/")
}

// uniqueOf is what a message's name begins with and keeps: all before its fields (",S=") and flags.
func uniqueOf(name string) string {
	if i := strings.IndexAny(name, ",:"); i >= 0 {
		return name[:i]
	}
	return name
}

// flagsOf are the flag letters of a message's file name, without what is no letter.
func flagsOf(name string) string {
	_, flags, _ := strings.Cut(name, ":2,")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, flags)
}

const (
	keywordsFile      = "dovecot-keywords"
	subscriptionsFile = "subscriptions"
)
