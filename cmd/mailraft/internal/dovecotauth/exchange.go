package dovecotauth

import (
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/emersion/go-sasl"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/login"
	"mailraft/fs/keyring"
	"mailraft/proxy/peer"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
)

// exchange is one login that is under way, or a look-up.
type exchange struct {
	number  uint64 // of the connection's
	running bool   // it is the server's turn
	attempt login.Attempt
	server  sasl.Server
	account *raftpb.Account // once logged in
	session *keyring.Session
	// takesLast: the client takes the server's last message with the OK. Else it is a challenge, to be answered with nothing.
	takesLast bool
	over      bool // all but that has been said
}

// enter takes in an exchange, unless its number is in use or there are too many. One that waits for its client makes room for it: a client
// whose user gave up says nothing.
func (c *conn) enter(id uint32, x *exchange) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, used := c.exchanges[id]; used {
		return false
	}
	if len(c.exchanges) >= maxExchanges {
		oldest, found := uint32(0), false
		for n, other := range c.exchanges {
			if !other.running && (!found || other.number < c.exchanges[oldest].number) {
				oldest, found = n, true
			}
		}
		if !found {
			return false
		}
		delete(c.exchanges, oldest)
	}
	c.begun++
	x.number = c.begun
	c.exchanges[id] = x
	return true
}

func (c *conn) leave(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.exchanges, id)
}

// begin begins a login.
func (c *conn) begin(r request) {
	x := &exchange{running: true, attempt: attemptOf(r)}
	_, x.takesLast = r.params["final-resp-ok"]
	for _, m := range c.server.mechanisms() {
		if strings.EqualFold(m.name, r.name) {
			x.server = m.serve(c, x)
		}
	}
	switch {
	case x.server == nil:
		clear(r.response)
		c.fail(r.id, "reason=Unsupported authentication mechanism")
	case !c.enter(r.id, x):
		clear(r.response)
		c.log.Warn("login put off: too many at once, or one with that number", "protocol", x.attempt.Protocol, "remote", x.attempt.Remote)
		c.fail(r.id, temporary...)
	default:
		c.steps.Go(func() { c.step(r.id, x, r.response) })
	}
}

// attemptOf is what is known of who logs in.
func attemptOf(r request) login.Attempt {
	at := login.Attempt{Protocol: login.Clip(r.params["service"])}
	switch at.Protocol {
	case "":
		at.Protocol = "auth"
	case "smtp": // who asks for a login there submits mail
		at.Protocol = "submission"
	}
	_, at.TLS = r.params["secured"]
	if ip := r.params["rip"]; ip != "" {
		port := r.params["rport"]
		if port == "" {
			port = "0"
		}
		at.Remote = net.JoinHostPort(login.Clip(ip), login.Clip(port))
	}
	return at
}

// proceed goes on with a login. One that is not known was given up: who gave it up may not know yet.
func (c *conn) proceed(r request) error {
	c.mu.Lock()
	x := c.exchanges[r.id]
	turn := x != nil && !x.running
	if turn {
		x.running = true
	}
	c.mu.Unlock()
	switch {
	case x == nil:
		clear(r.response)
		c.fail(r.id, temporary...)
	case !turn:
		clear(r.response)
		return malformed("CONT out of turn")
	default:
		c.steps.Go(func() { c.step(r.id, x, r.response) })
	}
	return nil
}

// step hands the client's response to the mechanism, and the client what comes of it.
func (c *conn) step(id uint32, x *exchange, response []byte) {
	if x.over {
		if len(response) > 0 {
			c.refuse(id, x, access.ErrMalformed)
			return
		}
		c.admit(id, x)
		return
	}
	challenge, done, err := x.server.Next(response)
	clear(response)
	if err == nil && done {
		x.session.WhileUsed()
	}
	switch {
	case err != nil:
		c.refuse(id, x, err)
	case !done, len(challenge) > 0 && !x.takesLast:
		c.mu.Lock()
		x.running, x.over = false, done
		c.mu.Unlock()
		c.write(line(cmdCont, number(id), base64.StdEncoding.EncodeToString(challenge)))
	case len(challenge) > 0:
		c.admit(id, x, respParam+"="+base64.StdEncoding.EncodeToString(challenge))
	default:
		c.admit(id, x)
	}
}

// admit tells the client who has logged in.
func (c *conn) admit(id uint32, x *exchange, params ...string) {
	c.leave(id)
	params = append(append([]string{number(id), "user=" + x.account.Address()}, c.server.fields(x.account)...), params...)
	c.write(line(cmdOK, params...))
}

// logIn opens the account.
func (c *conn) logIn(x *exchange, username string, password []byte) (err error) {
	x.attempt.Username, x.attempt.Password = username, password
	x.account, x.session, err = c.server.cfg.Logins.Open(c.ctx, x.attempt)
	x.attempt.Password = nil
	if err == nil {
		c.succeeded()
	}
	return err
}

// succeeded forgets the failures of the client that has logged in.
func (c *conn) succeeded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.failed = 0, ""
}

// refuse answers a login that failed: late, if that was the client's doing, and later each time.
func (c *conn) refuse(id uint32, x *exchange, err error) {
	defer c.leave(id)
	var params []string
	if x.attempt.Username != "" {
		params = append(params, "user="+login.Clip(x.attempt.Username))
	}
	var later login.NotNow
	switch {
	case c.ctx.Err() != nil:
		return
	case errors.As(err, &later):
		c.fail(id, append(params, temporary...)...)
		return
	case !errors.Is(err, login.ErrRefused): // which is logged
		c.log.Info("login refused", "protocol", x.attempt.Protocol, "remote", x.attempt.Remote, "error", err)
	}
	if peer.HoldBack(c.ctx.Done(), c.countFailure(x.attempt.Remote), c.server.cfg.FailureDelay) {
		if errors.Is(err, errIdentity) {
			params = append(params, "authz", "code=authz_fail")
		}
		c.fail(id, params...)
	}
}

// countFailure counts the failures of a client: one after the other, as a mail server's process serves clients one after the other.
func (c *conn) countFailure(remote string) int {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if host != c.failed {
		c.failures, c.failed = 0, host
	}
	c.failures = min(c.failures+1, maxFailures)
	return c.failures
}

func isUnknown(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, raftstore.ErrAddress)
}
