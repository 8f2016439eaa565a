package sasl

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"mailraft/proxy"
)

// What goes wrong beside proxy's errors; test with errors.Is.
var (
	ErrMechanism = errors.New("no such SASL mechanism")
	ErrMalformed = errors.New("malformed SASL response")
	// ErrIdentity is an authorization identity of somebody else: nobody here may act for another (RFC 4616, 2).
	ErrIdentity = errors.New("acting as somebody else is not possible")
)

// Client is who logs in, and where that is checked.
type Client struct {
	Logins   proxy.Logins
	SCRAM    bool   // clients may prove that they know the password, in place of sending it
	Protocol string // as in proxy.Credentials
	Remote   net.Addr
	TLS      *tls.ConnectionState // nil: the connection has none
}

// mechanism makes the server's side of a mechanism.
type mechanism struct {
	name string
	make func(context.Context, *Exchange) sasl.Server
}

// mechanisms are all that the client may use, those first that it should prefer.
func (c *Client) mechanisms() []mechanism {
	var list []mechanism
	if c.SCRAM {
		binding := bindingOf(c.TLS)
		prove := func(plus bool) func(context.Context, *Exchange) sasl.Server {
			return func(ctx context.Context, e *Exchange) sasl.Server {
				e.proving = &scram{ctx: ctx, client: c, terms: proxy.ProofTerms{
					Protocol: c.Protocol, Remote: c.Remote, TLS: c.TLS != nil, Binding: binding, Plus: plus,
				}}
				return e.proving
			}
		}
		if binding != "" {
			list = append(list, mechanism{scramSHA256Plus, prove(true)})
		}
		list = append(list, mechanism{scramSHA256, prove(false)})
	}
	return append(list,
		mechanism{sasl.Plain, func(_ context.Context, e *Exchange) sasl.Server { return sasl.NewPlainServer(e.take) }},
		mechanism{sasl.Login, func(_ context.Context, e *Exchange) sasl.Server { return NewLogin(e.take) }},
	)
}

// Mechanisms are the names of the mechanisms that the client may use, in upper case, for the protocols' lists of capabilities.
func (c *Client) Mechanisms() []string {
	var names []string
	for _, m := range c.mechanisms() {
		names = append(names, m.name)
	}
	return names
}

// Exchange is one run of a mechanism. It is for one goroutine.
type Exchange struct {
	client  *Client
	server  sasl.Server
	user    string
	proving *scram // nil: the client sends its password
	done    bool   // successfully or not

	password string
}

// Begin starts an exchange. The mechanism's name may be in either case. ctx is for all of it. The error is ErrMechanism.
func (c *Client) Begin(ctx context.Context, name string) (*Exchange, error) {
	all := c.mechanisms()
	i := slices.IndexFunc(all, func(m mechanism) bool { return strings.EqualFold(m.name, name) })
	if i < 0 {
		return nil, ErrMechanism
	}
	e := &Exchange{client: c}
	e.server = all[i].make(ctx, e)
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

// next takes the client's response, which is wiped, and returns what to ask next, until done. The first response is the initial one,
// nil when the client gave none: that is not the same as an empty one. A challenge that comes with done, not nil, is to be sent too
// and has an empty response.
func (e *Exchange) next(response []byte) (challenge []byte, done bool, err error) {
	defer clear(response)
	if e.done {
		return nil, true, ErrMalformed
	}
	challenge, done, err = e.server.Next(response)
	e.done = done || err != nil
	switch {
	case err == nil, errors.Is(err, ErrIdentity), errors.Is(err, proxy.ErrAuthentication):
		return challenge, e.done, err
	case e.proving != nil && !errors.Is(err, proxy.ErrMalformed): // the node's
		return nil, true, errors.Join(err, proxy.ErrTemporary)
	}
	return nil, true, ErrMalformed // the library's own errors
}

// Run goes through the whole exchange. ask sends a challenge and returns the response to it, decoded and not nil; its errors end the
// exchange, and are Run's. Others are ErrMalformed, ErrIdentity, proxy.ErrTemporary; and proxy.ErrAuthentication for what can be nobody's name and
// password, or does not prove that the client knows the password.
func (e *Exchange) Run(initial []byte, ask func(challenge []byte) (response []byte, err error)) error {
	err := e.run(initial, ask)
	if err != nil {
		e.abandon()
	}
	return err
}

func (e *Exchange) run(initial []byte, ask func(challenge []byte) (response []byte, err error)) error {
	response := initial
	for {
		challenge, done, err := e.next(response)
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

// abandon gives back what an exchange has that is not gone through.
func (e *Exchange) abandon() {
	switch {
	case e.proving == nil:
	case e.proving.session != nil:
		e.proving.session.Close()
	case e.proving.proof != nil:
		e.proving.proof.Close()
	}
}

// User is the name that the client gave, as far as the proxy knows it: in SCRAM the node alone does.
func (e *Exchange) User() string { return e.user }

// LogIn opens the session of an exchange that Run has gone through. Errors are those of proxy.Logins.
func (e *Exchange) LogIn(ctx context.Context) (proxy.Session, error) {
	if e.proving != nil {
		return e.proving.session, nil
	}
	c := e.client
	return c.Logins.Login(ctx, proxy.Credentials{
		Username: e.user, Password: e.password, Protocol: c.Protocol, Remote: c.Remote, TLS: c.TLS != nil,
	})
}

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
