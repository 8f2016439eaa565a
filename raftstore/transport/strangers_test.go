package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// eventually waits until it holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func (t *Transport) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// TestSilentStrangersHoldUpNoNode: another host has as many connections open as it may, and says nothing on them.
func TestSilentStrangersHoldUpNoNode(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range maxHandshakes + 10 {
		conn, err := d.Dial("tcp", b.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	eventually(t, 3*time.Second, "none was refused", func() bool { return b.Refusals()[Busy] > 0 })
	if err := c.reach(a, "b"); err != nil {
		t.Error(err)
	}
}

// TestAJoiningMachineIsCutOff: one that stays, and one that sends on and on, although gRPC serves both.
func TestAJoiningMachineIsCutOff(t *testing.T) {
	c := newCluster(t)
	b, _ := c.start(c.identity("b", time.Now()))
	b.joinLife = 300 * time.Millisecond
	join := func() *tls.Conn {
		conn, err := tls.Dial("tcp", b.Address(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoJoin}})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		// HTTP/2's preface and an empty SETTINGS: gRPC takes its deadline off the connection.
		if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	stays := join()
	defer stays.Close()
	if _, err := io.Copy(io.Discard, stays); isTimeout(err) {
		t.Error("a machine that joins may stay")
	}
	b.joinLife = time.Minute
	sends := join()
	defer sends.Close()
	go io.Copy(io.Discard, sends)
	frame := append([]byte("\x00\x10\x00\x0a\x00\x00\x00\x00\x00"), make([]byte, 4096)...) // of an unknown type: to be ignored
	for sent := 0; ; sent += len(frame) {
		if sent > 100*joinOctets {
			t.Fatal("a machine that joins may send", sent, "octets")
		}
		if _, err := sends.Write(frame); isTimeout(err) {
			t.Fatal(err)
		} else if err != nil {
			break
		}
	}
	eventually(t, 3*time.Second, "its connection is still kept", func() bool { return b.open() == 0 })
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// TestAClosedGroupKeepsNoStream: neither those that it opened nor those that came in; the other group's stay.
func TestAClosedGroupKeepsNoStream(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	open := func(tr *Transport, group string) raft.Transport {
		r, err := tr.Raft(group, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.(raft.WithClose).Close() })
		return r
	}
	ask := func(from, at raft.Transport) error {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case rpc := <-at.Consumer():
				rpc.Respond(&raft.RequestVoteResponse{}, nil)
			case <-stop:
			}
		}()
		return from.RequestVote("b", "b", &raft.RequestVoteRequest{Term: 7}, &raft.RequestVoteResponse{})
	}
	one, oneAtB := open(a, "shard-1"), open(b, "shard-1")
	two, twoAtB := open(a, "shard-2"), open(b, "shard-2")
	for _, of := range [][2]raft.Transport{{one, oneAtB}, {two, twoAtB}} {
		if err := ask(of[0], of[1]); err != nil {
			t.Fatal(err)
		}
	}
	one.(raft.WithClose).Close()
	eventually(t, 3*time.Second, "streams of the group that was closed stay", func() bool { return a.open() == 1 && b.open() == 1 })
	twoAtB.(raft.WithClose).Close()
	eventually(t, 3*time.Second, "a stream that came in stays", func() bool { return b.open() == 0 })
	ask(two, twoAtB) // finds out that its stream ended
	// The same groups open again.
	again := open(b, "shard-2")
	if err := ask(two, again); err != nil {
		t.Error(err)
	}
}

// lateRemoval removes the node right after it was asked for it once.
type lateRemoval struct {
	*members
	node  string
	mu    sync.Mutex
	asked bool
}

func (l *lateRemoval) Member(node string) (Member, bool) {
	m, known := l.members.Member(node)
	if node != l.node {
		return m, known
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m.Removed, l.asked = l.asked, true
	return m, known
}

// TestRemovedDuringItsHandshake: it was checked before the removal, and was not open yet when Disconnect looked.
func TestRemovedDuringItsHandshake(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	b.cfg.Members = &lateRemoval{members: c.members, node: "a"}
	if err := c.reach(a, "b"); err == nil {
		t.Error("a removed node was let in")
	}
}

// relay stands between two nodes, and can fall silent as a cut link does.
type relay struct {
	net.Listener
	mu    sync.Mutex // locked: silent
	conns []net.Conn

	taken   atomic.Int64 // connections
	lost    atomic.Int64 // how many of the first are silent, as TCP is for long after a cut
	greeted atomic.Int64 // ends of those that said something there, pings apart
}

// relayTo has the cluster's nodes reach one of them through a relay.
func (c *cluster) relayTo(node *Transport, name string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	r := &relay{Listener: l}
	var done sync.WaitGroup
	done.Go(func() { r.serve(node.Address()) })
	c.t.Cleanup(func() {
		l.Close()
		done.Wait()
	})
	m, _ := c.Member(name)
	m.Address = l.Addr().String()
	c.set(name, m)
	return r
}

func (r *relay) serve(to string) {
	var done sync.WaitGroup
	defer done.Wait()
	for {
		in, err := r.Accept()
		if err != nil {
			for _, c := range r.conns {
				c.Close()
			}
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		r.conns = append(r.conns, in, out)
		number := r.taken.Add(1)
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			done.Go(func() {
				defer way[1].Close()
				b := make([]byte, 4096)
				for {
					n, err := way[0].Read(b)
					r.mu.Lock()
					switch {
					case err != nil:
					case number > r.lost.Load():
						_, err = way[1].Write(b[:n])
					case !bytes.Contains(b[:n], []byte(protoPing)): // it is not sealed in a ClientHello
						r.greeted.Add(1)
					}
					r.mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
	}
}

// TestWatchSeesSilence: within about a second, with a link that is cut and takes new connections to nowhere, and up when it is mended.
func TestWatchSeesSilence(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	r := c.relayTo(b, "b")
	ups := make(chan bool, 10)
	a.Watch(func(_ string, up bool) { ups <- up })
	a.SetPeers([]string{"b"})
	if !<-ups {
		t.Fatal("down at first")
	}
	r.mu.Lock()
	began := time.Now()
	up := <-ups
	took := time.Since(began)
	r.mu.Unlock()
	if up || took > pingWait+time.Second {
		t.Errorf("silence: up %v, seen after %v", up, took)
	}
	began = time.Now()
	if !<-ups || time.Since(began) > 3*time.Second {
		t.Error("a mended link was up after", time.Since(began))
	}
	t.Log("silence seen after", took)
}

// TestAMendedLinkIsUsedAtOnce: what was open or dialed while it was cut is not waited for.
func TestAMendedLinkIsUsedAtOnce(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	b, _ := c.start(c.identity("b", time.Now()))
	r := c.relayTo(b, "b")
	open, err := a.dial(t.Context(), "b", protoRPC)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	ups := make(chan bool, 10)
	a.Watch(func(_ string, up bool) { ups <- up })
	a.SetPeers([]string{"b"})
	for !<-ups {
	}
	r.lost.Store(1 << 32)
	for <-ups {
	}
	r.greeted.Store(0)
	dialed := make(chan error)
	go func() {
		_, err := a.dial(t.Context(), "b", protoRPC)
		dialed <- err
	}()
	eventually(t, 5*time.Second, "the dial does not reach the relay", func() bool { return r.greeted.Load() > 0 })
	r.lost.Store(r.taken.Load())
	for !<-ups {
	}
	if err := <-dialed; !errors.Is(err, context.Canceled) {
		t.Error("the dial that was cut through ended with", err)
	}
	if _, err := open.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
		t.Error("the connection that is silent is used yet:", err)
	}
	if err := c.reach(a, "b"); err != nil {
		t.Error(err)
	}
	if !a.Up("b") {
		t.Error("the connection that has shown the node to be up was closed")
	}
}

// TestWatchSeesDeathAtOnce: not at the next ping alone.
func TestWatchSeesDeathAtOnce(t *testing.T) {
	c := newCluster(t)
	a, _ := c.start(c.identity("a", time.Now()))
	id := c.identity("b", time.Now())
	ups := make(chan bool, 10)
	a.Watch(func(_ string, up bool) { ups <- up })
	var took []time.Duration
	for i := range 5 {
		b, _ := c.start(id)
		if i == 0 {
			a.SetPeers([]string{"b"})
		}
		for !<-ups {
		}
		began := time.Now()
		b.Close()
		if <-ups {
			t.Fatal("up twice")
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Log(took)
	if took[2] > pingEvery/4 { // the middle one: the machine may be busy
		t.Error("deaths were seen after", took)
	}
}
