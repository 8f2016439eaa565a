package peercred

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestConnectionsAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600, -1, slog.New(slog.DiscardHandler), uint32(os.Geteuid()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	next := func() net.Conn {
		t.Helper()
		select {
		case c := <-accepted:
			return c
		case <-time.After(20 * time.Second):
			t.Fatal("not accepted")
		}
		return nil
	}
	var first net.Conn
	for i := range maxConnections {
		dial()
		c := next()
		t.Cleanup(func() { c.Close() })
		if i == 0 {
			first = c
		}
	}
	if _, err := dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // closed at once
		t.Error("one too many:", err)
	}
	first.Close()
	first.Close()
	dial()
	next().Close()
}
