package pop3

import (
	"strconv"
)

// stat tells how many messages there are and their size (RFC 1939, 5). Those marked as deleted do not count.
func (s *session) stat([]byte) error {
	count, octets := 0, int64(0)
	for i := range s.drop.messages {
		m := &s.drop.messages[i]
		if m.deleted {
			continue
		}
		size, err := s.octets(m)
		if err != nil {
			return err
		}
		count++
		octets += size
	}
	s.ok(strconv.Itoa(count) + " " + strconv.FormatInt(octets, 10))
	return nil
}

// list tells the sizes of all messages, or of one (RFC 1939, 5).
func (s *session) list(arg []byte) error {
	return s.listing(arg, func(b []byte, m *message) ([]byte, error) {
		size, err := s.octets(m)
		return strconv.AppendInt(b, size, 10), err
	})
}

// uidl tells the unique ids of all messages, or of one (RFC 1939, 7). They have at most 21 characters of the 70 allowed.
func (s *session) uidl(arg []byte) error {
	return s.listing(arg, func(b []byte, m *message) ([]byte, error) {
		b = strconv.AppendUint(b, uint64(s.drop.uidValidity), 10)
		b = append(b, '.')
		return strconv.AppendUint(b, uint64(m.uid), 10), nil
	})
}

// listing answers with a line for the message that arg names, or for each one: its number and what column appends.
func (s *session) listing(arg []byte, column func(b []byte, m *message) ([]byte, error)) error {
	var line [64]byte
	if len(arg) > 0 {
		n, m, err := s.message(arg)
		if err != nil {
			return err
		}
		b, err := column(append(strconv.AppendInt(line[:0], int64(n), 10), ' '), m)
		if err != nil {
			return err
		}
		s.ok(string(b))
		return nil
	}
	s.ok("listing follows")
	for i := range s.drop.messages {
		m := &s.drop.messages[i]
		if m.deleted {
			continue
		}
		b, err := column(append(strconv.AppendInt(line[:0], int64(i+1), 10), ' '), m)
		if err != nil {
			return err
		}
		if _, err := s.conn.w.Write(append(b, '\r', '\n')); err != nil {
			return err
		}
	}
	s.conn.w.WriteString(".\r\n")
	return nil
}

// octets returns a message's size; what goes wrong is logged and does not matter to the client. Its error ends the connection.
func (s *session) octets(m *message) (int64, error) {
	if m.size >= 0 {
		return m.size, nil
	}
	if s.conn.isInterrupted() { // there may be many files to read
		return 0, errInterrupted
	}
	size, err := s.drop.octets(m)
	if err != nil {
		s.log.Warn("cannot tell a message's size", "uid", m.uid, "error", err)
	}
	return size, nil
}

// message returns the message of a number, which must not be marked as deleted.
func (s *session) message(arg []byte) (int, *message, error) {
	n, err := parseNumber(arg)
	if err != nil {
		return 0, nil, err
	}
	if n < 1 || n > len(s.drop.messages) {
		return 0, nil, &failure{text: "no such message"}
	}
	m := &s.drop.messages[n-1]
	if m.deleted {
		return 0, nil, &failure{text: "the message is deleted already"}
	}
	return n, m, nil
}

// parseNumber reads a decimal number without sign.
func parseNumber(arg []byte) (int, error) {
	n, err := strconv.ParseUint(string(arg), 10, 31)
	if err != nil {
		return 0, bad("malformed number")
	}
	return int(n), nil
}
