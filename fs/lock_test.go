package fs

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openRead opens a file and reads it, so that the kernel has its pages.
func openRead(t *testing.T, path, text string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	wantRead(t, f, text)
	return f
}

func wantRead(t *testing.T, f *os.File, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != text {
		t.Errorf("%s: %.40q, %v", f.Name(), b, err)
	}
}

func readErr(f *os.File) error {
	_, err := f.ReadAt(make([]byte, 1), 0)
	return err
}

// A lock finds all pages of the account, also those of an inode of which a FORGET came after the kernel had it again, and those that an
// open file got after the lock before.
func TestLockDropsAllPages(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	write(t, home+"/f", "text")
	write(t, home+"/g", "text")
	f, g := openRead(t, home+"/f", "text"), openRead(t, home+"/g", "text")
	s.do("forget %d", stat(t, home+"/f").Ino)
	for range 2 {
		s.do("lock alice")
		for _, x := range []*os.File{f, g} {
			wantErr(t, "read locked", readErr(x), syscall.ENOKEY)
		}
		s.do("unlock alice")
		for _, x := range []*os.File{f, g} {
			wantRead(t, x, "text")
		}
	}
	must(t, g.Close())
	must(t, os.Remove(home+"/g"))
	eventually(t, "what the kernel knows no more is forgotten", func() bool { return s.count("pages") == 1 })
}

// The pages of an account that is locked do not wait for a file that is being committed.
func TestLockDropsPagesFirst(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	write(t, home+"/f", "text")
	write(t, home+"/busy", "text")
	f, _ := openRead(t, home+"/f", "text"), openRead(t, home+"/busy", "text")
	s.do("hold %d", stat(t, home+"/busy").Ino)
	defer s.do("release -")
	s.do("locking alice")
	eventually(t, "the pages are gone", func() bool { return errors.Is(readErr(f), syscall.ENOKEY) })
}

// What was staged and sealed while it is open can be read as little as what is committed, and is held in plain no longer than till the
// lock.
func TestStagedFilesOfLockedAccounts(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	f, err := os.Create(home + "/tmp/x")
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("text")
	must(t, err)
	wantText(t, home+"/tmp/x", "text") // its closing seals nothing: it is not one that was written through
	again, err := os.OpenFile(home+"/tmp/x", os.O_WRONLY, 0)
	must(t, err)
	must(t, again.Close())
	wantErr(t, "read locked", readErr(f), syscall.ENOKEY)
	_, err = os.ReadFile(home + "/tmp/x")
	wantErr(t, "read locked", err, syscall.ENOKEY)
	s.do("unlock alice")
	wantText(t, home+"/tmp/x", "text")
	s.do("lock alice")
	if n := s.count("plain"); n != 0 {
		t.Errorf("%d files are held in plain", n)
	}
	_, err = os.ReadFile(home + "/tmp/x")
	wantErr(t, "read after the lock", err, syscall.ENOKEY)
	_, err = f.WriteString("more")
	wantErr(t, "written to after the lock", err, syscall.ENOKEY)
	must(t, os.Link(home+"/tmp/x", home+"/new/x"))
	s.do("unlock alice")
	wantText(t, home+"/new/x", "text")

	// What is not sealed at the lock stays, and is read, until it is.
	g, err := os.Create(home + "/tmp/y")
	must(t, err)
	defer g.Close()
	_, err = g.WriteString("text")
	must(t, err)
	s.do("lock alice")
	wantRead(t, g, "text")
	second, err := unix.Dup(int(g.Fd()))
	must(t, err)
	must(t, unix.Close(second)) // seals it, and does not open it again, which would drop the pages
	eventually(t, "it is not read any more", func() bool { return errors.Is(readErr(g), syscall.ENOKEY) })
}
