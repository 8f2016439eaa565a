package pop3

import (
	"bytes"
	"encoding/base64"

	"github.com/emersion/go-sasl"
)

// auth logs in by SASL (RFC 5034), of which PLAIN is the one mechanism.
func (s *session) auth(arg []byte) error {
	mechanism, initial, hasInitial := bytes.Cut(arg, []byte(" "))
	if !bytes.EqualFold(mechanism, []byte(sasl.Plain)) {
		return bad("unknown SASL mechanism")
	}
	if !s.mayLogIn() {
		return plaintextRefused()
	}
	var user, password string
	plain := sasl.NewPlainServer(func(identity, username, pass string) error {
		// RFC 4616, 2: nobody here may act for somebody else.
		if identity != "" && identity != username {
			return &failure{code: codeAuth, text: "the authorization identity must be the user's own"}
		}
		user, password = username, pass
		return nil
	})
	var response []byte
	if hasInitial {
		var err error
		if response, err = decodeSASL(initial); err != nil {
			return err
		}
		defer clear(response)
	}
	challenge, done, err := plain.Next(response)
	for ; !done && err == nil; challenge, done, err = plain.Next(response) {
		if response, err = s.challenge(challenge); err != nil {
			return err
		}
		defer clear(response)
	}
	if err != nil {
		return saslFailure(s, err)
	}
	return s.logIn(user, password)
}

// saslFailure counts a failed exchange as a failed login.
func saslFailure(s *session, err error) error {
	s.failures++
	if f, ok := err.(*failure); ok {
		return f
	}
	return bad("malformed SASL response")
}

// challenge sends a challenge and reads the client's response, which is not nil.
func (s *session) challenge(challenge []byte) ([]byte, error) {
	s.conn.w.WriteString("+ ")
	s.conn.w.WriteString(base64.StdEncoding.EncodeToString(challenge))
	s.conn.w.WriteString("\r\n")
	line, err := s.conn.readLine(maxSASLLine, s.authDeadline)
	if err != nil {
		return nil, err
	}
	defer clear(line)
	if string(line) == "*" { // RFC 5034, 4
		return nil, bad("SASL exchange cancelled")
	}
	return decodeSASL(line)
}

// decodeSASL decodes a response; "=" stands for an empty one (RFC 5034, 4). The result is not nil.
func decodeSASL(text []byte) ([]byte, error) {
	if string(text) == "=" {
		return []byte{}, nil
	}
	response := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(response, text)
	if err != nil {
		clear(response)
		return nil, bad("malformed base64")
	}
	return response[:n], nil
}
