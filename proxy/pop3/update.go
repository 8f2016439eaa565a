package pop3

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dele marks a message as deleted (RFC 1939, 5). It is removed by QUIT.
func (s *session) dele(arg []byte) error {
	n, m, err := s.message(arg)
	if err != nil {
		return err
	}
	m.deleted = true
	s.ok(fmt.Sprintf("message %d deleted", n))
	return nil
}

// rset takes all marks off (RFC 1939, 5).
func (s *session) rset([]byte) error {
	for i := range s.drop.messages {
		s.drop.messages[i].deleted = false
	}
	s.ok("nothing is marked as deleted")
	return nil
}

// noop does nothing, and keeps the session alive (RFC 1939, 5).
func (s *session) noop([]byte) error {
	s.ok("done")
	return nil
}

// quit ends the session; from the TRANSACTION state by way of UPDATE, where messages are removed (RFC 1939, 6). The maildrop is
// let go of before the answer: who has it may come again at once.
func (s *session) quit([]byte) error {
	if s.state == authorization {
		s.ok("bye")
		return errQuit
	}
	// A client that did not get the answers up to here is not one to delete messages for.
	if err := s.conn.w.Flush(); err != nil {
		return err
	}
	err := s.update()
	s.logOut()
	if err != nil {
		s.fail(&failure{text: err.Error()})
	} else {
		s.ok(fmt.Sprintf("bye, %d messages removed", s.removed))
	}
	return errQuit
}

// update removes what is marked as deleted, from wherever it is now. The error is for the client to see.
func (s *session) update() error {
	var marked []*message
	for i := range s.drop.messages {
		if m := &s.drop.messages[i]; m.deleted && !m.gone {
			marked = append(marked, m)
		}
	}
	if len(marked) == 0 {
		return nil
	}
	if err := s.lock.touch(); err != nil {
		s.log.Error("the maildrop's lock is lost", "error", err)
		return fmt.Errorf("the maildrop's lock is lost, nothing was removed")
	}
	failed, renamed := s.remove(marked)
	for range chases {
		if len(renamed) == 0 {
			break
		}
		if err := s.drop.refresh(); err != nil {
			s.log.Error("the maildrop cannot be read", "error", err)
			break
		}
		var again int
		again, renamed = s.remove(renamed)
		failed += again
	}
	if failed += len(renamed); failed > 0 {
		return fmt.Errorf("some deleted messages not removed: %d of %d", failed, len(marked))
	}
	return nil
}

// remove removes messages. It counts those that failed and returns those that were not where they had been seen last; what is
// gone needs no removing.
func (s *session) remove(messages []*message) (failed int, renamed []*message) {
	for _, m := range messages {
		if m.gone {
			continue
		}
		err := unlink(s.drop.path(m))
		switch {
		case err == nil:
			s.removed++
		case os.IsNotExist(err):
			renamed = append(renamed, m)
		default:
			failed++
			s.log.Error("a message cannot be removed", "uid", m.uid, "error", err)
		}
	}
	return failed, renamed
}

// unlink removes a file. os.Remove would ask the mount a second time, whether it is a directory.
func unlink(path string) error {
	for {
		err := unix.Unlink(path)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "unlink", Path: path, Err: err}
		}
		return nil
	}
}
