package smtp

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// path is a forward-path or reverse-path (RFC 5321, 4.1.2; RFC 6531, 3.3). Its zero value is the null reverse-path, "<>".
type path struct {
	local  string // local part, without quoting
	domain string // "" in "<Postmaster>"
}

// maxPath is the longest path in bytes. RFC 5321, 4.5.3.1.3 has 256 as the least; rewritten senders need more.
const maxPath = 512

var errPath = errors.New("malformed path")

// parsePath reads a path with its brackets from the front of s and returns what is behind it.
func parsePath(s string) (p path, rest string, err error) {
	s, ok := strings.CutPrefix(s, "<")
	if !ok {
		return path{}, "", errPath
	}
	if rest, ok := strings.CutPrefix(s, ">"); ok {
		return path{}, rest, nil
	}
	if strings.HasPrefix(s, "@") { // a source route: accepted and ignored (RFC 5321, appendix C)
		if _, s, ok = strings.Cut(s, ":"); !ok {
			return path{}, "", errPath
		}
	}
	whole := len(s)
	if p.local, s, err = parseLocal(s); err != nil {
		return path{}, "", err
	}
	if domain, ok := strings.CutPrefix(s, "@"); ok {
		end := strings.IndexByte(domain, '>')
		if end < 0 || !isDomain(domain[:end]) {
			return path{}, "", errPath
		}
		p.domain, s = domain[:end], domain[end:]
	} else if !strings.EqualFold(p.local, "postmaster") { // RFC 5321, 4.1.1.3
		return path{}, "", errPath
	}
	s, ok = strings.CutPrefix(s, ">")
	if !ok || whole-len(s) > maxPath {
		return path{}, "", errPath
	}
	return p, s, nil
}

// parseLocal reads a local part, a dot-string or a quoted-string. Dots may stand anywhere in a dot-string: mail comes from such
// addresses.
func parseLocal(s string) (local, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexFunc(s, func(r rune) bool { return !isAtext(r) && r != '.' })
		if end <= 0 {
			return "", "", errPath
		}
		return s[:end], s[end:], validText(s[:end])
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if b.Len() == 0 {
				return "", "", errPath
			}
			return b.String(), s[i+1:], validText(b.String())
		case '\\':
			i++
			if i == len(s) {
				return "", "", errPath
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", errPath
}

// isAtext says whether r can stand in an atom (RFC 5322, 3.2.3; RFC 6531, 3.3).
func isAtext(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r >= utf8.RuneSelf:
		return true
	}
	return r > 0 && strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

// validText refuses control characters and what is not UTF-8.
func validText(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }) {
		return errPath
	}
	return nil
}

// isDomain says whether s can be a domain or an address literal. It is for keeping trace lines well-formed, not for judging
// names: underscores pass, and so does anything that is not ASCII.
func isDomain(s string) bool {
	if s == "" || len(s) > 255 || validText(s) != nil {
		return false
	}
	name := s
	literal := len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']'
	if literal {
		name = s[1 : len(s)-1]
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r >= utf8.RuneSelf:
			return false
		}
		return r != '.' && r != '-' && r != '_' && (!literal || r != ':')
	})
}

// isNull says whether it is the null reverse-path.
func (p path) isNull() bool { return p == path{} }

// ascii says whether the path needs no SMTPUTF8.
func (p path) ascii() bool { return isASCII(p.local) && isASCII(p.domain) }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// String returns the path without brackets, its local part quoted when it has to be.
func (p path) String() string {
	if p.isNull() {
		return ""
	}
	local := p.local
	if !isDotString(local) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if p.domain == "" {
		return local
	}
	return local + "@" + p.domain
}

// isDotString says whether s is a dot-string by the letter of RFC 5321, 4.1.2.
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return !isAtext(r) }) {
			return false
		}
	}
	return true
}
