package pop3

import (
	"os"
	"time"
)

// keeper keeps a logged-in session's lock, and ends the session when the lock or the login is lost.
type keeper struct {
	quit chan struct{}
	done chan struct{}
}

// start begins to keep the session s; stop ends it.
func (k *keeper) start(s *session) {
	k.quit, k.done = make(chan struct{}), make(chan struct{})
	lock, login := s.lock, s.login
	go func() {
		defer close(k.done)
		ticker := time.NewTicker(s.srv.lockRefresh)
		defer ticker.Stop()
		touched := time.Now()
		for {
			select {
			case <-k.quit:
				return
			case <-login.Done():
				s.log.Info("the node ended the login")
				s.conn.interrupt()
				return
			case <-ticker.C:
			}
			err := lock.touch()
			if err == nil {
				touched = time.Now()
				continue
			}
			s.log.Warn("cannot refresh the maildrop's lock", "error", err)
			if os.IsNotExist(err) || time.Since(touched) >= s.srv.lockStale-s.srv.lockRefresh {
				s.conn.interrupt()
				return
			}
		}
	}()
}

// stop returns when keeping has ended.
func (k *keeper) stop() {
	close(k.quit)
	<-k.done
}
