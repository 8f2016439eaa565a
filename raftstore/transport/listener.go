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
		select {
		case t.turns <- struct{}{}:
		default:
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
			<-t.turns
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
	if !t.keep(p, node) {
		return nil, "", net.ErrClosed
	}
	return p, s.ConnectionState().NegotiatedProtocol, nil
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
		select {
		case t.joining <- struct{}{}:
			p.SetDeadline(time.Now().Add(joinTime))
			p.end = func() { <-t.joining }
			t.join.put(p)
		default:
			t.refuse(p.RemoteAddr().String(), refused(Busy, errors.New("too many machines join at once")))
			p.Close()
		}
	}
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
