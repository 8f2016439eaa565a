package fs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
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

// What nobody has open or changes goes after 36 hours, as from any maildir.
func TestAbandonedFilesAreSwept(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	write(t, home+"/tmp/left", "left")
	write(t, home+"/tmp/linked", "linked")
	must(t, os.Link(home+"/tmp/linked", home+"/new/linked"))
	must(t, os.Symlink("nowhere", home+"/tmp/symlink"))
	open, err := os.Create(home + "/tmp/open")
	must(t, err)
	defer open.Close()
	// A date that a program gives a message says nothing about when it did.
	long := time.Now().Add(-1000 * time.Hour)
	write(t, home+"/tmp/dated", "dated")
	must(t, os.Chtimes(home+"/tmp/dated", long, long))

	s.do("sweep 35")
	if got := names(t, home+"/tmp"); got != "dated left linked open symlink" {
		t.Errorf("after 35 hours there are %q", got)
	}
	eventually(t, "what nobody has open goes after 37 hours", func() bool { // of a close(2) the mount hears a moment later
		s.do("sweep 37")
		return names(t, home+"/tmp") == "open"
	})
	eventually(t, "the kernel knows", func() bool { return !exists(home+"/tmp/left") && !exists(home+"/tmp/linked") })
	must(t, os.Link(home+"/tmp/open", home+"/new/open"))
	if got := names(t, home+"/new"); got != "linked open" {
		t.Errorf("delivered are %q", got)
	}
}

func TestRemovedAccountsLeaveNothingStaged(t *testing.T) {
	s := startServer(t, 2)
	s.do("add carol")
	for mount := range s.mounts {
		home := s.homeOn(mount, "carol")
		for _, dir := range []string{"/.F", "/.F/cur", "/.F/new", "/.F/tmp"} {
			if mount == 0 {
				must(t, os.Mkdir(home+dir, 0o700))
			}
		}
		write(t, home+"/tmp/x", "x")
		write(t, home+"/.F/tmp/x", "x")
	}
	write(t, s.home("alice")+"/tmp/x", "x")
	s.do("remove carol")
	eventually(t, "only the other account's is left", func() bool { return s.count("files") == 1 })
	if got := names(t, s.home("alice")+"/tmp"); got != "x" {
		t.Errorf("the other account has %q", got)
	}
}
