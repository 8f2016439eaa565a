package smtp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// pipeConn is a server's end of a net.Pipe that comes from a TCP address.
type pipeConn struct {
	net.Conn
	remote net.Addr
}

func (p pipeConn) RemoteAddr() net.Addr { return p.remote }

// pipe connects a client to s, inside of the process.
func pipe(t testing.TB, s *Server, from string) *client {
	server, cl := net.Pipe()
	t.Cleanup(func() { cl.Close() })
	go s.start(pipeConn{server, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}, false)
	return &client{t, cl, bufio.NewReader(cl)}
}

func TestConnectionLimits(t *testing.T) {
	s := New(Config{MaxConnections: 4, MaxConnectionsPerIP: 2}, newHouse(t))
	t.Cleanup(func() { s.Shutdown(context.Background()) }) // behind the closing of the clients
	first := pipe(t, s, "192.0.2.1:1000")
	first.expect("220 ")
	pipe(t, s, "192.0.2.1:1001").expect("220 ")
	pipe(t, s, "192.0.2.1:1002").expect("421 4.7.0")
	pipe(t, s, "192.0.2.2:1000").expect("220 ")
	first.dialogue("C: QUIT\nS: 221")
	first.expectEnd()

	s = New(Config{MaxConnections: 5, MaxConnectionsPerIP: 1}, newHouse(t))
	t.Cleanup(func() { s.Shutdown(context.Background()) }) // behind the closing of the clients
	pipe(t, s, "[2001:db8::1]:1000").expect("220 ")
	pipe(t, s, "[2001:db8::2:1]:1000").expect("421 4.7.0") // the same /64
	pipe(t, s, "[2001:db8:0:1::1]:1000").expect("220 ")
	pipe(t, s, "127.0.0.1:1000").expect("220 ")
	pipe(t, s, "127.0.0.1:1001").expect("220 ") // loopback has no limit of its own
	pipe(t, s, "[::1]:1001").expect("220 ")
	last := pipe(t, s, "127.0.0.1:1002")
	last.expect("421 4.7.0")
	last.expectEnd()
}

// A connection that ends makes room.
func TestConnectionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{MaxConnections: 1, MaxConnectionsPerIP: 1, Hostname: "mx"}, nil)
		for range 3 {
			c := pipe(t, s, "192.0.2.1:1000")
			c.expect("220 ")
			c.dialogue("C: QUIT\nS: 221")
			c.expectEnd()
			synctest.Wait()
		}
		if len(s.conns) != 0 {
			t.Errorf("%v", s.conns)
		}
		s.Shutdown(t.Context())
	})
}

// Times are those of a fake clock.
func TestTimeouts(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	cfg := Config{CommandTimeout: time.Minute, DataTimeout: 2 * time.Minute, MessageTimeout: 10 * time.Minute, Hostname: "mx"}
	for name, test := range map[string]func(t *testing.T, c *client){
		"no command": func(t *testing.T, c *client) {
			c.expect("220 ", "421 4.4.2")
		},
		"dripping command": func(t *testing.T, c *client) {
			c.expect("220 ")
			c.send("NO")
			<-time.After(50 * time.Second)
			c.send("OP")
			c.expect("421 4.4.2")
		},
		"no data": func(t *testing.T, c *client) {
			c.expect("220 ")
			c.dialogue("C: EHLO a\nS: 250-\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250\nC: DATA\nS: 354")
			c.expect("421 4.4.2")
		},
		"dripping data": func(t *testing.T, c *client) {
			c.expect("220 ")
			c.dialogue("C: EHLO a\nS: 250-\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250\nC: DATA\nS: 354")
			for range 6 { // longer than a single DataTimeout
				<-time.After(90 * time.Second)
				c.send("x")
			}
			c.expect("421 4.4.2") // MessageTimeout
		},
		"dripping chunk": func(t *testing.T, c *client) {
			c.expect("220 ")
			c.dialogue("C: EHLO a\nS: 250-\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250\nC: BDAT 20 LAST")
			c.send("NOOP\r\n")
			c.expect("421 4.4.2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(cfg, h)
				c := pipe(t, s, "192.0.2.1:1000")
				test(t, c)
				c.expectEnd()
				s.Shutdown(t.Context())
			})
		})
	}
	h.wantBodies(t, "alice@example.org")
}

// A client that takes no replies does not hold its connection for ever.
func TestReplyTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{ReplyTimeout: time.Minute, Hostname: "mx"}, nil)
		server, cl := net.Pipe()
		begun := time.Now()
		s.start(pipeConn{server, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}}, false)
		s.serving.Wait()
		if took := time.Since(begun); took > 2*time.Minute {
			t.Errorf("took %v", took)
		}
		if _, err := cl.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
		s.Shutdown(t.Context())
	})
}
