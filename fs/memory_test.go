//go:build !race

package fs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// What the race detector adds to the memory of a process says nothing, so this runs without it.

// A large message goes through the server in pieces: it is never whole in its memory twice over.
func TestLargeMessageTakesLittleMemory(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	text := make([]byte, 50<<20)
	rand.NewChaCha8([32]byte{}).Read(text) // does not compress
	write(t, home+"/tmp/warm", string(text[:2<<20]))
	must(t, os.Remove(home+"/tmp/warm"))
	before := residentPeak(t, s.cmd.Process.Pid)
	write(t, home+"/tmp/a", string(text))
	must(t, os.Link(home+"/tmp/a", home+"/new/a"))
	must(t, os.Remove(home+"/tmp/a"))
	if grown := residentPeak(t, s.cmd.Process.Pid) - before; grown > 105<<10 {
		t.Errorf("a message of 50 MiB took %d KiB", grown)
	} else {
		t.Logf("a message of 50 MiB took %d KiB", grown)
	}
}

// residentPeak is the process's peak resident memory in KiB.
func residentPeak(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var n int
	_, err = fmt.Sscan(rest, &n)
	must(t, err)
	return n
}
