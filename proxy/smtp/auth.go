package smtp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"sync"

	"mailraft/proxy"
	"mailraft/proxy/peer"
	"mailraft/proxy/sasl"
)

// maxResponse is the longest line of a SASL exchange in bytes, with its CRLF: the size that RFC 4954, 4 finds sufficient.
const maxResponse = 12288

// login is who has logged in, as long as the connection or until STARTTLS.
type login struct {
	proxy.Session
	left   chan struct{}  // closed when the connection is done with the session
	waited sync.WaitGroup // for the node to end the session, or for left
}

// isAuth says whether the line is an AUTH command.
func isAuth(line []byte) bool {
	verb, _, _ := bytes.Cut(line, []byte(" "))
	return bytes.EqualFold(bytes.TrimRight(verb, " \t"), []byte("AUTH"))
}

// mayLogIn says whether a password may cross the connection (RFC 8314, 4.1).
func (c *conn) mayLogIn() bool {
	return c.tls != nil || c.cfg.AllowPlaintextAuth || peer.IsLocal(c.remote)
}

// The replies of RFC 4954, 6 and RFC 3207, 4 to those who have not logged in.
var (
	replyAuthRequired = reply{530, "5.7.0", "Authentication required"}
	replyTLSRequired  = reply{530, "5.7.0", "Must issue a STARTTLS command first, then authenticate"}
	replyNoPlaintext  = reply{538, "5.7.11", "No passwords over an unprotected connection: use STARTTLS first"}
)

// mustLogIn is the reply to a command that only those may give who have logged in; nil for them, and for all where nobody does.
func (c *conn) mustLogIn() *reply {
	switch {
	case !c.cfg.submission() || c.login != nil:
		return nil
	case !c.mayLogIn():
		return &replyTLSRequired
	}
	return &replyAuthRequired
}

// auth is AUTH (RFC 4954, 4). The line is wiped, and so are those that follow.
func (c *conn) auth(line []byte) {
	defer c.in.wipe()
	_, arg, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte(" "))
	name, initial, given := bytes.Cut(bytes.TrimLeft(arg, " "), []byte(" "))
	switch {
	case !c.extended || c.login != nil || c.mail != nil:
		c.answer(replySequence)
		return
	case !c.mayLogIn():
		c.answer(replyNoPlaintext)
		return
	case len(name) == 0:
		c.answer(reply{501, "5.5.4", "AUTH needs a mechanism"})
		return
	}
	ctx, cancel := context.WithTimeout(c.server.context, c.cfg.AuthTimeout+c.cfg.LookUpTimeout)
	defer cancel()
	exchange, err := c.saslClient().Begin(ctx, string(name))
	if err != nil {
		c.answer(reply{504, "5.5.4", "Mechanism not implemented"})
		return
	}
	var response []byte
	if given {
		if response, err = sasl.DecodeInitial(initial); err != nil {
			c.answer(replyResponse)
			return
		}
	}
	switch err := exchange.Run(response, c.challenge); {
	case err == nil:
		c.logIn(exchange)
	case errors.Is(err, proxy.ErrAuthentication), errors.Is(err, sasl.ErrIdentity):
		c.loginFailed()
	case errors.Is(err, proxy.ErrTemporary):
		c.loginNotNow(exchange, err)
	case errors.Is(err, sasl.ErrMalformed):
		c.answer(replyResponse)
	case errors.Is(err, errCancelled):
		c.answer(reply{501, "5.7.0", "Authentication cancelled"})
	case errors.Is(err, errLineTooLong):
		c.answer(reply{500, "5.5.6", "Response is too long"})
	case errors.Is(err, errBareLF):
		c.replyClosing(replyBareLF)
	default:
		clear(c.in.pending()) // half a response
		c.readFailed(err)
	}
}

var replyResponse = reply{501, "5.5.2", "Malformed response"}

// errCancelled ends a SASL exchange that the client has cancelled.
var errCancelled = errors.New("cancelled")

// challenge sends a challenge and returns the client's response.
func (c *conn) challenge(challenge []byte) ([]byte, error) {
	c.reply(reply{334, "", base64.StdEncoding.EncodeToString(challenge)})
	line, err := c.nextLine(maxResponse)
	switch {
	case err != nil:
		return nil, err
	case string(line) == "*":
		return nil, errCancelled
	}
	return sasl.Decode(line)
}

func (c *conn) saslClient() *sasl.Client {
	return &sasl.Client{Logins: c.cfg.Logins, SCRAM: c.cfg.SCRAM, Protocol: "submission", Remote: c.remote, TLS: c.tls}
}

// loginNotNow is the answer when it can't be told whether the client may log in.
func (c *conn) loginNotNow(exchange *sasl.Exchange, err error) {
	c.cfg.Logger.Warn("login failed", "remote", c.remote.String(), "tls", c.tls != nil, "user", exchange.User(), "error", err)
	c.answer(reply{454, "4.7.0", "Logins do not work at the moment, try again later"})
}

// logIn opens the session.
func (c *conn) logIn(exchange *sasl.Exchange) {
	ctx, cancel := context.WithTimeout(c.server.context, c.cfg.LookUpTimeout)
	defer cancel()
	log := c.cfg.Logger.With("remote", c.remote.String(), "tls", c.tls != nil)
	session, err := exchange.LogIn(ctx)
	switch {
	case errors.Is(err, proxy.ErrAuthentication):
		log.Info("login refused", "user", exchange.User())
		c.loginFailed()
		return
	case err != nil:
		c.loginNotNow(exchange, err)
		return
	}
	log.Info("login", "account", session.Mailbox().Account)
	left := make(chan struct{})
	c.login = &login{Session: session, left: left}
	c.login.waited.Go(func() {
		select {
		case <-session.Done():
			c.expel()
		case <-left:
		}
	})
	c.answer(reply{235, "2.7.0", "Authentication successful"})
}

// logOut locks the account again, as far as this connection is concerned.
func (c *conn) logOut() {
	if c.login == nil {
		return
	}
	close(c.login.left)
	c.login.waited.Wait() // or it might take the session's end, which comes now, for the node's doing
	if err := c.login.Close(); err != nil {
		c.cfg.Logger.Warn("cannot end the login", "error", err)
	}
	c.login = nil
}

// loginFailed answers a failed login: late, and later each time. A shutdown does not wait for that.
func (c *conn) loginFailed() {
	c.failures++
	if c.flush() != nil {
		c.closing = true
		return
	}
	peer.HoldBack(c.server.closed, c.failures, c.cfg.FailureDelay)
	c.answer(reply{535, "5.7.8", "Wrong user name or password"})
	if c.failures >= c.cfg.MaxLoginFailures {
		c.replyClosing(reply{421, "4.7.0", c.cfg.Hostname + " has seen too many failed logins"})
	}
}
