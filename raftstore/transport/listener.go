package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"
)

// accept takes connections until the port is closed.
func (t *Transport) accept() {
	for {
		c, err := t.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is left, perhaps
			t.log.Warn("the port for the other nodes", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		host := hostOf(c)
		if !t.turns.take(host) {
			t.refuse(c.RemoteAddr().String(), refused(Busy, errors.New("too many connections begin at once")))
			c.Close()
			continue
		}
		if !t.keep(c, "") {
			c.Close()
			return
		}
		t.done.Go(func() {
			p, proto, err := t.welcome(c)
			t.forget(c)
			t.turns.give(host)
			if err != nil {
				t.refuse(c.RemoteAddr().String(), err)
				c.Close()
				return
			}
			t.route(p, proto)
		})
	}
}

// welcome finds out who has connected, and what for.
func (t *Transport) welcome(c net.Conn) (*peerConn, string, error) {
	id := t.cfg.Identity
	var node string
	base := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protoRPC, protoRaft, protoPing, protoJoin},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := *id.current.Load()
			cert.Certificate = append(cert.Certificate[:1:1], id.ca.Raw) // who joins knows the authority by its fingerprint alone
			return &cert, nil
		},
		SessionTicketsDisabled: true, // each connection is checked anew
		ClientAuth:             tls.RequestClientCert,
		VerifyConnection: func(s tls.ConnectionState) (err error) {
			switch s.NegotiatedProtocol {
			case protoJoin:
			case protoRPC, protoRaft, protoPing:
				node, err = t.checkPeer(s, "")
			default:
				err = refused(UnknownProtocol, errors.New("it did not say what it wants (ALPN)"))
			}
			return err
		},
	}
	s := tls.Server(c, base)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if err := s.HandshakeContext(ctx); err != nil {
		var r *refusal
		if !errors.As(err, &r) {
			err = refused(Handshake, err)
		}
		return nil, "", err
	}
	p := &peerConn{Conn: s, t: t, node: node}
	proto := s.ConnectionState().NegotiatedProtocol
	if proto != protoJoin {
		return p, proto, t.keepPeer(p, s)
	}
	host := hostOf(c)
	if !t.joining.take(host) {
		return nil, "", refused(Busy, errors.New("too many machines join at once"))
	}
	p.end = func() { t.joining.give(host) }
	if !t.keep(p, "") {
		t.joining.give(host)
		return nil, "", net.ErrClosed
	}
	return p, proto, nil
}

// route hands a connection to who serves it.
func (t *Transport) route(p *peerConn, proto string) {
	switch proto {
	case protoRPC:
		t.rpc.put(p)
	case protoRaft:
		t.routeRaft(p)
	case protoPing:
		t.pinger.answer(p)
	case protoJoin:
		t.join.put(newJoinConn(p, t.joinLife))
	}
}

// joinConn is a connection of a machine that joins, a stranger's perhaps: short and small. gRPC sets the deadlines of its connections
// itself, so one on the connection would not last.
type joinConn struct {
	*peerConn
	left int // octets that may come in
	late *time.Timer
}

func newJoinConn(p *peerConn, life time.Duration) *joinConn {
	return &joinConn{p, joinOctets, time.AfterFunc(life, func() { p.Close() })}
}

// Read implements net.Conn.
func (c *joinConn) Read(b []byte) (int, error) {
	if c.left == 0 {
		c.t.refuse(c.RemoteAddr().String(), refused(Busy, errors.New("a machine that joins sends too much")))
		c.Close()
		return 0, net.ErrClosed
	}
	n, err := c.peerConn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// Close implements net.Conn.
func (c *joinConn) Close() error {
	c.late.Stop()
	return c.peerConn.Close()
}

// turns bounds how much is under way at once: in all, and of each host, so that one that is silent on all its connections does not
// keep the nodes out.
type turns struct {
	each int // of a host; four times as many in all
	mu   sync.Mutex
	all  int
	of   map[string]int
}

func (t *turns) take(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= 4*t.each || t.of[host] >= t.each {
		return false
	}
	t.all++
	t.of[host]++
	return true
}

func (t *turns) give(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.of[host]--; t.of[host] == 0 {
		delete(t.of, host)
	}
}

func hostOf(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return host
}

// queue is a net.Listener of connections that were accepted elsewhere.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	end   chan struct{}
	once  sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), end: make(chan struct{})}
}

func (q *queue) put(c net.Conn) {
	late := time.NewTimer(handshakeTime)
	defer late.Stop()
	select {
	case q.conns <- c:
	case <-q.end:
		c.Close()
	case <-late.C: // nobody serves it yet
		c.Close()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.end:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.end) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }

// joinConfig is the TLS of a machine that knows its cluster by the authority's fingerprint, from a token.
func joinConfig(authority [32]byte) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protoJoin},
		InsecureSkipVerify: true, // there is no authority to trust yet but the one of that fingerprint
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, c := range s.PeerCertificates {
				if Fingerprint(c.Raw) != authority {
					continue
				}
				ca, err := parseAuthorityCertificate(c.Raw)
				if err != nil {
					return err
				}
				roots := x509.NewCertPool()
				roots.AddCert(ca)
				leaf := s.PeerCertificates[0]
				if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
					return err
				}
				_, err = nodeOf(leaf)
				return err
			}
			return errors.New("it is no node of the cluster that the token is for")
		},
	}
}
