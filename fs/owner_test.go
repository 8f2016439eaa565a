package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asMailUser does something as the mail user, whom permissions bind, on a thread that ends with it.
func asMailUser(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		become(mailUser)
		done <- do()
	}()
	return <-done
}

// wantOwner checks who owns a file, and with what permissions.
func wantOwner(t *testing.T, path string, uid, gid, mode uint32) {
	t.Helper()
	if st := stat(t, path); st.Uid != uid || st.Gid != gid || st.Mode&0o7777 != mode {
		t.Errorf("%s is of %d:%d, %o; want %d:%d, %o", path, st.Uid, st.Gid, st.Mode&0o7777, uid, gid, mode)
	}
}

func TestOwners(t *testing.T) {
	s := startServer(t, 2)
	must(t, os.Chmod(filepath.Dir(s.dir), 0o711)) // the mail user goes through it
	s.do("unlock alice")
	home, other := s.home("alice"), s.homeOn(1, "alice")
	committed, staged, dir := home+"/f", home+"/tmp/f", home+"/d"
	write(t, committed, "text")
	write(t, staged, "text")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Symlink("f", home+"/s"))
	must(t, unix.Mknod(home+"/p", unix.S_IFIFO|0o600, 0))

	// What root makes is the mail user's, and it can give that away.
	for path, mode := range map[string]uint32{committed: 0o600, staged: 0o600, dir: 0o700, home + "/s": 0o777, home + "/p": 0o600} {
		wantOwner(t, path, mailUser, mailUser, mode)
		must(t, os.Lchown(path, 6000, 6001))
		wantOwner(t, path, 6000, 6001, mode)
		must(t, os.Lchown(path, -1, 6002))
		wantOwner(t, path, 6000, 6002, mode)
		must(t, os.Lchown(path, 0, -1))
		wantOwner(t, path, 0, 6002, mode)
	}
	wantText(t, committed, "text")
	if to, err := os.Readlink(home + "/s"); to != "f" {
		t.Error(to, err)
	}
	eventually(t, "the new owner on the other mount", func() bool { return stat(t, other+"/f").Uid == 0 && stat(t, other+"/f").Gid == 6002 })

	// The mail user can do so with nothing, and read only what is its own.
	for path, gid := range map[string]int{committed: -1, staged: -1, home: mailUser + 1} {
		wantErr(t, "chown "+path, asMailUser(func() error { return os.Chown(path, mailUser+1, gid) }), syscall.EPERM)
	}
	_, err := os.ReadFile(committed)
	must(t, err)
	wantErr(t, "another's file", asMailUser(func() error { _, err := os.ReadFile(committed); return err }), syscall.EACCES)
	must(t, asMailUser(func() error { return os.WriteFile(home+"/mine", nil, 0o600) }))
	must(t, asMailUser(func() error { return os.Chown(home+"/mine", mailUser, mailUser) })) // as it is
	wantErr(t, "chgrp", asMailUser(func() error { return os.Chown(home+"/mine", -1, 6000) }), syscall.EPERM)
	wantErr(t, "chown of a domain", os.Chown(filepath.Dir(home), 6000, -1), syscall.EPERM)
	wantErr(t, "chown of the index", os.Chown(home+"/.mailraft-index", 6000, -1), syscall.EPERM)

	// It is delivered, and kept, with its owner.
	must(t, os.Rename(staged, home+"/new/f"))
	must(t, os.Chown(home, 6000, 6000))
	s.stop()
	s.start()
	s.do("unlock alice")
	wantOwner(t, home+"/new/f", 0, 6002, 0o600)
	wantOwner(t, committed, 0, 6002, 0o600)
	wantOwner(t, dir, 0, 6002, 0o700)
	wantOwner(t, home, 6000, 6000, 0o700)
}

// inode(7), chown(2), write(2): set-user-ID goes when a file gets another owner, and when somebody without CAP_FSETID writes to it.
func TestSetUserIDGoes(t *testing.T) {
	s := startServer(t, 1)
	must(t, os.Chmod(filepath.Dir(s.dir), 0o711))
	s.do("unlock alice")
	home := s.home("alice")
	open := func(path string, do func(f *os.File) error) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(do(f), f.Close())
	}
	for _, path := range []string{home + "/f", home + "/tmp/f"} {
		write(t, path, "text")
		for name, do := range map[string]func() error{
			"chown":     func() error { return os.Chown(path, mailUser, -1) },
			"chgrp":     func() error { return os.Chown(path, -1, mailUser) },
			"truncate":  func() error { return os.Truncate(path, 3) },
			"write":     func() error { return open(path, func(f *os.File) error { _, err := f.WriteString("T"); return err }) },
			"ftruncate": func() error { return open(path, func(f *os.File) error { return f.Truncate(5) }) },
			"fallocate": func() error {
				return open(path, func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 100) })
			},
			"O_TRUNC": func() error { return os.WriteFile(path, []byte("text"), 0) },
		} {
			for _, mode := range []uint32{0o4711, 0o2711, 0o6755} {
				must(t, unix.Chmod(path, mode))
				must(t, asMailUser(do))
				if got := stat(t, path).Mode & 0o7777; got != mode&0o777 {
					t.Errorf("%s: %s by the mail user leaves %o of %o", path, name, got, mode)
				}
				must(t, unix.Chmod(path, mode))
				must(t, do())
				want := mode
				if name == "chown" || name == "chgrp" {
					want &= 0o777
				}
				if got := stat(t, path).Mode & 0o7777; got != want {
					t.Errorf("%s: %s by root leaves %o of %o", path, name, got, mode)
				}
			}
		}
	}
	must(t, os.Mkdir(home+"/d", 0o700))
	must(t, unix.Chmod(home+"/d", 0o2711))
	must(t, os.Chown(home+"/d", -1, 6001))
	wantOwner(t, home+"/d", mailUser, 6001, 0o2711) // a directory's stays, and hands its group down
	write(t, home+"/d/f", "")
	must(t, os.Mkdir(home+"/d/d", 0o700))
	wantOwner(t, home+"/d/f", mailUser, 6001, 0o600)
	wantOwner(t, home+"/d/d", mailUser, 6001, 0o2700)
}

// What was set of a file or directory that is open is seen through its descriptor after its last name has gone.
func TestStatusOfTheRemoved(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	write(t, home+"/f", "")
	write(t, home+"/tmp/f", "")
	must(t, os.Mkdir(home+"/d", 0o700))
	for path, flags := range map[string]int{home + "/f": unix.O_RDWR, home + "/tmp/f": unix.O_RDWR, home + "/d": unix.O_RDONLY} {
		fd, err := unix.Open(path, flags, 0)
		must(t, err)
		defer unix.Close(fd)
		must(t, unix.Fchown(fd, 6000, 6001))
		must(t, unix.Fchmod(fd, 0o500))
		if flags == unix.O_RDWR {
			must(t, unix.Fchmod(fd, 0o4500))
			must(t, asMailUser(func() error { _, err := unix.Write(fd, []byte("x")); return err }))
		}
		must(t, os.Remove(path))
		want := func(uid, gid, mode uint32) {
			t.Helper()
			var st unix.Stat_t
			must(t, unix.Fstat(fd, &st))
			if got := fmt.Sprintf("%d:%d %o %d", st.Uid, st.Gid, st.Mode&0o7777, st.Nlink); got != fmt.Sprintf("%d:%d %o 0", uid, gid, mode) {
				t.Errorf("%s: %s", path, got)
			}
		}
		want(6000, 6001, 0o500)
		must(t, unix.Fchown(fd, 6002, -1))
		must(t, unix.Fchmod(fd, 0o711))
		want(6002, 6001, 0o711)
	}
}
