package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// What a connection is for, as its ALPN protocol (RFC 7301) says.
const (
	protoRPC  = "h2" // gRPC between nodes
	protoRaft = "mailraft-raft/1"
	protoJoin = "mailraft-join/1" // gRPC with a machine that has no certificate yet
	protoPing = "mailraft-ping/1"
)

const (
	handshakeTime = 5 * time.Second
	maxHandshakes = 128 // at once, of one host; of all: four times as many
	maxJoining    = 4   // connections of machines that join, at once, of one host; of all: four times as many
	joinTime      = time.Minute
	joinOctets    = 64 << 10 // that a machine that joins may send, in all
)

// Member is what the cluster knows of a node.
type Member struct {
	Address string   // host:port of its port
	Key     [32]byte // SHA-256 of its public key; zeros: not known
	Removed bool     // it was one once
}

// Members tells who is a node of the cluster.
type Members interface {
	Member(node string) (m Member, known bool)
}

// Config says where a node's port is and who it belongs to.
type Config struct {
	Address  string // host:port to listen on
	Identity *Identity
	Members  Members
	Logger   *slog.Logger
}

// Transport is a node's port, and its connections to the ports of the others.
type Transport struct {
	cfg      Config
	log      *slog.Logger
	listener *net.TCPListener
	refusals refusals
	rpc      *queue
	join     *queue
	turns    turns // one a handshake
	joining  turns // one a machine that joins
	pinger   pinger
	joinLife time.Duration // joinTime, but in tests

	mu     sync.Mutex // held for a map operation
	groups map[string]*streams
	conns  map[net.Conn]string         // open ones, by the node at the other end; "" if it joins
	calls  map[string]*grpc.ClientConn // for gRPC, by the node
	tries  map[*try]struct{}           // dials that go on
	closed bool

	life  context.Context // ends with the transport
	die   context.CancelFunc
	dials sync.WaitGroup
	done  sync.WaitGroup
}

// Listen opens the port.
func Listen(cfg Config) (*Transport, error) {
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("the port for the other nodes: %w", err)
	}
	t := &Transport{
		cfg: cfg, log: cfg.Logger, listener: l.(*net.TCPListener), refusals: refusals{counts: map[Reason]uint64{}},
		turns: turns{each: maxHandshakes, of: map[string]int{}}, joining: turns{each: maxJoining, of: map[string]int{}},
		joinLife: joinTime, groups: map[string]*streams{}, conns: map[net.Conn]string{}, calls: map[string]*grpc.ClientConn{},
		tries: map[*try]struct{}{},
	}
	t.life, t.die = context.WithCancel(context.Background())
	t.rpc, t.join = newQueue(l.Addr()), newQueue(l.Addr())
	t.pinger.begin(t)
	t.done.Go(t.accept)
	return t, nil
}

// Address is where it listens: host:port.
func (t *Transport) Address() string { return t.listener.Addr().String() }

// GRPCListener has the connections of other nodes for a grpc.Server, which is made with ServerOptions.
func (t *Transport) GRPCListener() net.Listener { return t.rpc }

// JoinListener has the connections of machines that want to join, for a grpc.Server of its own, made with ServerOptions.
func (t *Transport) JoinListener() net.Listener { return t.join }

// Close closes the port and all connections.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	err := t.listener.Close()
	conns, calls, groups := maps.Clone(t.conns), t.calls, t.groups
	t.calls, t.groups = nil, nil
	t.mu.Unlock()
	for c := range conns { // each takes the lock
		c.Close()
	}
	for _, s := range groups {
		s.queue.Close()
	}
	for _, c := range calls {
		err = errors.Join(err, c.Close())
	}
	t.rpc.Close()
	t.join.Close()
	t.pinger.end()
	t.die()
	t.dials.Wait() // they ask Members, which may end as well now
	t.done.Wait()
	return err
}

// Disconnect closes all connections with a node, which was removed.
func (t *Transport) Disconnect(node string) {
	t.mu.Lock()
	var conns []net.Conn
	for c, n := range t.conns {
		if n == node {
			conns = append(conns, c)
		}
	}
	made := t.calls[node]
	delete(t.calls, node)
	t.mu.Unlock()
	for _, c := range conns { // each takes the lock
		c.Close()
	}
	if made != nil {
		made.Close()
	}
}

// keepPeer notes the connection with a node. It asks for the node once more: of one that was removed since its handshake looked,
// Disconnect did not find the connection.
func (t *Transport) keepPeer(p *peerConn, s *tls.Conn) error {
	if !t.keep(p, p.node) {
		return net.ErrClosed
	}
	if err := t.checkMember(p.node, s.ConnectionState().PeerCertificates[0]); err != nil {
		p.Close()
		return err
	}
	return nil
}

// keep notes an open connection; false: the transport is closed.
func (t *Transport) keep(c net.Conn, node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.conns[c] = node
	return true
}

func (t *Transport) forget(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

// checkPeer says why the other end is refused: nil when it is a node of the cluster. want is its name, "" for any.
func (t *Transport) checkPeer(s tls.ConnectionState, want string) (node string, err error) {
	if len(s.PeerCertificates) == 0 {
		return "", refused(NoCertificate, errors.New("it showed no certificate"))
	}
	leaf := s.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.cfg.Identity.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return "", refused(Expired, err)
		}
		return "", refused(Stranger, err)
	}
	if node, err = nodeOf(leaf); err != nil {
		return "", refused(Stranger, err)
	}
	if want != "" && node != want {
		return node, refused(WrongNode, fmt.Errorf("node %s answers where node %s should", node, want))
	}
	return node, t.checkMember(node, leaf)
}

// checkMember says why a node with that certificate is refused, by what the directory has of it.
func (t *Transport) checkMember(node string, leaf *x509.Certificate) error {
	// A name that is not known here is let in: it may have joined while this node was away, and perhaps it is the one that this node has to
	// hear that from.
	if m, known := t.cfg.Members.Member(node); known {
		switch {
		case m.Removed:
			return refused(Removed, fmt.Errorf("node %s was removed from the cluster", node))
		case m.Key != [32]byte{} && m.Key != sha256.Sum256(leaf.RawSubjectPublicKeyInfo):
			return refused(WrongKey, fmt.Errorf("node %s has another key than the cluster knows", node))
		}
	}
	return nil
}

// try is a dial that goes on.
type try struct {
	node string
	end  context.CancelFunc
}

// dial opens a connection to a node.
func (t *Transport) dial(ctx context.Context, node, proto string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	begun, this := time.Now(), &try{node, cancel}
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.dials.Add(1)
		t.tries[this] = struct{}{}
	}
	t.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	defer func() {
		t.mu.Lock()
		delete(t.tries, this)
		t.mu.Unlock()
		t.dials.Done()
	}()
	m, known := t.cfg.Members.Member(node)
	if !known || m.Address == "" {
		return nil, fmt.Errorf("node %s: its address is not known here", node)
	}
	if m.Removed {
		return nil, fmt.Errorf("node %s was removed from the cluster", node)
	}
	defer context.AfterFunc(t.life, cancel)()
	id := t.cfg.Identity
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{proto},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.current.Load(), nil },
		// checkPeer does what the standard check does, and looks for the node's name instead of a host's.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := t.checkPeer(s, node)
			return err
		},
	}}
	c, err := d.DialContext(ctx, "tcp", m.Address)
	var p *peerConn
	if err == nil {
		p = &peerConn{Conn: c, t: t, node: node, dialed: begun}
		if err = t.keepPeer(p, c.(*tls.Conn)); err != nil {
			c.Close()
		}
	}
	if err != nil {
		t.refuse(m.Address, err) // if it is a refusal
		return nil, fmt.Errorf("node %s at %s: %w", node, m.Address, err)
	}
	return p, nil
}

// mend has all who talk to a node that answers again connect to it anew. What was sent on a connection while the link was cut, TCP sends
// again only after a wait that has doubled each time, of as long as the cut was; and so it is with a dial whose handshake was cut
// through. What the other end has dialed it closes itself. since: when the connection that has shown the node to be up was begun.
func (t *Transport) mend(node string, since time.Time) {
	t.mu.Lock()
	for d := range t.tries {
		if d.node == node {
			d.end()
		}
	}
	var silent []net.Conn
	for c, n := range t.conns {
		if p, ok := c.(*peerConn); ok && n == node && !p.dialed.IsZero() && p.dialed.Before(since) {
			silent = append(silent, c)
		}
	}
	call := t.calls[node]
	t.mu.Unlock()
	for _, c := range silent { // each takes the lock
		c.Close()
	}
	if call != nil {
		call.ResetConnectBackoff() // else it waits for up to a second before it connects
	}
}

// peerConn is a connection whose other end is known.
type peerConn struct {
	net.Conn
	t      *Transport
	node   string    // "": a machine that joins
	dialed time.Time // when that began; zero: the other end did
	end    func()    // nil: nothing
	once   sync.Once
}

// Close implements net.Conn.
func (c *peerConn) Close() error {
	c.once.Do(func() {
		c.t.forget(c)
		if c.end != nil {
			c.end()
		}
	})
	return c.Conn.Close()
}
