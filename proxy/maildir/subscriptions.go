package maildir

import "strings"

// Subscribed are the folders in a file of subscriptions, as Dovecot writes it: a line each, levels separated by dots. Newer ones begin it
// with their version, and separate levels by tabs.
func Subscribed(text []byte) []string {
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) > 0 && strings.HasPrefix(lines[0], "V\t") {
		lines = lines[1:]
	}
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(line, "\t", ".")
	}
	return lines
}
