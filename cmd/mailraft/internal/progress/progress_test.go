package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	var w bytes.Buffer
	m := New(&w, "exporting a@example.org", "messages")
	m.Expect(10, 10<<20)
	m.Skip(2, 2<<20)
	m.Add(3, 4<<20)
	if got, want := m.line(2*time.Second), "exporting a@example.org: 5 of 10 messages, 6.0M of 10.0M, 2.0M/s, 2s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	m.show()
	m.Note("left out %s", "x")
	m.Stop()
	if lines := strings.Split(w.String(), "\n"); len(lines) != 3 || lines[1] != "left out x" || strings.Contains(w.String(), "\r") {
		t.Errorf("%q", lines)
	}
	var none *Meter
	none.Add(1, 1)
	none.Note("x")
	none.Stop()
}
