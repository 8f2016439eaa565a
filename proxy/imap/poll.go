package imap

import (
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Poll tells the client what changed in the selected mailbox; the library calls it at the end of each command. Clients use NOOP
// and CHECK to ask, so these always look; for the others it is enough to look when the change feed says so.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil
	}
	switch s.conn.currentCommand() {
	case "NOOP", "CHECK":
		s.stale.Store(true)
	}
	return s.poll(w, allowExpunge)
}

// poll takes in changes, and tells of them. Called with mu held.
func (s *session) poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	if s.stale.Load() || !s.watching.Load() {
		if err := s.refresh(); err == errMailboxGone {
			return nil
		} else if err != nil {
			s.failed("read index", err) // for the log; the view stays as it is, and the next poll tries again
		}
	}
	return s.view.tell(w, allowExpunge)
}

// tell writes what the client does not know yet. It never tells of an expunge in answer to a command that goes by sequence
// numbers (RFC 9051, 7.5.1): then it is kept for the next time.
func (v *view) tell(w *imapserver.UpdateWriter, allowExpunge bool) error {
	if !v.news {
		return nil
	}
	v.news = false
	if allowExpunge {
		if err := v.expunge(w.WriteExpunge); err != nil {
			return err
		}
	}
	if v.told != len(v.messages) {
		v.told = len(v.messages)
		if err := w.WriteNumMessages(uint32(v.told)); err != nil {
			return err
		}
		if err := w.WriteNumRecent(v.recent()); err != nil {
			return err
		}
	}
	for i := range v.messages {
		m := &v.messages[i]
		if m.gone {
			v.news = true // for the next time
			continue
		}
		if !m.changed {
			continue
		}
		m.changed = false
		if err := w.WriteMessageFlags(uint32(i+1), imap.UID(m.UID), v.flagList(m)); err != nil {
			return err
		}
	}
	return nil
}

// expunge forgets the messages that are gone, and tells of those that the client knows, the last first, so that numbers told
// before stay true.
func (v *view) expunge(tell func(seqNum uint32) error) error {
	var err error
	kept, told := len(v.messages), 0
	for i := len(v.messages) - 1; i >= 0; i-- {
		if !v.messages[i].gone {
			continue
		}
		if i < v.told {
			told++
			if err == nil {
				err = tell(uint32(i + 1))
			}
		}
		kept--
	}
	if kept == len(v.messages) {
		return nil
	}
	left := v.messages[:0]
	for i := range v.messages {
		if !v.messages[i].gone {
			left = append(left, v.messages[i])
		}
	}
	clear(v.messages[len(left):])
	v.messages = left
	v.told -= told
	return err
}

func (v *view) recent() uint32 {
	n := uint32(0)
	for i := range v.messages {
		if v.messages[i].recent && !v.messages[i].gone {
			n++
		}
	}
	return n
}

// idleLook is how often an IDLE looks for changes when the change feed is silent, should it ever be wrong.
const idleLook = time.Minute

// Idle tells of changes as they happen, until stop is closed (RFC 9051, 6.3.13).
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.startWatching()
	tick := time.NewTicker(idleLook)
	defer tick.Stop()
	for {
		if err := s.idleOnce(w); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-s.ctx.Done():
			return nil
		case <-s.wake:
		case <-tick.C:
			s.stale.Store(true)
		}
	}
}

func (s *session) idleOnce(w *imapserver.UpdateWriter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil
	}
	if err := s.poll(w, true); err != nil {
		return err
	}
	return s.conn.flush()
}

func (s *session) startWatching() {
	s.watchOnce.Do(func() { close(s.watch) })
}
