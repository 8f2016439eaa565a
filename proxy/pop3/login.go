package pop3

import (
	"context"
	"errors"
	"os"

	"mailraft/proxy"
	"mailraft/proxy/maildir"
	"mailraft/proxy/peer"
)

// userName takes the name to log in with (RFC 1939, 7). Every name is accepted: which ones exist is nobody's business.
func (s *session) userName(arg []byte) error {
	if !s.mayLogIn() {
		return plaintextRefused()
	}
	s.user = string(arg)
	s.ok("send PASS")
	return nil
}

// pass logs in. The whole rest of the line is the password, spaces and all (RFC 1939, 7).
func (s *session) pass(arg []byte) error {
	user := s.user
	s.user = ""
	if !s.mayLogIn() {
		return plaintextRefused()
	}
	if user == "" {
		return bad("send USER first")
	}
	credentials := proxy.Credentials{
		Username: user, Password: string(arg), Protocol: protocol, Remote: s.conn.raw.RemoteAddr(), TLS: s.tls != nil,
	}
	if !credentials.Plausible() {
		return s.loginFailed(proxy.ErrAuthentication)
	}
	return s.logIn(func(ctx context.Context) (proxy.Session, error) { return s.srv.logins.Login(ctx, credentials) })
}

// mayLogIn says whether the connection is safe enough for a password.
func (s *session) mayLogIn() bool {
	return s.tls != nil || s.srv.cfg.AllowPlaintextAuth || peer.IsLocal(s.conn.raw.RemoteAddr())
}

func plaintextRefused() *failure {
	return &failure{code: codeAuth, text: "use STLS first: no passwords over an unprotected connection", bad: true}
}

// protocol is ours in proxy.Credentials.
const protocol = "pop3"

// logIn opens the account, locks the maildrop and enters the TRANSACTION state, or says why not.
func (s *session) logIn(open func(context.Context) (proxy.Session, error)) error {
	ctx, cancel := context.WithTimeout(s.srv.ctx, s.srv.cfg.LoginTimeout)
	defer cancel()
	login, err := open(ctx)
	if err != nil {
		return s.loginFailed(err)
	}
	s.login = login
	mailbox := login.Mailbox()
	log := s.log.With("account", mailbox.Account, "tls", s.tls != nil)
	s.log, log = log, s.log
	if err := s.openDrop(mailbox); err != nil {
		s.closeDrop()
		s.log = log
		return err
	}
	s.state = transaction
	s.keep.start(s)
	s.log.Info("logged in", "messages", len(s.drop.messages))
	s.ok("maildrop ready")
	return nil
}

// loginFailed is the answer to a failed login. That to a wrong password comes late, and later each time.
func (s *session) loginFailed(err error) error {
	s.failures++
	if !errors.Is(err, proxy.ErrAuthentication) {
		s.log.Error("login could not be checked", "error", err)
		return &failure{code: codeSysTemp, text: "login is not possible now, try again later"}
	}
	s.log.Info("login failed", "failures", s.failures, "tls", s.tls != nil)
	if err := s.conn.w.Flush(); err != nil {
		return err
	}
	if !peer.HoldBack(s.srv.ctx.Done(), s.failures, s.srv.cfg.FailureDelay) {
		return errQuit
	}
	return &failure{code: codeAuth, text: "wrong user name or password"}
}

// openDrop locks the maildrop and takes its snapshot. After an error closeDrop lets go of what was had by then.
func (s *session) openDrop(mailbox proxy.Mailbox) error {
	leave, ok := s.srv.drops.enter(mailbox.Account)
	if !ok {
		return s.inUse()
	}
	s.leave = leave
	lock, err := lockDrop(mailbox.Home, s.srv.lockStale)
	switch {
	case errors.Is(err, errInUse):
		return s.inUse()
	case isFull(err): // deleting mail is the cure, and this is the way to do it: the lock holds in this process alone
		s.log.Warn("no room for the maildrop's lock file", "error", err)
	case err != nil:
		return s.fileProblem("the maildrop cannot be locked", err)
	}
	s.lock = lock
	s.drop, err = openMaildrop(mailbox.Home)
	switch {
	case errors.Is(err, maildir.ErrIndex):
		s.log.Error("the maildrop's index is malformed", "error", err)
		return &failure{code: codeSysPerm, text: "the maildrop cannot be opened"}
	case err != nil:
		return s.fileProblem("the maildrop cannot be opened", err)
	}
	return nil
}

func (s *session) inUse() *failure {
	s.failures++ // a login that does not log in
	s.log.Info("maildrop in use")
	return &failure{code: codeInUse, text: "the maildrop is in use by another session"}
}

// logOut ends the TRANSACTION state.
func (s *session) logOut() {
	s.keep.stop()
	s.closeDrop()
	s.state = authorization
	s.log.Info("logged out", "retrieved", s.retrieved, "octets", s.sent, "removed", s.removed)
}

// closeDrop lets go of the maildrop and the account, as far as they were had.
func (s *session) closeDrop() {
	if err := s.lock.unlock(); err != nil && !os.IsNotExist(err) {
		s.log.Warn("cannot remove the maildrop's lock file", "error", err)
	}
	if s.leave != nil {
		s.leave()
	}
	if err := s.login.Close(); err != nil {
		s.log.Warn("cannot end the login", "error", err)
	}
	s.lock, s.leave, s.login, s.drop = nil, nil, nil, nil
}
