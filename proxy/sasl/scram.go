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
	client  *Client
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
		if s.terms.Data, err = bindingData(s.client.TLS, s.terms.Binding); err != nil {
			return nil, true, err
		}
		if s.proof, err = s.client.Logins.Prove(s.ctx, s.terms); err != nil {
			return nil, true, err
		}
	}
	challenge, s.session, err = s.proof.Next(response)
	return challenge, s.session != nil, err
}

// What an exchange over a connection can be bound to.
const (
	tlsExporter = "tls-exporter" // RFC 9266, 2
	tlsUnique   = "tls-unique"   // RFC 5929, 3
)

// bindingOf is which of them the connection has; "": none.
func bindingOf(c *tls.ConnectionState) string {
	switch {
	case c == nil:
	case c.Version >= tls.VersionTLS13:
		return tlsExporter
	case len(c.TLSUnique) > 0:
		return tlsUnique
	}
	return ""
}

// bindingData is the data of that.
func bindingData(c *tls.ConnectionState, binding string) ([]byte, error) {
	switch binding {
	case tlsExporter:
		return c.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	case tlsUnique:
		return c.TLSUnique, nil
	}
	return nil, nil
}
