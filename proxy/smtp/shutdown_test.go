package smtp

import (
	"context"
	"errors"
	"net"
	"testing"
)

// Idle clients are told, a message that is coming comes to its reply, nobody new is let in.
func TestShutdown(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	s, address := run(t, Config{}, h)
	idle, midway, busy := dial(t, address), dial(t, address), dial(t, address)
	idle.expect("220 ")
	midway.envelope("alice@example.org")
	busy.envelope("alice@example.org")
	busy.dialogue("C: DATA\nS: 354")

	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	idle.expect("421 4.3.2")
	idle.expectEnd()
	midway.expect("421 4.3.2")
	midway.expectEnd()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("still listening")
	}
	busy.send("a\r\n.\r\nNOOP\r\n")
	busy.expect("250 2.0.0", "421 4.3.2")
	busy.expectEnd()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	h.wantBodies(t, "alice@example.org", "a\r\n")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// When time is up, what is left is broken off.
func TestShutdownTimesOut(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	s, address := run(t, Config{}, h)
	busy := dial(t, address)
	busy.envelope("alice@example.org")
	busy.dialogue("C: DATA\nS: 354")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	busy.expectEnd()
	s.serving.Wait()
	h.wantBodies(t, "alice@example.org")
}
