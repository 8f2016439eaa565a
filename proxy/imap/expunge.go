package imap

import (
	"errors"
	"os"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Expunge removes the messages that are marked as deleted, of those in uids when that is given (RFC 9051, 6.4.3 and 6.4.9). The
// library calls it for CLOSE as well, after EXAMINE too, where nothing may be removed (RFC 9051, 6.4.1).
func (s *session) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view
	if v.readOnly {
		if s.conn.currentCommand() == "CLOSE" {
			return nil
		}
		return errReadOnly
	}
	if err := s.refresh(); err != nil { // somebody may have undeleted one
		if err == errMailboxGone {
			return nil
		}
		return s.failed("read index", err)
	}
	var among map[int]bool
	if uids != nil {
		among = make(map[int]bool)
		for _, i := range v.resolve(*uids) {
			among[i] = true
		}
	}
	var failure error
	for i := range v.told { // what the client has not seen it did not mean
		if m := &v.messages[i]; m.gone || m.flags&deleted == 0 || uids != nil && !among[i] {
			continue
		}
		if failure = s.over(); failure != nil {
			break
		}
		err := s.onFile(i, func(m *message) error {
			if m.flags&deleted == 0 {
				return nil // undeleted just now
			}
			if err := os.Remove(v.dir + "/" + m.Name); err != nil {
				return err
			}
			m.gone = true
			return nil
		})
		if err != nil && !errors.Is(err, errGone) {
			failure = s.failed("expunge", err)
			break
		}
	}
	if err := v.expunge(w.WriteExpunge); err != nil {
		return err
	}
	return failure
}
