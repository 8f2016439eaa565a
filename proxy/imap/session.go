package imap

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy"
)

// session is a client that has logged in. The library calls one method at a time, except that an IDLE whose client has vanished
// may still be ending; mu keeps that apart from the rest.
type session struct {
	server   *Server
	conn     *conn
	login    proxy.Session
	home     string
	enclosed bool // proxy.Mailbox's
	log      *slog.Logger

	ctx    context.Context // ends with the session
	cancel context.CancelFunc
	ended  sync.WaitGroup // of follow

	mu   sync.Mutex
	view *view // the selected mailbox, nil for none

	watch     chan struct{} // closed: follow the change feed
	watchOnce sync.Once
	watching  atomic.Bool            // the feed tells of all changes
	folder    atomic.Pointer[string] // selected, nil for none
	stale     atomic.Bool            // the selected folder has changed since the view read its index
	wake      chan struct{}          // for IDLE: stale was set
}

func newSession(c *conn, login proxy.Session) *session {
	mailbox := login.Mailbox()
	s := &session{
		server:   c.server,
		conn:     c,
		login:    login,
		home:     mailbox.Home,
		enclosed: mailbox.Enclosed,
		log:      c.server.cfg.Logger.With("account", mailbox.Account, "remote", c.raw.RemoteAddr().String()),
		watch:    make(chan struct{}),
		wake:     make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(c.server.ctx)
	s.ended.Add(1)
	go s.follow(mailbox.Account)
	return s
}

// Close ends the session and locks the account again.
func (s *session) Close() error {
	s.cancel()
	s.ended.Wait()
	s.mu.Lock()
	s.view = nil
	s.mu.Unlock()
	s.log.Info("logout")
	return s.login.Close()
}

// Login is never called: the library gets sessions that have logged in.
func (s *session) Login(username, password string) error {
	return badCommand("Logged in already")
}

// AppendLimit implements imapserver.SessionAppendLimit.
func (s *session) AppendLimit() uint32 { return s.server.cfg.MaxAppend }

// Namespace tells of one personal namespace without a prefix (RFC 9051, 6.3.10).
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: delimiter}}}, nil
}

func (s *session) isSelected() bool { return s.folder.Load() != nil }

const feedRetry = time.Second

// follow waits for the node to end the session, and, from the first SELECT on, notes the changes of the selected folder.
func (s *session) follow(account string) {
	defer s.ended.Done()
	defer s.server.caught(func() { s.conn.endSoon("Internal error") })
	var feed <-chan proxy.Change
	watch := (<-chan struct{})(s.watch)
	var retry <-chan time.Time
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.login.Done():
			s.conn.endSoon("Session was ended by the server, log in again")
			<-s.ctx.Done()
			return
		case <-watch:
			watch = nil
		case <-retry:
			retry = nil
		case change, ok := <-feed:
			if !ok {
				s.watching.Store(false)
				feed, retry = nil, time.After(feedRetry)
			} else if folder := s.folder.Load(); folder != nil && (change.Folder == *folder || change.Folders) {
				s.markStale()
			}
			continue
		}
		var err error
		feed, err = s.server.changes.Watch(s.ctx, account)
		if err != nil {
			s.log.Debug("change feed", "err", err)
			feed, retry = nil, time.After(feedRetry)
		}
		s.markStale() // whatever was missed
		s.watching.Store(err == nil)
	}
}

func (s *session) markStale() {
	s.stale.Store(true)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
