package smtp

import (
	"strings"
)

// command is a command line: a verb in upper case and what is behind it.
type command struct {
	verb string
	arg  string
}

// parseCommand reads a line without its line end; false when it cannot be a command.
func parseCommand(line []byte) (command, bool) {
	text := strings.TrimRight(string(line), " \t")
	if text == "" || strings.ContainsAny(text, "\r\x00") {
		return command{}, false
	}
	verb, arg, _ := strings.Cut(text, " ")
	return command{strings.ToUpper(verb), strings.TrimLeft(arg, " ")}, true
}

// parsePathArgument reads "FROM:<path> parameters" of MAIL and RCPT.
func parsePathArgument(arg, keyword string) (p path, params []param, err error) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return path{}, nil, errPath
	}
	// A space behind the colon is not allowed, and often sent.
	p, rest, err := parsePath(strings.TrimLeft(arg[len(keyword):], " "))
	if err != nil {
		return path{}, nil, err
	}
	if rest != "" && rest[0] != ' ' {
		return path{}, nil, errPath
	}
	return p, parseParams(rest), nil
}

// param is an extension's parameter of MAIL or RCPT (RFC 5321, 4.1.2: esmtp-param).
type param struct {
	key   string // upper case
	value string
	given bool // whether there was a "="
}

func parseParams(s string) []param {
	var params []param
	for field := range strings.FieldsSeq(s) {
		key, value, given := strings.Cut(field, "=")
		params = append(params, param{strings.ToUpper(key), value, given})
	}
	return params
}
