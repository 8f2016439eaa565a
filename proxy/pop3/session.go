package pop3

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"mailraft/proxy"
)

// state is where a session stands (RFC 1939, 3). The UPDATE state has no commands: it is the end of QUIT.
type state int

const (
	authorization state = iota
	transaction
)

// session is one client's dialogue. Its commands are methods that return nil when they have answered, a *failure for a negative
// answer, and any other error to end the connection.
type session struct {
	srv  *Server
	conn *conn
	log  *slog.Logger

	state        state
	tls          *tls.ConnectionState // nil: none
	authDeadline time.Time
	user         string // named by USER, until the next command
	badCommands  int
	failures     int // failed logins

	// From login to logout.
	login proxy.Session
	drop  *maildrop
	lock  *dropLock
	leave func() // lets go of the account in this process
	keep  keeper

	retrieved int // messages sent whole
	sent      int64
	removed   int
}

func newSession(srv *Server, c *conn) *session {
	return &session{
		srv:          srv,
		conn:         c,
		log:          srv.log.With("remote", remoteName(c.raw)),
		authDeadline: time.Now().Add(srv.cfg.AuthTimeout),
	}
}

// command is what a keyword stands for.
type command struct {
	run    func(s *session, arg []byte) error
	in     []state
	minArg int // arguments needed: 0 or 1
	maxArg int // arguments taken: 0, 1, or anyArg
}

// anyArg is for commands that take all the rest of the line.
const anyArg = 99

var (
	inAuthorization = []state{authorization}
	inTransaction   = []state{transaction}
	inBoth          = []state{authorization, transaction}
)

// commands are all that the server knows, by keyword in upper case.
var commands = map[string]command{
	"CAPA": {run: (*session).capa, in: inBoth},
	"QUIT": {run: (*session).quit, in: inBoth},

	"USER": {run: (*session).userName, in: inAuthorization, minArg: 1, maxArg: anyArg},
	"PASS": {run: (*session).pass, in: inAuthorization, minArg: 1, maxArg: anyArg},
	"AUTH": {run: (*session).auth, in: inAuthorization, minArg: 1, maxArg: 2},
	"STLS": {run: (*session).stls, in: inAuthorization},

	"STAT": {run: (*session).stat, in: inTransaction},
	"LIST": {run: (*session).list, in: inTransaction, maxArg: 1},
	"UIDL": {run: (*session).uidl, in: inTransaction, maxArg: 1},
	"RETR": {run: (*session).retr, in: inTransaction, minArg: 1, maxArg: 1},
	"TOP":  {run: (*session).top, in: inTransaction, minArg: 2, maxArg: 2},
	"DELE": {run: (*session).dele, in: inTransaction, minArg: 1, maxArg: 1},
	"RSET": {run: (*session).rset, in: inTransaction},
	"NOOP": {run: (*session).noop, in: inTransaction},
}

var (
	// errQuit ends a session whose last answer has been given.
	errQuit = errors.New("quit")
	// errInterrupted ends a session that was shut down, or that has lost its login or lock.
	errInterrupted = errors.New("interrupted")
)

// serve greets the client and carries out its commands until one of them ends the session. The greeting has no "<...>", which
// would offer APOP.
func (s *session) serve() {
	s.ok(s.srv.cfg.Hostname + " POP3 server ready")
	for {
		err := s.next()
		if err == nil {
			continue
		}
		if !errors.Is(err, errQuit) {
			s.log.Debug("connection ended", "error", err)
		}
		return
	}
}

// next reads and carries out one command. An error ends the session.
func (s *session) next() error {
	line, err := s.conn.readLine(maxCommandLine, s.deadline())
	if s.conn.isInterrupted() {
		clear(line)
		return errInterrupted
	}
	if err == nil {
		var buf [maxCommandLine]byte // line is valid only until more is read, and SASL does
		n := copy(buf[:], line)
		clear(line) // it may be a password
		err = s.execute(buf[:n])
		clear(buf[:n])
	}
	if errors.Is(err, errLineTooLong) {
		err = bad("line too long")
	}
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	s.fail(f)
	if f.bad {
		if s.badCommands++; s.badCommands >= s.srv.cfg.MaxBadCommands {
			s.log.Info("too many bad commands", "count", s.badCommands)
			return errQuit
		}
	}
	if s.state == authorization && s.failures >= s.srv.cfg.MaxLoginFailures {
		return errQuit
	}
	return nil
}

// deadline is when the next command has to be there. A client that is late is dropped without a word (RFC 1939, 3).
func (s *session) deadline() time.Time {
	if s.state == authorization {
		return s.authDeadline
	}
	return time.Now().Add(s.srv.cfg.InactivityTimeout)
}

// execute carries out one command line.
func (s *session) execute(line []byte) error {
	keyword, arg, _ := bytes.Cut(line, []byte(" "))
	if len(keyword) > 4 { // none is longer, and what is longer may be a password
		return bad("unknown command")
	}
	name := string(bytes.ToUpper(keyword))
	user := s.user
	s.user = ""
	cmd, ok := commands[name]
	if !ok {
		return bad("unknown command")
	}
	if !slices.Contains(cmd.in, s.state) {
		if s.state == authorization {
			return bad("log in first")
		}
		return bad("already logged in")
	}
	if cmd.maxArg != anyArg {
		arg = bytes.TrimRight(arg, " ")
	}
	if n := countArgs(arg); n < cmd.minArg || n > cmd.maxArg {
		return bad("wrong number of arguments")
	}
	if name == "PASS" { // RFC 1939, 7: only immediately after USER
		s.user = user
	}
	return cmd.run(s, arg)
}

// countArgs counts what single spaces separate.
func countArgs(arg []byte) int {
	if len(arg) == 0 {
		return 0
	}
	return 1 + bytes.Count(arg, []byte(" "))
}

// end lets go of what the session has, whichever way it ended. It removes no messages.
func (s *session) end() {
	switch {
	case s.state == transaction:
		s.logOut()
	case s.login != nil: // a panic on the way in
		s.closeDrop()
	}
}

// fileProblem turns an error of the mount into an answer, and logs it.
func (s *session) fileProblem(what string, err error) error {
	s.log.Error(what, "error", err)
	if os.IsPermission(err) {
		return &failure{code: codeSysPerm, text: what}
	}
	return &failure{code: codeSysTemp, text: what}
}
