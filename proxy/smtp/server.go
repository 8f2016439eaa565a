package smtp

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"mailraft/proxy"
	"mailraft/proxy/peer"
)

// Server serves SMTP, LMTP or message submission on listeners that it is handed.
type Server struct {
	cfg        Config
	recipients proxy.Recipients

	context context.Context // done when look-ups must end
	cancel  context.CancelFunc
	closed  chan struct{} // closed when Shutdown begins
	serving sync.WaitGroup

	limits *peer.Limiter

	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*conn]bool
}

// New makes a server that delivers to the mailboxes that recipients answers.
func New(cfg Config, recipients proxy.Recipients) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	cfg = cfg.withDefaults()
	return &Server{
		cfg: cfg, recipients: recipients, limits: peer.NewLimiter(cfg.MaxConnections, cfg.MaxConnectionsPerIP),
		context: ctx, cancel: cancel, closed: make(chan struct{}),
		listeners: map[net.Listener]bool{}, conns: map[*conn]bool{},
	}
}

// Serve accepts connections from l, TCP or Unix, until Shutdown (then it returns nil) or an error that does not pass. It closes l.
func (s *Server) Serve(l net.Listener) error { return s.accept(l, false) }

// ServeTLS is Serve for connections that begin with a TLS handshake (RFC 8314, 3.3).
func (s *Server) ServeTLS(l net.Listener) error { return s.accept(l, true) }

func (s *Server) accept(l net.Listener, implicitTLS bool) error {
	defer l.Close()
	if !s.addListener(l) {
		return nil
	}
	pause := time.Duration(0)
	for {
		netConn, err := l.Accept()
		if err == nil {
			pause = 0
			s.start(netConn, implicitTLS)
			continue
		}
		if s.isClosed() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, or the like: others have to go first.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.cfg.Logger.Warn("cannot accept a connection", "error", err, "pause", pause)
		select {
		case <-s.closed:
		case <-time.After(pause):
		}
	}
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false
	}
	s.listeners[l] = true
	return true
}

func (s *Server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// start serves a connection in a goroutine of its own, unless there are too many.
func (s *Server) start(netConn net.Conn, implicitTLS bool) {
	c := newConn(s, netConn)
	leave, refusal := s.admit(c)
	if refusal != nil {
		if !implicitTLS { // where no line is understood, and a handshake is too much work
			netConn.SetWriteDeadline(time.Now().Add(time.Second)) // an empty socket takes a line at once
			netConn.Write(refusal.append(nil))
		}
		netConn.Close()
		return
	}
	go func() {
		defer s.serving.Done()
		defer s.forget(c)
		defer leave()
		c.serve(implicitTLS)
	}()
}

// admit counts a connection in and returns what counts it out of the limits, or says why not.
func (s *Server) admit(c *conn) (leave func(), refusal *reply) {
	leave, err := s.limits.Enter(c.remote)
	if err != nil {
		return nil, &reply{421, "4.7.0", s.cfg.Hostname + " has " + err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		leave()
		return nil, &reply{421, "4.3.2", s.cfg.Hostname + " is shutting down"}
	}
	s.conns[c] = true
	s.serving.Add(1)
	return leave, nil
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Shutdown stops accepting, says 421 to clients that are between commands, lets messages that are being received and stored
// come to their reply, and returns when all connections are closed. When ctx is done before, it breaks them and returns ctx's
// error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.isClosed() {
		close(s.closed)
	}
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.interrupt()
	}
	s.mu.Unlock()

	idle := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.breakOff()
	}
	return ctx.Err()
}
