package pop3

import "strings"

// capa lists what the server can do (RFC 2449, 5), in the session's present state.
func (s *session) capa([]byte) error {
	s.ok("Capability list follows")
	for _, line := range s.capabilities() {
		s.conn.w.WriteString(line)
		s.conn.w.WriteString("\r\n")
	}
	s.conn.w.WriteString(".\r\n")
	return nil
}

func (s *session) capabilities() []string {
	list := []string{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"}
	if s.mayLogIn() {
		list = append(list, "USER", "SASL "+strings.Join(s.saslClient().Mechanisms(), " "))
	}
	if s.state == authorization && s.mayStartTLS() {
		list = append(list, "STLS")
	}
	if s.state == transaction { // RFC 2449, 6.9: not to be shown to strangers
		list = append(list, "IMPLEMENTATION Mailraft")
	}
	return list
}
