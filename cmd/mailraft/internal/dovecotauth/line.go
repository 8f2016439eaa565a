package dovecotauth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The protocol's version. Another minor number changes nothing that matters here.
const (
	major = 1
	minor = 2
)

// maxLine is how long a line may be, in octets, with its LF: what the protocol expects.
const maxLine = 16384

// Commands, of both sides.
const (
	cmdVersion  = "VERSION"
	cmdCPID     = "CPID"
	cmdSPID     = "SPID"
	cmdCUID     = "CUID"
	cmdCookie   = "COOKIE"
	cmdMech     = "MECH"
	cmdDone     = "DONE"
	cmdAuth     = "AUTH"
	cmdCont     = "CONT"
	cmdCancel   = "CANCEL"
	cmdUser     = "USER"
	cmdOK       = "OK"
	cmdFail     = "FAIL"
	cmdNotFound = "NOTFOUND"
)

var errMalformed = errors.New("malformed request")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errMalformed}, args...)...)
}

// request is a line of a client. Which of the fields are set is the command's.
type request struct {
	command  string
	major    uint64            // VERSION
	id       uint32            // AUTH, CONT, CANCEL, USER
	name     string            // AUTH: the mechanism; USER: the user's name
	params   map[string]string // AUTH, USER: by their names; those without a value have the empty one
	response []byte            // AUTH, CONT; nil: there is none. To be wiped
}

// parse takes a line apart, which comes without its LF. What it returns has nothing of line, which the caller wipes.
func parse(line []byte) (request, error) {
	command, rest, _ := bytes.Cut(line, tab)
	r := request{command: string(command)}
	var err error
	switch r.command {
	case cmdVersion:
		number, _, _ := bytes.Cut(rest, tab)
		if r.major, err = strconv.ParseUint(string(number), 10, 32); err != nil {
			return r, malformed("VERSION without a number")
		}
	case cmdAuth, cmdUser:
		if rest, err = r.takeID(rest); err != nil {
			return r, err
		}
		name, params, _ := bytes.Cut(rest, tab)
		if r.name = unescape(name); r.name == "" {
			return r, malformed("%s without a name", r.command)
		}
		return r, r.takeParams(params)
	case cmdCont:
		if rest, err = r.takeID(rest); err != nil {
			return r, err
		}
		r.response, err = decode(rest)
	case cmdCancel:
		_, err = r.takeID(rest)
	case cmdCPID:
	default: // of a later minor version
		r.command = ""
	}
	return r, err
}

var tab = []byte{'\t'}

func (r *request) takeID(from []byte) (rest []byte, err error) {
	number, rest, _ := bytes.Cut(from, tab)
	id, err := strconv.ParseUint(string(number), 10, 32)
	if err != nil {
		return nil, malformed("%s without a number of 32 bits", r.command)
	}
	r.id = uint32(id)
	return rest, nil
}

// respParam is the parameter with the client's initial response. It is the last one, whatever comes behind it.
const respParam = "resp"

func (r *request) takeParams(from []byte) (err error) {
	r.params = map[string]string{}
	for len(from) > 0 {
		var param []byte
		param, rest, _ := bytes.Cut(from, tab)
		key, value, _ := bytes.Cut(param, []byte{'='})
		if string(key) == respParam {
			r.response, err = decode(value)
			return err
		}
		if len(key) > 0 {
			r.params[unescape(key)] = unescape(value)
		}
		from = rest
	}
	return nil
}

// decode decodes a response, which is not nil then.
func decode(text []byte) ([]byte, error) {
	response := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(response, text)
	if err != nil {
		clear(response)
		return nil, malformed("no base64")
	}
	return response[:n], nil
}

// The escapes of what cannot stand in a parameter. Behind the escape character, anything else stands for itself.
const escapeChar = '\x01'

var escapes = strings.NewReplacer("\x01", "\x011", "\x00", "\x010", "\t", "\x01t", "\r", "\x01r", "\n", "\x01l")

func unescape(text []byte) string {
	if bytes.IndexByte(text, escapeChar) < 0 {
		return string(text)
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == escapeChar && i+1 < len(text) {
			i++
			switch c = text[i]; c {
			case '0':
				c = 0
			case '1':
				c = escapeChar
			case 't':
				c = '\t'
			case 'r':
				c = '\r'
			case 'l':
				c = '\n'
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// line makes a line, with its LF, of a command and its parameters.
func line(command string, params ...string) []byte {
	b := []byte(command)
	for _, p := range params {
		b = append(b, '\t')
		b = append(b, escapes.Replace(p)...)
	}
	return append(b, '\n')
}

func number(id uint32) string { return strconv.FormatUint(uint64(id), 10) }
