package mailcopy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// keywords are a folder's keywords, by letter from a on; "" for a letter that stands for none (docs/format.md, dovecot-keywords).
type keywords [26]string

func parseKeywords(text []byte) (k keywords) {
	for line := range strings.Lines(string(text)) {
		index, name, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(k) && isKeyword(name) {
			k[i] = name
		}
	}
	return k
}

func (k *keywords) text() string {
	var b strings.Builder
	for i, name := range k {
		if name != "" {
			fmt.Fprintf(&b, "%d %s\n", i, name)
		}
	}
	return b.String()
}

// isKeyword says whether a folder can have the keyword: an atom of IMAP (RFC 9051, 9: flag-keyword), at most 100 octets.
func isKeyword(name string) bool {
	return name != "" && len(name) <= 100 && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r)
	})
}

// letter is that of a keyword, which has no case (RFC 9051, 2.3.2); it gives one that has none the next that is free. ok is false
// when all are taken.
func (k *keywords) letter(name string) (letter byte, added, ok bool) {
	same := func(have string) bool { return strings.EqualFold(have, name) }
	if i := slices.IndexFunc(k[:], same); i >= 0 {
		return 'a' + byte(i), false, true
	}
	if i := slices.Index(k[:], ""); i >= 0 {
		k[i] = name
		return 'a' + byte(i), true, true
	}
	return 0, false, false
}

// split takes flag letters apart: those of maildir(5), and the keywords.
func (k *keywords) split(flags string) (letters string, names []string) {
	for _, c := range []byte(flags) {
		switch {
		case c < 'a' || c > 'z':
			letters += string(c)
		case k[c-'a'] != "":
			names = append(names, k[c-'a'])
		}
	}
	return letters, names
}
