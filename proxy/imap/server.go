package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2/imapserver"

	"mailraft/proxy"
	"mailraft/proxy/maildir"
	"mailraft/proxy/peer"
)

// Server is an IMAP server.
type Server struct {
	cfg     Config
	logins  proxy.Logins
	changes proxy.Changes
	limits  *peer.Limiter

	// readIndex reads a folder's index since a MODSEQ, or all of it for 0. Tests on plain directories keep one themselves.
	readIndex func(dir string, since uint64) (*maildir.Index, error)

	library  *imapserver.Server
	loggedIn handover

	ctx    context.Context // ends with the server
	cancel context.CancelFunc

	stopping chan struct{} // closed when Shutdown begins

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]func() // with what counts each out of the limits
	active    sync.WaitGroup   // connections, listeners and the library's loop
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("imap: server closed")

// New returns a server that checks logins with logins, and learns of changes from changes.
func New(cfg Config, logins proxy.Logins, changes proxy.Changes) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		cfg:       cfg,
		limits:    peer.NewLimiter(cfg.MaxConnections, cfg.MaxConnectionsPerIP),
		logins:    logins,
		changes:   changes,
		readIndex: readIndex,
		loggedIn:  handover{conns: make(chan net.Conn), done: make(chan struct{})},
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]func()),
	}
	s.stopping = make(chan struct{})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.library = imapserver.New(&imapserver.Options{
		NewSession: func(lc *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			c := lc.NetConn().(*conn)
			return c.session, &imapserver.GreetingData{PreAuth: true}, nil
		},
		Caps:         libraryCaps,
		Logger:       libraryLog{s.cfg.Logger},
		InsecureAuth: true, // nobody logs in there
	})
	s.active.Add(1)
	go func() {
		defer s.active.Done()
		s.library.Serve(&s.loggedIn)
	}()
	return s
}

func readIndex(dir string, since uint64) (*maildir.Index, error) {
	if since == 0 {
		return maildir.ReadIndex(dir)
	}
	return maildir.ReadIndexSince(dir, since)
}

// Serve accepts clients that may start TLS with STARTTLS. It returns ErrServerClosed after Shutdown.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS accepts clients that speak TLS from the first byte (RFC 8314, 3.2).
func (s *Server) ServeTLS(l net.Listener) error {
	if s.cfg.TLSConfig == nil {
		return errors.New("imap: ServeTLS needs a TLSConfig")
	}
	return s.serve(l, true)
}

func (s *Server) serve(l net.Listener, implicitTLS bool) error {
	s.mu.Lock()
	if s.isStopping() {
		s.mu.Unlock()
		l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.active.Add(1)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		s.active.Done()
	}()

	for {
		raw, err := l.Accept()
		if err != nil {
			if s.isStopping() {
				return ErrServerClosed
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || isFileLimit(err) {
				s.cfg.Logger.Warn("accept", "err", err)
				select {
				case <-time.After(100 * time.Millisecond):
				case <-s.ctx.Done():
				}
				continue
			}
			return fmt.Errorf("imap: accept: %w", err)
		}
		go s.welcome(raw, implicitTLS)
	}
}

// welcome serves one connection up to its login.
func (s *Server) welcome(raw net.Conn, implicitTLS bool) {
	c := newConn(s, raw)
	defer s.caught(func() { // one client's bad luck must not be everybody's
		if c.session != nil {
			c.session.Close()
		}
		c.Close()
	})
	if reason := s.remember(c); reason != "" {
		if !implicitTLS {
			c.end("UNAVAILABLE", reason)
		}
		raw.Close()
		return
	}
	if err := c.serveStranger(implicitTLS); err != nil {
		if !errors.Is(err, io.EOF) {
			s.cfg.Logger.Debug("connection ended", "remote", raw.RemoteAddr().String(), "err", err)
		}
		c.Close()
		return
	}
	if !s.loggedIn.pass(c) {
		c.session.Close()
		c.Close()
	}
}

// caught logs a panic of the goroutine that defers it, and cleans up behind it.
func (s *Server) caught(cleanUp func()) {
	if cause := recover(); cause != nil {
		s.cfg.Logger.Error("panic", "cause", cause, "stack", string(debug.Stack()))
		cleanUp()
	}
}

// remember counts a connection in, or says why it cannot be.
func (s *Server) remember(c *conn) (refusal string) {
	leave, err := s.limits.Enter(c.raw.RemoteAddr())
	if err != nil {
		return strings.ToUpper(err.Error()[:1]) + err.Error()[1:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isStopping() {
		leave()
		return "Server is shutting down"
	}
	s.conns[c] = leave
	s.active.Add(1)
	return ""
}

// makeRoom counts a connection out of the limits: before it is closed, so that who sees it closed may come again.
func (s *Server) makeRoom(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if leave := s.conns[c]; leave != nil {
		leave()
		s.conns[c] = nil
	}
}

// forget drops a connection that has been closed.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; ok {
		delete(s.conns, c)
		s.active.Done()
	}
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// Shutdown stops accepting, lets commands that are under way end, says BYE, and waits until all connections are closed. When ctx
// is done first, it closes them as they are, and returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.isStopping()
	if first {
		close(s.stopping)
	}
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.endSoon("Server is shutting down")
	}
	s.mu.Unlock()

	if first {
		go func() {
			s.eachGone(ctx)
			s.cancel()
			s.loggedIn.Close()
		}()
	}
	done := make(chan struct{})
	go func() {
		s.active.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.raw.Close()
	}
	s.mu.Unlock()
	return ctx.Err()
}

// eachGone waits until there are no connections, or ctx is done.
func (s *Server) eachGone(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// handover is the listener from which the library accepts the connections that have logged in.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// pass gives the library a connection, unless it accepts no more.
func (h *handover) pass(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return &net.UnixAddr{Name: "handover", Net: "unix"} }

// libraryLog takes the library's messages. They can hold parts of a client's command, so only debugging shows them, but for
// panics, which are bugs.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, args ...any) {
	level := slog.LevelDebug
	if len(format) > 5 && format[:5] == "panic" {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, fmt.Sprintf(format, args...))
}

var _ imapserver.SessionIMAP4rev2 = (*session)(nil)
var _ imapserver.SessionAppendLimit = (*session)(nil)
