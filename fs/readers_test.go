package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// An account that is unlocked for a user is readable for that user's processes, and for nobody else's: in all mounts, root's as well.
func TestUnlockedForOneUser(t *testing.T) {
	s := startServer(t, 2)
	must(t, os.Chmod(filepath.Dir(s.dir), 0o711)) // the mail user goes through it
	home, other := s.home("alice"), s.homeOn(1, "alice")
	write(t, home+"/cur/f", "text")
	must(t, os.Chmod(home, 0o755))
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	both := func(what string, root, mail error) {
		t.Helper()
		for _, path := range []string{home + "/cur/f", other + "/cur/f"} {
			if err := read(path)(); !errors.Is(err, root) {
				t.Errorf("%s: root reads %s: %v, want %v", what, path, err, root)
			}
			if err := asMailUser(read(path)); !errors.Is(err, mail) {
				t.Errorf("%s: the mail user reads %s: %v, want %v", what, path, err, mail)
			}
		}
	}
	both("locked", syscall.ENOKEY, syscall.ENOKEY)
	s.do("unlock alice 5000")
	both("unlocked for the mail user", syscall.EACCES, nil)
	s.do("unlock alice 0 4242")
	both("unlocked for root too", nil, nil)
	s.do("lock alice 5000")
	both("unlocked for root alone", nil, syscall.EACCES)
	s.do("unlock alice")
	both("unlocked for all too", nil, nil)
	s.do("lock alice")
	s.do("lock alice 0 4242")
	both("locked again", syscall.ENOKEY, syscall.ENOKEY)

	// What needs no key needs none of these either.
	s.do("unlock alice 5000")
	if entries, err := os.ReadDir(home + "/cur"); err != nil || len(entries) != 1 {
		t.Errorf("the folder: %v, %v", entries, err)
	}
	if b, err := os.ReadFile(home + "/.mailraft-index"); err != nil || len(b) == 0 {
		t.Errorf("the index: %q, %v", b, err)
	}
	must(t, os.Rename(home+"/cur/f", home+"/cur/f:2,S"))
	write(t, home+"/new/g", "from root")
	must(t, asMailUser(func() error {
		if b, err := os.ReadFile(home + "/new/g"); err != nil || string(b) != "from root" {
			return fmt.Errorf("%q, %w", b, err)
		}
		return nil
	}))
	for what, flags := range map[string]int{"append": os.O_WRONLY | os.O_APPEND, "read and write": os.O_RDWR} {
		_, err := os.OpenFile(home+"/new/g", flags, 0)
		wantErr(t, what, err, syscall.EACCES)
	}
	f, err := os.OpenFile(home+"/new/g", os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 3)
	wantErr(t, "a part of what is there", err, syscall.EACCES)
	must(t, f.Close())
	wantErr(t, "truncate(2) to a part", os.Truncate(home+"/new/g", 3), syscall.EACCES)
	must(t, os.WriteFile(home+"/new/g", []byte("anew"), 0))
	wantErr(t, "what root wrote", read(home+"/new/g")(), syscall.EACCES)
	s.stop()
}

// Who opened a file while he might, and may no longer, reads no more of it than the kernel has; and who made one reads there nothing that
// others write.
func TestOpenFilesOfOtherUsers(t *testing.T) {
	s := startServer(t, 1)
	must(t, os.Chmod(filepath.Dir(s.dir), 0o711))
	home := s.home("alice")
	write(t, home+"/f", "text")
	s.do("unlock alice")
	opened, err := os.Open(home + "/f")
	must(t, err)
	defer opened.Close()
	s.do("unlock alice 5000")
	s.do("lock alice")
	wantErr(t, "read what was opened before", readErr(opened), syscall.EACCES)

	made, err := os.OpenFile(home+"/g", os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer made.Close()
	must(t, asMailUser(func() error {
		if err := os.WriteFile(home+"/g", []byte("of the mail user"), 0); err != nil {
			return err
		}
		_, err := os.ReadFile(home + "/g") // the kernel has its pages
		return err
	}))
	wantErr(t, "read in a file of one's own what another wrote", readErr(made), syscall.EACCES)
	must(t, made.Close())
	s.stop()
}
