package dovecotauth

import (
	"errors"

	"github.com/emersion/go-sasl"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/login"
	proxysasl "mailraft/proxy/sasl"
)

// mechanism is a SASL mechanism that is offered.
type mechanism struct {
	name   string
	traits []string // what the client is told of it
	// serve begins an exchange. Its Next is called in a goroutine of its own, and may wait; when it says that it is done, the exchange has its
	// account and session.
	serve func(c *conn, x *exchange) sasl.Server
}

// mechanisms are those that are offered. What TLS an exchange could be bound to (SCRAM-SHA-256-PLUS) only the mail server knows.
func (s *Server) mechanisms() []mechanism {
	offered := []mechanism{
		{sasl.Plain, []string{"plaintext"}, newPlain},
		{sasl.Login, []string{"plaintext"}, newLogin},
	}
	if s.cfg.SCRAM {
		offered = append(offered, mechanism{"SCRAM-SHA-256", []string{"mutual-auth"}, newProof})
	}
	return offered
}

// errIdentity: RFC 4616, 2: nobody here may act for somebody else.
var errIdentity = errors.New("the authorization identity must be the user's own")

func newPlain(c *conn, x *exchange) sasl.Server {
	return sasl.NewPlainServer(func(identity, username, password string) error {
		if identity != "" && identity != username {
			return errIdentity
		}
		secret := []byte(password)
		defer clear(secret)
		return c.logIn(x, username, secret)
	})
}

func newLogin(c *conn, x *exchange) sasl.Server {
	return proxysasl.NewLogin(func(_, username, password string) error {
		secret := []byte(password)
		defer clear(secret)
		return c.logIn(x, username, secret)
	})
}

// proof is a login of who proves to know the password (RFC 5802, RFC 7677).
type proof struct {
	conn  *conn
	x     *exchange
	proof *login.Proof // nil before the client's first message
}

func newProof(c *conn, x *exchange) sasl.Server { return &proof{conn: c, x: x} }

// Next implements sasl.Server.
func (p *proof) Next(response []byte) (challenge []byte, done bool, err error) {
	var answer string
	switch {
	case response == nil: // the client begins (RFC 5802, 5)
		return []byte{}, false, nil
	case p.proof == nil:
		if p.proof, err = p.conn.server.cfg.Logins.Prove(p.x.attempt, access.Binding{}); err != nil {
			return nil, true, err
		}
		answer, err = p.proof.First(p.conn.ctx, string(response))
		p.x.attempt.Username = p.proof.Username()
		return []byte(answer), false, err
	}
	answer, p.x.account, p.x.session, err = p.proof.Final(p.conn.ctx, string(response))
	if err == nil {
		p.conn.succeeded()
	}
	return []byte(answer), true, err
}
