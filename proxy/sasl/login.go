package sasl

import "github.com/emersion/go-sasl"

// login is the server of the LOGIN mechanism, for which the library has a client alone.
type login struct {
	take  sasl.PlainAuthenticator
	user  string
	named bool // the user's name has come
}

// NewLogin makes the server of the LOGIN mechanism, which calls take with the name and the password that the client gave.
func NewLogin(take sasl.PlainAuthenticator) sasl.Server { return &login{take: take} }

// Next implements sasl.Server. The draft has other challenges, which clients are to ignore; these are what everybody sends, and what
// some clients insist on. A name that comes as an initial response is taken, as everybody does.
func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case !l.named:
		l.user, l.named = string(response), true
		return []byte("Password:"), false, nil
	}
	return nil, true, l.take("", l.user, string(response))
}
