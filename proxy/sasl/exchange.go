package sasl

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"mailraft/proxy"
)

// What goes wrong beside proxy.ErrAuthentication; test with errors.Is.
var (
	ErrMechanism = errors.New("no such SASL mechanism")
	ErrMalformed = errors.New("malformed SASL response")
	// ErrIdentity is an authorization identity of somebody else: nobody here may act for another (RFC 4616, 2).
	ErrIdentity = errors.New("acting as somebody else is not possible")
)

// mechanism makes the server's side of a mechanism, which calls its argument with what the client gave.
type mechanism struct {
	name string
	make func(sasl.PlainAuthenticator) sasl.Server
}

// mechanisms are all there are, those first that clients should prefer.
var mechanisms = []mechanism{
	{sasl.Plain, sasl.NewPlainServer},
	{sasl.Login, newLogin},
}

// Mechanisms are the names of all mechanisms, in upper case, for the protocols' lists of capabilities.
func Mechanisms() []string {
	var names []string
	for _, m := range mechanisms {
		names = append(names, m.name)
	}
	return names
}

// Exchange is one run of a mechanism. It is for one goroutine.
type Exchange struct {
	server         sasl.Server
	user, password string
	done           bool // successfully or not
}

// Begin starts an exchange. The mechanism's name may be in either case. The error is ErrMechanism.
func Begin(name string) (*Exchange, error) {
	i := slices.IndexFunc(mechanisms, func(m mechanism) bool { return strings.EqualFold(m.name, name) })
	if i < 0 {
		return nil, ErrMechanism
	}
	e := &Exchange{}
	e.server = mechanisms[i].make(e.take)
	return e, nil
}

// take takes what the client gave.
func (e *Exchange) take(identity, user, password string) error {
	if !(proxy.Credentials{Username: user, Password: password}).Plausible() {
		return proxy.ErrAuthentication
	}
	if identity != "" && identity != user {
		return ErrIdentity
	}
	e.user, e.password = user, password
	return nil
}

// Next takes the client's response, which is wiped, and returns what to ask next, until done. The first response is the initial one,
// nil when the client gave none: that is not the same as an empty one. A challenge that comes with done, not nil, is to be sent too
// and has an empty response.
//
// Errors end the exchange: ErrMalformed; ErrIdentity; proxy.ErrAuthentication for what can be nobody's name and password.
func (e *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	defer clear(response)
	if e.done {
		return nil, true, ErrMalformed
	}
	challenge, done, err = e.server.Next(response)
	e.done = done || err != nil
	switch {
	case err == nil, errors.Is(err, ErrIdentity), errors.Is(err, proxy.ErrAuthentication):
		return challenge, e.done, err
	}
	return nil, true, ErrMalformed // the library's own errors
}

// Run goes through the whole exchange. ask sends a challenge and returns the response to it, decoded and not nil; its errors end the
// exchange, and are Run's. The others are those of Next.
func (e *Exchange) Run(initial []byte, ask func(challenge []byte) (response []byte, err error)) error {
	response := initial
	for {
		challenge, done, err := e.Next(response)
		if err != nil || done && challenge == nil {
			return err
		}
		if response, err = ask(challenge); err != nil {
			return err
		}
		if done {
			clear(response)
			if len(response) > 0 {
				return ErrMalformed
			}
			return nil
		}
	}
}

// Credentials are the name and the password that the client gave, both there once an exchange has ended without an error.
func (e *Exchange) Credentials() (user, password string) { return e.user, e.password }

// Decode decodes a response from a line in base64, in memory of its own; it is not nil. The error is ErrMalformed.
func Decode(line []byte) ([]byte, error) {
	response := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Decode(response, line)
	if err != nil {
		clear(response)
		return nil, ErrMalformed
	}
	return response[:n], nil
}

// DecodeInitial decodes an initial response that stands in a command, where "=" is an empty one (RFC 4954, 4; RFC 4959; RFC 5034, 4).
func DecodeInitial(word []byte) ([]byte, error) {
	if string(word) == "=" {
		return []byte{}, nil
	}
	return Decode(word)
}
