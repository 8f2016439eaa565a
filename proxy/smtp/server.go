package smtp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"mailraft/proxy"
)

// Server serves SMTP, or LMTP, on listeners that it is handed.
type Server struct {
	cfg        Config
	recipients proxy.Recipients

	context context.Context // done when look-ups must end
	cancel  context.CancelFunc
	closed  chan struct{} // closed when Shutdown begins
	serving sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	perPeer   map[netip.Prefix]int
}

// New makes a server that delivers to the mailboxes that recipients answers.
func New(cfg Config, recipients proxy.Recipients) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{
		cfg: cfg.withDefaults(), recipients: recipients,
		context: ctx, cancel: cancel, closed: make(chan struct{}),
		listeners: map[net.Listener]bool{}, conns: map[*conn]bool{}, perPeer: map[netip.Prefix]int{},
	}
}

// Serve accepts connections from l, TCP or Unix, until Shutdown (then it returns nil) or an error that does not pass. It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.addListener(l) {
		return nil
	}
	pause := time.Duration(0)
	for {
		netConn, err := l.Accept()
		if err == nil {
			pause = 0
			s.start(netConn)
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
func (s *Server) start(netConn net.Conn) {
	c := newConn(s, netConn)
	if refusal := s.admit(c); refusal != nil {
		netConn.SetWriteDeadline(time.Now().Add(time.Second)) // an empty socket takes a line at once
		netConn.Write(refusal.append(nil))
		netConn.Close()
		return
	}
	go func() {
		defer s.serving.Done()
		defer s.forget(c)
		c.serve()
	}()
}

// admit counts a connection in, or says why not.
func (s *Server) admit(c *conn) *reply {
	peer, limited := peerOf(c.remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.isClosed():
		return &reply{421, "4.3.2", s.cfg.Hostname + " is shutting down"}
	case len(s.conns) >= s.cfg.MaxConnections:
		return &reply{421, "4.7.0", s.cfg.Hostname + " has too many connections"}
	case limited && s.perPeer[peer] >= s.cfg.MaxConnectionsPerIP:
		return &reply{421, "4.7.0", s.cfg.Hostname + " has too many connections from your address"}
	}
	s.conns[c] = true
	if limited {
		s.perPeer[peer]++
	}
	s.serving.Add(1)
	return nil
}

func (s *Server) forget(c *conn) {
	peer, limited := peerOf(c.remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if !limited {
		return
	}
	if s.perPeer[peer]--; s.perPeer[peer] == 0 {
		delete(s.perPeer, peer)
	}
}

// peerOf is what counts as one client: an IPv4 address, an IPv6 /64. Loopback and Unix sockets have no limit of their own.
func peerOf(a net.Addr) (netip.Prefix, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if !ip.IsValid() || ip.IsLoopback() {
		return netip.Prefix{}, false
	}
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	return prefix, err == nil
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
