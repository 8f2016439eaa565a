package pop3

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"

	"mailraft/proxy"
	"mailraft/proxy/sasl"
)

// auth logs in by SASL (RFC 5034).
func (s *session) auth(arg []byte) error {
	mechanism, initial, hasInitial := bytes.Cut(arg, []byte(" "))
	ctx, cancel := context.WithDeadline(s.srv.ctx, s.authDeadline)
	defer cancel()
	exchange, err := s.saslClient().Begin(ctx, string(mechanism))
	if err != nil {
		return bad("unknown SASL mechanism")
	}
	if !s.mayLogIn() {
		return plaintextRefused()
	}
	var response []byte
	if hasInitial {
		if response, err = decodeSASL(initial); err != nil {
			return err
		}
	}
	switch err := exchange.Run(response, s.challenge); {
	case err == nil:
		return s.logIn(exchange.LogIn)
	case errors.Is(err, proxy.ErrAuthentication), errors.Is(err, proxy.ErrTemporary):
		return s.loginFailed(err)
	case errors.Is(err, sasl.ErrMalformed): // counts as a failed login
		s.failures++
		return bad("malformed SASL response")
	case errors.Is(err, sasl.ErrIdentity):
		s.failures++
		return &failure{code: codeAuth, text: "the authorization identity must be the user's own"}
	default:
		return err
	}
}

func (s *session) saslClient() *sasl.Client {
	return &sasl.Client{Logins: s.srv.logins, SCRAM: s.srv.cfg.SCRAM, Protocol: protocol, Remote: s.conn.raw.RemoteAddr(), TLS: s.tls}
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

// decodeSASL decodes a response; "=" stands for an empty one everywhere (RFC 5034, 4). The result is not nil.
func decodeSASL(text []byte) ([]byte, error) {
	response, err := sasl.DecodeInitial(text)
	if err != nil {
		return nil, bad("malformed base64")
	}
	return response, nil
}
