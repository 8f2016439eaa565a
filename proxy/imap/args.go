package imap

import "bytes"

// args reads the arguments of a command that this layer answers itself. The command is whole, and its literals are quoted (frame).
type args []byte

// commandArgs returns what follows a command's name.
func commandArgs(cmd []byte) args {
	rest := cmd
	for range 2 { // tag and name
		i := bytes.IndexByte(rest, ' ')
		if i < 0 {
			return args("\r\n")
		}
		rest = rest[i+1:]
	}
	return args(rest)
}

// end says whether nothing follows.
func (a args) end() bool { return len(bytes.TrimRight(a, "\r\n")) == 0 }

// space takes one space.
func (a *args) space() bool {
	if len(*a) == 0 || (*a)[0] != ' ' {
		return false
	}
	*a = (*a)[1:]
	return true
}

// astring takes an atom or a quoted string (RFC 9051, 9: astring).
func (a *args) astring() (string, bool) {
	if len(*a) > 0 && (*a)[0] == '"' {
		return a.quoted()
	}
	i := bytes.IndexAny(*a, "(){ %*\"\\\r\n")
	if i <= 0 {
		return "", false
	}
	s := string((*a)[:i])
	*a = (*a)[i:]
	return s, true
}

func (a *args) quoted() (string, bool) {
	var s []byte
	for i := 1; i < len(*a); i++ {
		switch ch := (*a)[i]; ch {
		case '"':
			*a = (*a)[i+1:]
			return string(s), true
		case '\\':
			i++
			if i == len(*a) || (*a)[i] != '\\' && (*a)[i] != '"' {
				return "", false
			}
			s = append(s, (*a)[i])
		case '\r', '\n':
			return "", false
		default:
			s = append(s, ch)
		}
	}
	return "", false
}
