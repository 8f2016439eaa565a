package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	raftPool    = 3                // idle connections a peer and group
	raftTimeout = 10 * time.Second // of a message and its answer
	maxGroup    = 64               // octets of a group's name
)

// Raft makes the raft.Transport of a group. Its server addresses are nodes' names.
func (t *Transport) Raft(group string, log hclog.Logger) (raft.Transport, error) {
	if group == "" || len(group) > maxGroup {
		return nil, fmt.Errorf("group %.80q: a name has 1 to %d octets", group, maxGroup)
	}
	s := &streams{queue: newQueue(name(t.cfg.Identity.Name())), t: t, group: group, open: map[*stream]struct{}{}}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, net.ErrClosed
	}
	if t.groups[group] != nil {
		t.mu.Unlock()
		return nil, fmt.Errorf("group %s has a transport already", group)
	}
	t.groups[group] = s
	t.mu.Unlock()
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: raftPool, Timeout: raftTimeout, Logger: log,
	}), nil
}

// name is a node's name as a net.Addr.
type name string

func (name) Network() string  { return "node" }
func (n name) String() string { return string(n) }

// streams is the raft.StreamLayer of a group.
type streams struct {
	*queue
	t     *Transport
	group string

	mu     sync.Mutex // held for a map operation
	closed bool
	open   map[*stream]struct{}
}

// stream is a connection of the group, which ends with it: the NetworkTransport keeps what came in, and what it has in its pool.
type stream struct {
	net.Conn
	of *streams
}

// Read implements net.Conn. That this side closed, or the peer died, is the end of the stream: Raft logs everything else as an error.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.of.mu.Lock()
	delete(s.of.open, s)
	s.of.mu.Unlock()
	return s.Conn.Close()
}

// add notes a connection of the group; false: the group is closed, and so is the connection now.
func (s *streams) add(c net.Conn) (*stream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return nil, false
	}
	made := &stream{c, s}
	s.open[made] = struct{}{}
	return made, true
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := s.t.dial(ctx, string(node), protoRaft)
	if err != nil {
		return nil, err
	}
	c.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := c.Write(append([]byte{byte(len(s.group))}, s.group...)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.SetWriteDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	made, ok := s.add(c)
	if !ok {
		return nil, net.ErrClosed
	}
	return made, nil
}

// Close implements net.Listener: the group's part of the port ends.
func (s *streams) Close() error {
	s.t.mu.Lock()
	if s.t.groups[s.group] == s {
		delete(s.t.groups, s.group)
	}
	s.t.mu.Unlock()
	s.mu.Lock()
	s.closed = true
	open := maps.Clone(s.open)
	s.mu.Unlock()
	for c := range open { // each takes the lock
		c.Close()
	}
	return s.queue.Close()
}

// routeRaft hands the connection to its group. One that has no replica here hears so by the end of the connection.
func (t *Transport) routeRaft(p *peerConn) {
	p.SetReadDeadline(time.Now().Add(handshakeTime))
	group, err := readGroup(p)
	p.SetReadDeadline(time.Time{})
	t.mu.Lock()
	s := t.groups[group]
	t.mu.Unlock()
	if err != nil || s == nil {
		t.log.Debug("a Raft connection for a group that is not here", "node", p.node, "group", group, "error", err)
		p.Close()
		return
	}
	if made, ok := s.add(p); ok {
		s.put(made)
	}
}

// readGroup reads what Dial wrote: a length, 1 to 64, and the group's name.
func readGroup(r io.Reader) (string, error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	if head[0] == 0 || head[0] > maxGroup {
		return "", fmt.Errorf("name of a group of %d octets", head[0])
	}
	b := make([]byte, head[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}
