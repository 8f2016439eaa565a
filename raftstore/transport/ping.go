package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A node pings each other node over a connection of its own: that of a process that died ends at once, and one that is cut falls
// silent. All the groups of a node learn of its death by this, and can do with slow heartbeats.
const (
	pingEvery = 250 * time.Millisecond
	pingWait  = time.Second // for an answer
)

// pinger tells which peers are up.
type pinger struct {
	t    *Transport
	stop context.CancelFunc
	life context.Context
	done sync.WaitGroup

	mu       sync.Mutex // held for a map operation
	peers    map[string]context.CancelFunc
	up       map[string]bool
	watchers []func(node string, up bool)
}

func (p *pinger) begin(t *Transport) {
	p.t = t
	p.life, p.stop = context.WithCancel(context.Background())
	p.peers, p.up = map[string]context.CancelFunc{}, map[string]bool{}
}

func (p *pinger) end() {
	p.stop()
	p.done.Wait()
}

// Watch has fn called, for as long as the transport is open, when a peer is found to be up or down. fn must only take note.
func (t *Transport) Watch(fn func(node string, up bool)) {
	t.pinger.mu.Lock()
	defer t.pinger.mu.Unlock()
	t.pinger.watchers = append(t.pinger.watchers, fn)
}

// Up tells whether the peer answered its last ping.
func (t *Transport) Up(node string) bool {
	t.pinger.mu.Lock()
	defer t.pinger.mu.Unlock()
	return t.pinger.up[node]
}

// SetPeers says which nodes are pinged.
func (t *Transport) SetPeers(nodes []string) {
	p := &t.pinger
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]bool{}
	for _, n := range nodes {
		want[n] = true
		if p.peers[n] == nil && p.life.Err() == nil {
			ctx, cancel := context.WithCancel(p.life)
			p.peers[n] = cancel
			p.done.Go(func() { p.run(ctx, n) })
		}
	}
	for n, cancel := range p.peers {
		if !want[n] {
			cancel()
			delete(p.peers, n)
			delete(p.up, n)
		}
	}
}

// run pings a node until ctx ends.
func (p *pinger) run(ctx context.Context, node string) {
	for first := true; ctx.Err() == nil; first = false {
		begun := time.Now()
		c, err := p.connect(ctx, node)
		if err == nil && !first && !p.t.Up(node) {
			p.t.mend(node, begun)
		}
		p.set(ctx, node, err == nil, first)
		if err != nil {
			wait(ctx, pingEvery)
			continue
		}
		end := context.AfterFunc(ctx, func() { c.Close() })
		for err == nil {
			if err = idle(c); err == nil {
				err = ping(c)
			}
		}
		end()
		c.Close() // just that connection was lost, perhaps: connecting again tells
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.set(ctx, node, false, false) // it was silent for as long as it may be
		}
	}
}

// connect opens a connection, and has a first answer on it: a node that refuses this one gives none. All of that may take as long as
// one answer: a link that is cut does not refuse connections, and a process that hangs has the kernel accept them.
func (p *pinger) connect(ctx context.Context, node string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	c, err := p.t.dial(ctx, node, protoPing)
	if err != nil {
		return nil, err
	}
	if err := ping(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// idle waits until it is time for the next ping, by a read: it ends at once when the connection does.
func idle(c net.Conn) error {
	var b [1]byte
	c.SetReadDeadline(time.Now().Add(pingEvery))
	switch _, err := c.Read(b[:]); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		return err
	}
	return errors.New("an answer that nobody asked for")
}

// grace is for a process that did not run while the answer came: its time is over, and the answer is there.
const grace = 50 * time.Millisecond

func ping(c net.Conn) error {
	var b [1]byte
	c.SetDeadline(time.Now().Add(pingWait))
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.SetReadDeadline(time.Now().Add(grace))
		_, err = io.ReadFull(c, b[:])
	}
	return err
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (p *pinger) set(ctx context.Context, node string, up, first bool) {
	p.mu.Lock()
	if ctx.Err() != nil || p.up[node] == up && !first {
		p.mu.Unlock()
		return
	}
	p.up[node] = up
	watchers := p.watchers
	p.mu.Unlock()
	for _, fn := range watchers {
		fn(node, up)
	}
}

// answer sends pings back until the other end has enough.
func (p *pinger) answer(c *peerConn) {
	defer c.Close()
	var b [1]byte
	for {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		if _, err := c.Write(b[:]); err != nil {
			return
		}
	}
}
