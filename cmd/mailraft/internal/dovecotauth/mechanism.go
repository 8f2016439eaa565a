package dovecotauth

import (
	"errors"

	"github.com/emersion/go-sasl"

	proxysasl "mailraft/proxy/sasl"
)

// mechanism is a SASL mechanism that is offered.
type mechanism struct {
	name   string
	traits []string // what the client is told of it
	// serve begins an exchange. Its Next is called in a goroutine of its own, and may wait; when it says that it is done, logIn has
	// succeeded.
	serve func(logIn logIn) sasl.Server
}

// logIn checks a password. password is the caller's to wipe.
type logIn func(username string, password []byte) error

var mechanisms = []mechanism{
	{sasl.Plain, []string{"plaintext"}, newPlain},
	{sasl.Login, []string{"plaintext"}, newLogin},
}

// errIdentity: RFC 4616, 2: nobody here may act for somebody else.
var errIdentity = errors.New("the authorization identity must be the user's own")

func newPlain(logIn logIn) sasl.Server {
	return sasl.NewPlainServer(func(identity, username, password string) error {
		if identity != "" && identity != username {
			return errIdentity
		}
		secret := []byte(password)
		defer clear(secret)
		return logIn(username, secret)
	})
}

func newLogin(logIn logIn) sasl.Server {
	return proxysasl.NewLogin(func(_, username, password string) error {
		secret := []byte(password)
		defer clear(secret)
		return logIn(username, secret)
	})
}
