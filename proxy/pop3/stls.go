package pop3

import "fmt"

// stls starts TLS (RFC 2595, 4).
func (s *session) stls([]byte) error {
	if s.tls != nil {
		return bad("TLS is active already")
	}
	if !s.mayStartTLS() {
		return bad("TLS is not available")
	}
	s.ok("begin TLS negotiation")
	if err := s.startTLS(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return nil
}

func (s *session) mayStartTLS() bool { return s.tls == nil && s.srv.cfg.TLSConfig != nil }

// startTLS protects the connection from here on. Nothing that was learned before it counts any more; execute has forgotten the
// user's name already.
func (s *session) startTLS() (err error) {
	s.tls, err = s.conn.startTLS(s.srv.ctx, s.srv.cfg.TLSConfig, s.authDeadline)
	return err
}
