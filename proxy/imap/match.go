package imap

import "strings"

// maxPattern bounds the patterns of a LIST together, in bytes; no mailbox name is longer.
const maxPattern = 1024

// matches says whether a mailbox name matches a LIST pattern: "*" stands for anything, "%" for anything within a level (RFC 9051,
// 6.3.9). It takes at most len(pattern) times len(name) steps, whatever the pattern.
func matches(pattern, name string) bool {
	if len(pattern) > maxPattern {
		return false
	}
	// reach[i]: the pattern so far matches name[:i].
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for p := 0; p < len(pattern); p++ {
		switch c := pattern[p]; c {
		case '*', '%':
			for i := 1; i <= len(name); i++ {
				if reach[i-1] && (c == '*' || name[i-1] != delimiter) {
					reach[i] = true
				}
			}
		default:
			for i := len(name); i > 0; i-- {
				reach[i] = reach[i-1] && name[i-1] == c
			}
			reach[0] = false
		}
	}
	return reach[len(name)]
}

// matchesAny says whether a name matches one of the patterns. INBOX matches in any case (RFC 9051, 5.1).
func matchesAny(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if matches(pattern, name) || name == inbox && matches(strings.ToUpper(pattern), name) {
			return true
		}
	}
	return false
}
