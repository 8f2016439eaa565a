package imap

import (
	"bytes"
	"strconv"
	"strings"
)

// searchArguments says how many arguments the search keys take that take any but other keys (RFC 9051, 6.4.4).
var searchArguments = map[string]int{
	"CHARSET": 1, "UID": 1, "KEYWORD": 1, "UNKEYWORD": 1, "BCC": 1, "CC": 1, "FROM": 1, "SUBJECT": 1, "TO": 1, "BODY": 1, "TEXT": 1,
	"SINCE": 1, "BEFORE": 1, "ON": 1, "SENTSINCE": 1, "SENTBEFORE": 1, "SENTON": 1, "LARGER": 1, "HEADER": 2,
}

// searchWord takes what stands up to the next space or parenthesis, a quoted string, which may hold these, or a set of numbers with
// "*" in it among others. written is the word as it stands there.
func (a *args) searchWord() (word string, written args) {
	before := *a
	if word, ok := a.astring(); ok && (before[0] == '"' || a.end() || strings.IndexByte(" ()\r\n", (*a)[0]) >= 0) {
		return word, before[:len(before)-len(*a)]
	}
	n := bytes.IndexAny(before, " ()\r\n")
	if n < 0 {
		n = len(before)
	}
	*a = before[n:]
	return string(before[:n]), before[:n]
}

// withoutSmaller rewrites "SMALLER n" in a SEARCH command as "NOT LARGER n-1". The library forgets a SMALLER when a LARGER or a
// date follows it.
func withoutSmaller(cmd []byte) []byte {
	if !bytes.Contains(bytes.ToUpper(cmd), []byte("SMALLER")) {
		return cmd
	}
	out := make([]byte, 0, len(cmd)+32)
	rest := commandArgs(cmd)
	if prefix := cmd[:len(cmd)-len(rest)]; len(prefix) > 0 {
		out = append(out, prefix...)
	}
	skip := 0 // arguments that are no keys
	for len(rest) > 0 {
		if i := strings.IndexByte(" ()\r\n", rest[0]); i >= 0 {
			out = append(out, rest[0])
			rest = rest[1:]
			continue
		}
		word, written := rest.searchWord()
		switch {
		case skip > 0:
			skip--
		case strings.EqualFold(word, "SMALLER") && written[0] != '"':
			after, number := rest, ""
			if after.space() {
				number, _ = after.searchWord()
			}
			if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 {
				written = []byte("NOT ALL")
				if n > 0 {
					written = []byte("NOT LARGER " + strconv.FormatInt(n-1, 10))
				}
				rest = after
			}
		default:
			skip = searchArguments[strings.ToUpper(word)]
		}
		out = append(out, written...)
	}
	return out
}
