package imap

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// keywordsFile maps the letters a-z of a folder's messages to keywords, as Dovecot does: a line is an index, a space, a keyword.
const keywordsFile = "dovecot-keywords"

// keywords are a folder's keywords by letter; "" for a letter that stands for none.
type keywords [26]imap.Flag

// readKeywords reads a folder's keywords. A folder without the file has none.
func readKeywords(dir string) (keywords, error) {
	text, err := maildir.ReadBeside(dir + "/" + keywordsFile)
	if err != nil {
		return keywords{}, err
	}
	return parseKeywords(text), nil
}

// parseKeywords skips lines that make no sense: flags of other messages must not suffer.
func parseKeywords(text []byte) keywords {
	var k keywords
	for line := range strings.Lines(string(text)) {
		index, name, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i >= len(k) || !isKeyword(imap.Flag(name)) {
			continue
		}
		k[i] = imap.Flag(name)
	}
	return k
}

func (k *keywords) text() []byte {
	var b bytes.Buffer
	for i, name := range k {
		if name != "" {
			b.WriteString(strconv.Itoa(i) + " " + string(name) + "\n")
		}
	}
	return b.Bytes()
}

// bit returns the bit of a keyword. Keywords do not distinguish case (RFC 9051, 2.3.2).
func (k *keywords) bit(flag imap.Flag) (flagSet, bool) {
	for i, name := range k {
		if name != "" && strings.EqualFold(string(name), string(flag)) {
			return 1 << i, true
		}
	}
	return 0, false
}

// defined returns the bits that stand for a keyword.
func (k *keywords) defined() flagSet {
	var set flagSet
	for i, name := range k {
		if name != "" {
			set |= 1 << i
		}
	}
	return set
}

// list returns a flagSet in IMAP's terms.
func (k *keywords) list(set flagSet) []imap.Flag {
	flags := make([]imap.Flag, 0, 8)
	for _, f := range systemFlags {
		if set&f.bit != 0 {
			flags = append(flags, f.flag)
		}
	}
	for i, name := range k {
		if name != "" && set&(1<<i) != 0 {
			flags = append(flags, name)
		}
	}
	return flags
}

// full says whether no letter is left.
func (k *keywords) full() bool { return k.defined() == keywordBits }

// add gives each flag that has none a letter; it says whether all have got one.
func (k *keywords) add(flags []imap.Flag) (ok, changed bool) {
	for _, flag := range flags {
		if _, known := k.bit(flag); known {
			continue
		}
		free := -1
		for i, name := range k {
			if name == "" {
				free = i
				break
			}
		}
		if free < 0 {
			return false, changed
		}
		k[free], changed = flag, true
	}
	return true, changed
}

// flagBits returns the bits of flags in a folder whose keywords are k. Keywords that are new there get letters when create is
// set, else they are left out. \Recent cannot be set and is left out (RFC 3501, 2.3.2).
func (s *session) flagBits(dir string, k *keywords, flags []imap.Flag, create bool) (flagSet, error) {
	var set flagSet
	var unknown []imap.Flag
	for _, flag := range flags {
		if bit, ok := systemFlag(flag); ok {
			set |= bit
		} else if strings.EqualFold(string(flag), string(flagRecent)) {
			continue
		} else if bit, ok := k.bit(flag); ok {
			set |= bit
		} else if !isKeyword(flag) {
			return 0, badCommand("No such flag")
		} else {
			unknown = append(unknown, flag)
		}
	}
	if len(unknown) == 0 || !create {
		return set, nil
	}
	var more keywords
	err := s.replaceFile(dir+"/"+keywordsFile, func(old []byte) ([]byte, error) {
		more = parseKeywords(old) // somebody else may have added some
		ok, changed := more.add(unknown)
		switch {
		case !ok:
			return nil, no(imap.ResponseCodeLimit, "A mailbox can have 26 keywords")
		case !changed:
			return nil, errUnchanged
		}
		return more.text(), nil
	})
	if err != nil {
		return 0, s.failed("add keywords", err)
	}
	*k = more
	for _, flag := range unknown {
		if bit, ok := k.bit(flag); ok {
			set |= bit
		}
	}
	return set, nil
}
