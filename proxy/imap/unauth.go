package imap

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"mailraft/proxy"
	"mailraft/proxy/peer"
	"mailraft/proxy/sasl"
)

// serveStranger speaks with a client that has not logged in. When it returns nil the client has, and the library takes over; the
// answer to its login is written already.
//
// The library is kept out of this state: it has one setting for all connections on whether passwords may cross them, it drops
// the last challenge of a SASL exchange, and it reads STARTTLS from under our framing.
func (c *conn) serveStranger(implicitTLS bool) error {
	deadline := time.Now().Add(c.server.cfg.LoginTimeout)
	if implicitTLS {
		c.raw.SetDeadline(deadline)
		if err := c.startTLS(); err != nil {
			return err
		}
	}
	if err := c.writef("* OK [CAPABILITY %s] %s IMAP ready", c.capabilities(), c.server.cfg.Hostname); err != nil {
		return err
	}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			c.end("", "Took too long to log in")
			return io.EOF
		}
		if err := c.gather(left); err != nil {
			return err
		}
		if c.cmd == nil {
			continue
		}
		name, arguments := c.command.name, commandArgs(c.cmd)
		var err error
		switch name {
		case "CAPABILITY", "NOOP", "ID", "LOGOUT":
			err = c.answerAnywhere(name, arguments)
		case "STARTTLS":
			c.raw.SetDeadline(deadline)
			err = c.handleStartTLS(arguments)
		case "LOGIN", "AUTHENTICATE":
			err = c.handleLogin(name, arguments, deadline)
			if err == nil && c.session != nil {
				c.raw.SetDeadline(time.Time{})
				return nil
			}
			if errors.Is(err, proxy.ErrAuthentication) {
				err = nil
				if c.failures >= c.server.cfg.MaxFailedLogins {
					c.end("", "Too many failed logins")
					return io.EOF
				}
			}
		case "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "LIST", "LSUB", "NAMESPACE", "STATUS",
			"APPEND", "IDLE", "ENABLE", "CLOSE", "UNSELECT", "CHECK", "EXPUNGE", "SEARCH", "FETCH", "STORE", "COPY", "MOVE",
			"UID FETCH", "UID STORE", "UID COPY", "UID MOVE", "UID SEARCH", "UID EXPUNGE":
			err = c.refuse("BAD [CLIENTBUG] Log in first")
		default:
			// A browser that was lured into speaking to us says things like POST and Host; no second guess for it.
			c.answer("BAD Unknown command")
			c.end("", "Unknown command")
			return io.EOF
		}
		if err != nil {
			return err
		}
	}
}

// refuse answers a command, and reads the message away that a client may send with it unasked.
func (c *conn) refuse(status string) error {
	if err := c.answer(status); err != nil {
		return err
	}
	offered := c.offered
	c.offered = upload{}
	return c.discardLiteral(offered.size, offered.nonSync)
}

// answerAnywhere answers the commands that are valid in all states and that this layer answers itself.
func (c *conn) answerAnywhere(name string, arguments args) error {
	if name != "ID" && !arguments.end() {
		return c.answer("BAD [CLIENTBUG] " + name + " takes no arguments")
	}
	switch name {
	case "CAPABILITY":
		if err := c.writef("* CAPABILITY %s", c.capabilities()); err != nil {
			return err
		}
	case "ID": // RFC 2971: tell the name alone, a version helps attackers more than anybody
		if err := c.writef(`* ID ("name" "Mailraft")`); err != nil {
			return err
		}
	case "LOGOUT":
		if err := c.writef("* BYE Logging out"); err != nil {
			return err
		}
		c.answer("OK LOGOUT completed")
		c.flush()
		return io.EOF
	}
	return c.answer("OK " + name + " completed")
}

// handleStartTLS does RFC 9051, 6.2.1.
func (c *conn) handleStartTLS(arguments args) error {
	switch {
	case !arguments.end():
		return c.answer("BAD [CLIENTBUG] STARTTLS takes no arguments")
	case c.tls != nil:
		return c.answer("BAD [CLIENTBUG] TLS is active already")
	case c.server.cfg.TLSConfig == nil:
		return c.answer("NO [UNAVAILABLE] No TLS here")
	case c.br.Buffered() > 0:
		c.answer("BAD [CLIENTBUG] Nothing may follow STARTTLS")
		c.end("", "Protocol error")
		return io.EOF
	}
	c.answer("OK Begin TLS negotiation now")
	if err := c.flush(); err != nil {
		return err
	}
	return c.startTLS()
}

// privacyRequired is the answer to passwords that must not cross the connection (RFC 5530).
const privacyRequired = "NO [PRIVACYREQUIRED] TLS is required to log in"

// handleLogin does LOGIN and AUTHENTICATE (RFC 9051, 6.2.3 and 6.2.2). A login that fails is answered, and its error is
// proxy.ErrAuthentication.
func (c *conn) handleLogin(name string, arguments args, deadline time.Time) error {
	if !c.mayLogIn() {
		return c.answer(privacyRequired)
	}
	ctx, cancel := context.WithDeadline(c.server.ctx, deadline.Add(c.server.cfg.LoginTimeout))
	defer cancel()
	var open func(context.Context) (proxy.Session, error)
	var named string
	if name == "LOGIN" {
		user, ok1 := arguments.astring()
		ok2 := arguments.space()
		password, ok3 := arguments.astring()
		if !ok1 || !ok2 || !ok3 || !arguments.end() {
			return c.answer("BAD [CLIENTBUG] LOGIN takes a user name and a password")
		}
		credentials := proxy.Credentials{Username: user, Password: password, Protocol: protocol, Remote: c.raw.RemoteAddr(), TLS: c.tls != nil}
		if !credentials.Plausible() {
			return c.loginFailed()
		}
		named, open = user, func(ctx context.Context) (proxy.Session, error) { return c.server.logins.Login(ctx, credentials) }
	} else {
		exchange, err := c.exchange(ctx, arguments)
		if err != nil || exchange == nil {
			return err
		}
		named, open = exchange.User(), exchange.LogIn
	}
	login, err := open(ctx)
	switch {
	case errors.Is(err, proxy.ErrAuthentication):
		c.loginLog().Info("login refused", "user", named)
		return c.loginFailed()
	case err != nil:
		return c.loginNotNow(named, err)
	}
	c.session = newSession(c, login)
	c.loginLog().Info("login", "account", login.Mailbox().Account)
	return c.answer("OK [CAPABILITY " + c.capabilities() + "] Logged in")
}

// protocol is ours in proxy.Credentials.
const protocol = "imap"

func (c *conn) saslClient() *sasl.Client {
	client := &sasl.Client{Logins: c.server.logins, SCRAM: c.server.cfg.SCRAM, Protocol: protocol, Remote: c.raw.RemoteAddr()}
	if c.tls != nil {
		state := c.tls.ConnectionState()
		client.TLS = &state
	}
	return client
}

func (c *conn) loginLog() *slog.Logger {
	return c.server.cfg.Logger.With("remote", c.raw.RemoteAddr().String(), "tls", c.tls != nil)
}

// loginNotNow is the answer when it can't be told whether the client may log in.
func (c *conn) loginNotNow(named string, err error) error {
	c.loginLog().Warn("login failed", "user", named, "err", err)
	return c.answer("NO [UNAVAILABLE] Logins do not work at the moment, try again later")
}

// loginFailed answers a failed login: late, and later each time. A shutdown does not wait for that.
func (c *conn) loginFailed() error {
	c.failures++
	if err := c.flush(); err != nil {
		return err
	}
	peer.HoldBack(c.server.stopping, c.failures, c.server.cfg.FailureDelay)
	if err := c.answer("NO [AUTHENTICATIONFAILED] Wrong user name or password"); err != nil {
		return err
	}
	return proxy.ErrAuthentication
}

// exchange runs the SASL exchange of AUTHENTICATE. When it fails, it answers the command and returns nil.
func (c *conn) exchange(ctx context.Context, arguments args) (*sasl.Exchange, error) {
	mechanism, ok := arguments.astring()
	if !ok {
		return nil, c.answer("BAD [CLIENTBUG] AUTHENTICATE takes a mechanism")
	}
	client := c.saslClient()
	exchange, err := client.Begin(ctx, mechanism)
	if err != nil {
		return nil, c.answer("NO [CANNOT] No such mechanism, use " + strings.Join(client.Mechanisms(), " or "))
	}
	var response []byte
	if arguments.space() { // RFC 4959
		initial, _ := arguments.astring()
		if response, err = sasl.DecodeInitial([]byte(initial)); err != nil || !arguments.end() {
			clear(response)
			return nil, c.answer("BAD [CLIENTBUG] Malformed initial response")
		}
	} else if !arguments.end() {
		return nil, c.answer("BAD [CLIENTBUG] Malformed arguments")
	}
	switch err := exchange.Run(response, c.challenge); {
	case err == nil:
		return exchange, nil
	case errors.Is(err, proxy.ErrAuthentication):
		return nil, c.loginFailed()
	case errors.Is(err, proxy.ErrTemporary):
		return nil, c.loginNotNow(exchange.User(), err)
	case errors.Is(err, sasl.ErrMalformed):
		return nil, c.answer("BAD [CLIENTBUG] Malformed response")
	case errors.Is(err, sasl.ErrIdentity):
		return nil, c.answer("NO [AUTHORIZATIONFAILED] Acting as somebody else is not possible")
	case errors.Is(err, errCancelled):
		return nil, c.answer("BAD AUTHENTICATE cancelled")
	default:
		return nil, err
	}
}

// errCancelled ends a SASL exchange that the client has cancelled.
var errCancelled = errors.New("cancelled")

// challenge sends a SASL challenge and reads the response. Errors: errCancelled, sasl.ErrMalformed, and those that end the connection.
func (c *conn) challenge(challenge []byte) ([]byte, error) {
	if err := c.writef("+ %s", base64.StdEncoding.EncodeToString(challenge)); err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	line, err := c.readLine(nil, c.server.cfg.MaxCommand)
	defer clear(line)
	switch {
	case err == errTooLong:
		c.end("", "Response is too long")
		return nil, io.EOF
	case err != nil:
		return nil, unexpected(err)
	}
	text := bytes.TrimRight(line, "\r\n")
	if string(text) == "*" {
		return nil, errCancelled
	}
	return sasl.Decode(text)
}

// intercept answers the commands of a client that has logged in which the library cannot, or gets wrong. It says whether it did.
func (c *conn) intercept() bool {
	arguments := commandArgs(c.cmd)
	switch name := c.command.name; name {
	case "CAPABILITY", "ID":
		c.answerAnywhere(name, arguments)
	case "ENABLE":
		// RFC 5161, 3.1: not while a mailbox is selected. The library would switch to UTF-8 in the midst of it.
		if !c.session.isSelected() {
			return false
		}
		c.answer("BAD [CLIENTBUG] ENABLE is not valid while a mailbox is selected")
	case "LOGIN", "AUTHENTICATE", "STARTTLS", "UNAUTHENTICATE":
		c.answer("BAD [CLIENTBUG] Logged in already")
	case "SEARCH", "UID SEARCH":
		c.cmd = withoutSmaller(c.cmd)
		if len(c.cmd) <= libraryMaxCommand {
			return false
		}
		c.answer("BAD [LIMIT] Command line is too long")
	default:
		return false
	}
	return true
}
