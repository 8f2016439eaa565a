package sasl

import (
	"context"
	"crypto/tls"

	"mailraft/proxy"
)

// The mechanisms by which a client proves that it knows the password (RFC 7677); with the second, that nobody stands between too.
const (
	scramSHA256     = "SCRAM-SHA-256"
	scramSHA256Plus = "SCRAM-SHA-256-PLUS"
)

// scram carries the messages between the client and the node, which checks them.
type scram struct {
	ctx     context.Context
	logins  proxy.Logins
	terms   proxy.ProofTerms
	proof   proxy.Proof // nil before the first message
	session proxy.Session
}

// Next implements sasl.Server.
func (s *scram) Next(response []byte) (challenge []byte, done bool, err error) {
	if s.proof == nil {
		if response == nil {
			return []byte{}, false, nil // the client begins (RFC 5802, 5)
		}
		if s.proof, err = s.logins.Prove(s.ctx, s.terms); err != nil {
			return nil, true, err
		}
	}
	challenge, s.session, err = s.proof.Next(response)
	return challenge, s.session != nil, err
}

// bindingOf is what an exchange over the connection can be bound to: "" and nothing when it can't.
func bindingOf(c *tls.ConnectionState) (name string, data []byte) {
	switch {
	case c == nil:
	case c.Version >= tls.VersionTLS13: // RFC 9266, 2
		if data, err := c.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err == nil {
			return "tls-exporter", data
		}
	case len(c.TLSUnique) > 0: // RFC 5929, 3
		return "tls-unique", c.TLSUnique
	}
	return "", nil
}
