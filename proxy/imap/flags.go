package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// flagSet is a message's flags: keywords a-z are bits 0 to 25, the letters of maildir(5) the bits above.
type flagSet uint32

const (
	draft     flagSet = 1 << (26 + iota) // D
	flagged                              // F
	forwarded                            // P, "passed": the keyword $Forwarded
	answered                             // R, "replied"
	seen                                 // S
	deleted                              // T, "trashed"
)

const keywordBits flagSet = 1<<26 - 1

// flagRecent is IMAP4rev1's \Recent.
const flagRecent imap.Flag = `\Recent`

// systemFlags are the flags with a letter of their own, in the letters' order.
var systemFlags = []struct {
	letter byte
	bit    flagSet
	flag   imap.Flag
}{
	{'D', draft, imap.FlagDraft},
	{'F', flagged, imap.FlagFlagged},
	{'P', forwarded, imap.FlagForwarded},
	{'R', answered, imap.FlagAnswered},
	{'S', seen, imap.FlagSeen},
	{'T', deleted, imap.FlagDeleted},
}

// parseFlags reads flag letters. Letters that mean nothing to us are left out, and kept by withFlags.
func parseFlags(letters string) flagSet {
	var set flagSet
	for i := 0; i < len(letters); i++ {
		switch c := letters[i]; c {
		case 'D':
			set |= draft
		case 'F':
			set |= flagged
		case 'P':
			set |= forwarded
		case 'R':
			set |= answered
		case 'S':
			set |= seen
		case 'T':
			set |= deleted
		default:
			if c >= 'a' && c <= 'z' {
				set |= 1 << (c - 'a')
			}
		}
	}
	return set
}

// letters writes a flagSet in the order that maildir(5) wants: by ASCII code.
func (set flagSet) letters() string {
	b := make([]byte, 0, 32)
	for _, f := range systemFlags {
		if set&f.bit != 0 {
			b = append(b, f.letter)
		}
	}
	for c := byte('a'); c <= 'z'; c++ {
		if set&(1<<(c-'a')) != 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

// withFlags returns the name in cur/ that a message gets with these flags. Letters of other software are kept.
func withFlags(key, oldLetters string, set flagSet) string {
	letters := set.letters()
	for _, c := range []byte(oldLetters) {
		if parseFlags(string(c)) == 0 && c > ' ' && c < 0x7f && c != '/' && !strings.Contains(letters, string(c)) {
			letters += string(c)
		}
	}
	return "cur/" + key + ":2," + letters
}

// systemFlag returns the bit of a flag that has a letter of its own.
func systemFlag(flag imap.Flag) (flagSet, bool) {
	for _, f := range systemFlags {
		if strings.EqualFold(string(f.flag), string(flag)) {
			return f.bit, true
		}
	}
	return 0, false
}

// isKeyword says whether a flag can be kept as a keyword: an atom without a backslash (RFC 9051, 2.3.2), of a decent length.
func isKeyword(flag imap.Flag) bool {
	if len(flag) == 0 || len(flag) > 100 {
		return false
	}
	for i := 0; i < len(flag); i++ {
		if c := flag[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}
