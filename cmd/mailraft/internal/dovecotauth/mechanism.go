package dovecotauth

import (
	"errors"

	"github.com/emersion/go-sasl"
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

// loginServer is the server of LOGIN (draft-murchison-sasl-login): it asks for two texts, whose prompts clients ignore or take literally.
type loginServer struct {
	logIn    logIn
	username []byte
	step     int
}

func newLogin(logIn logIn) sasl.Server { return &loginServer{logIn: logIn} }

// Next implements sasl.Server. The initial response, which some clients send, is the user name.
func (s *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && s.step == 0 {
		s.step = 1
		return []byte("Username:"), false, nil
	}
	switch s.step {
	case 0, 1:
		s.username, s.step = append([]byte(nil), response...), 2
		return []byte("Password:"), false, nil
	case 2:
		s.step = 3
		return nil, true, s.logIn(string(s.username), response)
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}
