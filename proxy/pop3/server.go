package pop3

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"mailraft/proxy"
	"mailraft/proxy/peer"
)

// ErrServerClosed is what Serve and ServeTLS return after Shutdown.
var ErrServerClosed = errors.New("pop3: server closed")

// Server is a POP3 server. Its methods may be called by several goroutines at once.
type Server struct {
	cfg    Config
	logins proxy.Logins
	log    *slog.Logger
	limits *peer.Limiter
	drops  accountLocks

	lockRefresh time.Duration // how often a session says that its lock still holds
	lockStale   time.Duration // when a lock that nobody refreshed holds no more

	ctx  context.Context // ends with Shutdown
	stop context.CancelFunc

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	closed    bool
	running   sync.WaitGroup // one for each of conns
}

// New makes a server that checks passwords with logins.
func New(cfg Config, logins proxy.Logins) *Server {
	cfg = cfg.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	thisProcess() // for locks: the process may be confined from here on, and reach /proc no more
	return &Server{
		cfg:         cfg,
		logins:      logins,
		log:         cfg.Logger.With("protocol", "pop3"),
		limits:      peer.NewLimiter(cfg.MaxConnections, cfg.MaxConnectionsPerIP),
		lockRefresh: lockRefresh,
		lockStale:   lockStale,
		ctx:         ctx,
		stop:        stop,
		listeners:   make(map[net.Listener]struct{}),
		conns:       make(map[*conn]struct{}),
	}
}

// Serve serves plain connections, on which clients may start TLS (STLS). It closes the listener when it returns, which is with
// ErrServerClosed after Shutdown, or when accepting fails for good.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS serves connections that begin with TLS (RFC 8314, 3.3). It needs Config.TLSConfig, and returns as Serve does.
func (s *Server) ServeTLS(l net.Listener) error {
	if s.cfg.TLSConfig == nil {
		l.Close()
		return errors.New("pop3: no TLS configuration")
	}
	return s.serve(l, true)
}

func (s *Server) serve(l net.Listener, implicitTLS bool) error {
	defer l.Close()
	if !s.addListener(l) {
		return ErrServerClosed
	}
	defer s.removeListener(l)
	var pause time.Duration
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(nc, implicitTLS)
		case s.ctx.Err() != nil:
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of file descriptors, or the client is gone already: go on, not in a tight loop
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Warn("cannot accept a connection", "error", err, "pause", pause)
			if !s.wait(pause) {
				return ErrServerClosed
			}
		}
	}
}

// accept starts a session on a new connection, or turns it away.
func (s *Server) accept(nc net.Conn, implicitTLS bool) {
	leave, err := s.limits.Enter(nc.RemoteAddr())
	if err != nil {
		s.log.Warn("connection refused", "remote", remoteName(nc), "error", err)
		if !implicitTLS {
			nc.SetWriteDeadline(time.Now().Add(time.Second))
			nc.Write([]byte("-ERR [SYS/TEMP] " + err.Error() + "\r\n"))
		}
		nc.Close()
		return
	}
	c := newConn(nc, s.cfg.WriteTimeout)
	if !s.addConn(c) {
		leave()
		nc.Close()
		return
	}
	go func() {
		defer s.removeConn(c)
		defer leave()
		defer c.close()
		defer func() {
			if p := recover(); p != nil { // one client's bad luck must not be everybody's
				s.log.Error("panic", "remote", remoteName(nc), "panic", p, "stack", string(debug.Stack()))
			}
		}()
		s.handle(c, implicitTLS)
	}()
}

// handle runs a connection's session to its end.
func (s *Server) handle(c *conn, implicitTLS bool) {
	sess := newSession(s, c)
	defer sess.end()
	if implicitTLS {
		if err := sess.startTLS(); err != nil {
			sess.log.Info("TLS handshake failed", "error", err)
			return
		}
	}
	sess.serve()
}

// Shutdown stops accepting, lets commands that are being carried out end, and closes all connections; what sessions marked as
// deleted stays. When ctx ends before they have, it breaks their connections and returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.stop()
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.interrupt()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.raw.Close()
	}
	return ctx.Err()
}

// wait lets d pass; it returns false at once when the server is shut down.
func (s *Server) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) removeListener(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) addConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) removeConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.running.Done()
}

// remoteName is the client's address as the log shows it.
func remoteName(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
