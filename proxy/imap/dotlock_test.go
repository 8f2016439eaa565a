package imap

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newLocker(t *testing.T) (s *session, path string) {
	path = filepath.Join(t.TempDir(), subscriptionsFile)
	if err := writeFile(path, "Old\n"); err != nil {
		t.Fatal(err)
	}
	return &session{ctx: t.Context()}, path
}

func wantFiles(t *testing.T, path, text string) {
	t.Helper()
	if got := mustReadFile(t, path); got != text {
		t.Errorf("file is %q, want %q", got, text)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// The mount tells of a full quota at close. What is not stored must not replace what is.
func TestReplaceFileWhenCloseFails(t *testing.T) {
	s, path := newLocker(t)
	err := s.replaceFile(path, func([]byte) ([]byte, error) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			fd := 0
			for _, digit := range e.Name() {
				fd = 10*fd + int(digit-'0')
			}
			if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && target == path+".lock" {
				return []byte{}, unix.Close(fd) // so the next close fails
			}
		}
		return nil, errors.New("no lock is open")
	})
	if !errors.Is(err, syscall.EBADF) {
		t.Errorf("close failed, and replaceFile answers %v", err)
	}
	wantFiles(t, path, "Old\n")
}

// Whoever's lock was broken begins anew, and leaves the other one's lock and half-written file alone.
func TestReplaceFileWhenLockIsLost(t *testing.T) {
	s, path := newLocker(t)
	calls := 0
	err := s.replaceFile(path, func(old []byte) ([]byte, error) {
		if calls++; calls == 1 {
			if err := os.Rename(path+".lock", path+".mine"); err != nil { // keeps the inode number taken
				return nil, err
			}
			time.AfterFunc(10*lockRetry, func() {
				if text := mustReadFile(t, path); text != "Old\n" {
					t.Errorf("file was replaced by another's lock: %q", text)
				}
				os.Remove(path + ".lock")
				os.Remove(path + ".mine")
			})
			return []byte("lost\n"), writeFile(path+".lock", "half of ano")
		}
		return append(old, "New\n"...), nil
	})
	if err != nil || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
	wantFiles(t, path, "Old\nNew\n")
}

func TestBreakLock(t *testing.T) {
	_, path := newLocker(t)
	lock := path + ".lock"
	stat := func() (st unix.Stat_t) {
		if err := unix.Lstat(lock, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if err := writeFile(lock, "stale"); err != nil {
		t.Fatal(err)
	}
	stale := stat()
	// Another one breaks it first, and makes the next.
	if err := os.Rename(lock, path+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := breakLock(lock, &stale); err != nil {
		t.Errorf("nothing to break: %v", err)
	}
	if err := writeFile(lock, "fresh"); err != nil {
		t.Fatal(err)
	}
	if err := breakLock(lock, &stale); err != nil {
		t.Fatal(err)
	}
	if got := mustReadFile(t, lock); got != "fresh" {
		t.Errorf("lock is %q", got)
	}
	fresh := stat()
	if err := breakLock(lock, &fresh); err != nil {
		t.Fatal(err)
	}
	os.Remove(path + ".gone")
	wantFiles(t, path, "Old\n")
}
