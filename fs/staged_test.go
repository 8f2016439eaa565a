package fs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// noise is a text that does not compress.
func noise(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

// count asks the server how much of something it has in memory.
func (s *testServer) count(what string) int {
	s.t.Helper()
	n, err := strconv.Atoi(s.do("count %s", what))
	must(s.t, err)
	return n
}

// What staged files have sealed counts as memory, like what they hold unsealed: where there is none left, it goes ahead in pieces.
func TestSealedFilesAreWithinTheBudget(t *testing.T) {
	const budget, size, files = 4 << 20, 500_000, 20
	t.Setenv(budgetEnv, strconv.Itoa(budget))
	s := startServer(t, 1)
	home := s.home("alice")
	for i := range files {
		write(t, fmt.Sprint(home, "/tmp/", i), noise(byte(i), size))
	}
	if sealed, reserved := s.count("sealed"), s.count("reserved"); sealed < budget/2 || sealed > reserved || reserved > budget {
		t.Errorf("%d bytes are held sealed, %d reserved, %d allowed", sealed, reserved, budget)
	}
	must(t, os.Truncate(home+"/tmp/0", 0))
	for i := range files {
		name := strconv.Itoa(i)
		switch i % 3 {
		case 0:
			must(t, os.Link(home+"/tmp/"+name, home+"/new/"+name))
			must(t, os.Remove(home+"/tmp/"+name))
		case 1:
			must(t, os.Rename(home+"/tmp/"+name, home+"/new/"+name))
		default:
			must(t, os.Remove(home+"/tmp/"+name))
		}
	}
	if n := s.count("reserved"); n != 0 {
		t.Errorf("%d bytes stay reserved", n)
	}
	s.do("unlock alice")
	wantText(t, home+"/new/0", "")
	for i := 1; i < files; i++ {
		if i%3 < 2 {
			wantText(t, fmt.Sprint(home, "/new/", i), noise(byte(i), size))
		}
	}
}
