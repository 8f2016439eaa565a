package fs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMutableFiles(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	path := home + "/subscriptions"
	write(t, path, "one\n")
	_, err := os.ReadFile(path)
	wantErr(t, "read locked", err, syscall.ENOKEY)
	_, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	wantErr(t, "append locked", err, syscall.ENOKEY)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 1)
	wantErr(t, "write a part locked", err, syscall.ENOKEY)
	must(t, f.Close())
	wantErr(t, "truncate a part locked", os.Truncate(path, 2), syscall.ENOKEY)
	must(t, os.Truncate(path, 0))
	write(t, path, "two\n") // truncates
	s.do("unlock alice")
	wantText(t, path, "two\n")

	f, err = os.OpenFile(path, os.O_APPEND|os.O_RDWR, 0)
	must(t, err)
	g, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	for _, x := range []*os.File{f, g, f} {
		if _, err := x.WriteString(filepath.Base(x.Name()[len(home)-1:]) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	want := "two\n" + strings.Repeat("subscriptions\n", 3)
	wantText(t, path, want) // what is not committed yet is seen
	must(t, f.Sync())
	must(t, f.Truncate(4))
	wantText(t, path, "two\n")
	if st := stat(t, path); st.Size != 4 {
		t.Errorf("size %d", st.Size)
	}
	must(t, f.Truncate(6))
	wantText(t, path, "two\n\x00\x00")
	must(t, f.Close())
	must(t, g.Close())
	wantText(t, path, "two\n\x00\x00")

	// A time that was set after the writing stays over the close.
	when := time.Unix(1_000_000_000, 123_000_000)
	f, err = os.Create(path)
	must(t, err)
	f.WriteString("three")
	must(t, os.Chtimes(path, when, when))
	must(t, f.Close())
	if fi, err := os.Stat(path); err != nil || !fi.ModTime().Equal(when) {
		t.Errorf("%v, %v", fi.ModTime(), err)
	}
	wantText(t, path, "three")
}

func TestUnlinkedFilesStayOpen(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	big := strings.Repeat("0123456789abcde\n", 20_000)
	for name, text := range map[string]string{"small": "hello", "big": big} {
		path := home + "/" + name
		write(t, path, text)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		must(t, os.Remove(path))
		b := make([]byte, len(text))
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != text {
			t.Errorf("%s: %.20q, %v", name, b, err)
		}
		if _, err := f.WriteAt([]byte("J"), 0); err != nil {
			t.Error(err)
		}
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "J"+text[1:] {
			t.Errorf("%s: %.20q, %v", name, b, err)
		}
		fi, err := f.Stat()
		if err != nil || fi.Size() != int64(len(text)) || fi.Sys().(*syscall.Stat_t).Nlink != 0 {
			t.Errorf("%s: %+v, %v", name, fi, err)
		}
		must(t, f.Sync())
		must(t, f.Close())
		_, err = os.Stat(path)
		wantErr(t, name, err, syscall.ENOENT)
	}
}

func TestWritingOnAfterTheLink(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	f, err := os.Create(home + "/tmp/x")
	must(t, err)
	f.WriteString("first ")
	must(t, os.Link(home+"/tmp/x", home+"/new/x")) // open and not closed: sealed by the link
	wantText(t, home+"/new/x", "first ")
	f.WriteString("second")
	wantText(t, home+"/new/x", "first second")
	must(t, os.Remove(home+"/tmp/x"))
	must(t, f.Close())
	wantText(t, home+"/new/x", "first second")
	s.kill()
	s.start()
	s.do("unlock alice")
	wantText(t, home+"/new/x", "first second")
}

func TestStagedFiles(t *testing.T) {
	s := startServer(t, 2)
	home := s.home("alice")
	a, b := home+"/tmp/a", home+"/tmp/b"
	write(t, a, "text a")
	_, err := os.OpenFile(a, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	wantErr(t, "O_EXCL", err, syscall.EEXIST)
	_, err = os.ReadFile(a)
	wantErr(t, "read sealed, locked", err, syscall.ENOKEY)
	s.do("unlock alice")
	wantText(t, a, "text a")
	must(t, os.Chmod(a, 0o640))
	when := time.Unix(900_000_000, 0)
	must(t, os.Chtimes(a, when, when))
	must(t, unix.Setxattr(a, "user.x", []byte("y"), 0))
	wantErr(t, "setxattr", unix.Setxattr(a, "user.x", []byte("y"), unix.XATTR_CREATE), syscall.EEXIST)
	if got := xattr(t, a, "user.x"); got != "y" {
		t.Error(got)
	}
	must(t, os.Truncate(a, 4))
	must(t, os.Chtimes(a, when, when))
	must(t, os.Rename(a, b))
	write(t, a, "another")
	must(t, os.Rename(a, b)) // replaces
	wantText(t, b, "another")
	write(t, a, "text a")
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
	wantText(t, a, "another")
	wantErr(t, "noreplace", unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE), syscall.EEXIST)
	if got := names(t, home+"/tmp"); got != "a b" {
		t.Error(got)
	}
	if got := names(t, s.homeOn(1, "alice")+"/tmp"); got != "" {
		t.Errorf("the other mount sees %q", got)
	}
	must(t, os.Link(a, home+"/tmp/c"))
	if st := stat(t, a); st.Nlink != 2 {
		t.Errorf("nlink %d", st.Nlink)
	}
	must(t, os.Remove(home+"/tmp/c"))
	must(t, os.Mkdir(home+"/tmp/dir", 0o700))
	wantErr(t, "over a directory", unix.Rename(a, home+"/tmp/dir"), syscall.EISDIR)
	must(t, os.Remove(home+"/tmp/dir"))
	must(t, os.Chmod(b, 0o640))
	must(t, os.Chtimes(b, when, when))
	must(t, unix.Setxattr(b, "user.x", []byte("y"), 0))
	must(t, os.Rename(b, home+"/new/b"))
	if fi, err := os.Stat(home + "/new/b"); err != nil || fi.Mode() != 0o640 || !fi.ModTime().Equal(when) {
		t.Errorf("%v, %v", fi, err)
	}
	if got := xattr(t, home+"/new/b", "user.x"); got != "y" {
		t.Error(got)
	}
	wantErr(t, "into tmp", os.Rename(home+"/new/b", home+"/tmp/b"), syscall.EXDEV)
	wantErr(t, "link into tmp", os.Link(home+"/new/b", home+"/tmp/b"), syscall.EXDEV)
	wantErr(t, "to another account", os.Rename(a, s.home("bob")+"/new/a"), syscall.EXDEV)
	wantErr(t, "link to another account", os.Link(a, s.home("bob")+"/new/a"), syscall.EXDEV)
	write(t, home+"/new/old", "old")
	must(t, os.Rename(a, home+"/new/old"))
	wantText(t, home+"/new/old", "another")
	wantText(t, s.homeOn(1, "alice")+"/new/old", "another")

	// Its committed name goes, the staged one stays, and is delivered anew.
	write(t, a, "again")
	must(t, os.Link(a, home+"/new/1"))
	must(t, os.Remove(home+"/new/1"))
	wantText(t, a, "again")
	must(t, os.Link(a, home+"/new/2"))
	wantText(t, home+"/new/2", "again")
	must(t, os.Remove(a))
	wantText(t, home+"/new/2", "again")
}

func TestErrors(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock small")
	home := s.home("small")
	top := s.mounts[0]
	wantErr(t, "mkdir in the root", os.Mkdir(top+"/x", 0o700), syscall.EPERM)
	wantErr(t, "mkdir in a domain", os.Mkdir(top+"/example.org/x", 0o700), syscall.EPERM)
	wantErr(t, "rmdir of a home", os.Remove(home), syscall.EPERM)
	wantErr(t, "chmod of the root", os.Chmod(top, 0o777), syscall.EPERM)
	wantErr(t, "rename of a home", os.Rename(home, top+"/example.org/x"), syscall.EPERM)
	_, err := os.Stat(top + "/example.org/SMALL")
	wantErr(t, "upper case", err, syscall.ENOENT)

	long := strings.Repeat("x", 256)
	_, err = os.Create(home + "/tmp/" + long)
	wantErr(t, "long name", err, syscall.ENAMETOOLONG)
	wantErr(t, "long name", os.Mkdir(home+"/"+long, 0o700), syscall.ENAMETOOLONG)
	_, err = os.Create(home + "/.mailraft-x")
	wantErr(t, "reserved name", err, syscall.EPERM)
	_, err = os.Create(home + "/tmp/.mailraft-x")
	wantErr(t, "reserved name", err, syscall.EPERM)
	write(t, home+"/tmp/x", "x")
	wantErr(t, "rename to a reserved name", os.Rename(home+"/tmp/x", home+"/.mailraft-index"), syscall.EPERM)
	wantErr(t, "link to a reserved name", os.Link(home+"/tmp/x", home+"/.mailraft-x"), syscall.EPERM)
	wantErr(t, "unlink of the index", os.Remove(home+"/.mailraft-index"), syscall.EPERM)
	_, err = os.OpenFile(home+"/.mailraft-index", os.O_WRONLY, 0)
	wantErr(t, "writing the index", err, syscall.EPERM)

	wantErr(t, "over quota by close of a staged file", os.WriteFile(home+"/tmp/big", make([]byte, 200_000), 0o600), syscall.EDQUOT)
	wantErr(t, "over quota by link", os.Link(home+"/tmp/big", home+"/new/big"), syscall.EDQUOT)
	wantErr(t, "over quota by rename", os.Rename(home+"/tmp/big", home+"/new/big"), syscall.EDQUOT)
	wantErr(t, "over quota by close", os.WriteFile(home+"/big", make([]byte, 200_000), 0o600), syscall.EDQUOT)
	few := s.home("few")
	write(t, few+"/new/x", "x")
	wantErr(t, "over the quota of files by close of a staged file", os.WriteFile(few+"/tmp/y", []byte("y"), 0o600), syscall.EDQUOT)
	wantErr(t, "over the quota of files by link", os.Link(few+"/tmp/y", few+"/new/y"), syscall.EDQUOT)
	must(t, os.Remove(few+"/new/x"))
	must(t, os.Rename(few+"/tmp/y", few+"/new/y"))
	must(t, os.Truncate(home+"/tmp/big", 90_000))
	must(t, os.Rename(home+"/tmp/big", home+"/new/big"))
	wantErr(t, "too large", os.Truncate(home+"/tmp/x", 5<<30), syscall.EFBIG)

	wantErr(t, "whiteout", unix.Renameat2(unix.AT_FDCWD, home+"/new/big", unix.AT_FDCWD, home+"/cur/big", unix.RENAME_WHITEOUT), syscall.EINVAL)
	wantErr(t, "device", unix.Mknod(home+"/null", unix.S_IFCHR|0o600, 0x103), syscall.EPERM)
	must(t, unix.Mknod(home+"/fifo", unix.S_IFIFO|0o600, 0))
	wantErr(t, "set own xattr", unix.Setxattr(home, "user.mailraft.uid", []byte("1"), 0), syscall.EPERM)
	if got := xattr(t, home, "system.posix_acl_access"); got != syscall.EOPNOTSUPP.Error() {
		t.Error(got)
	}
	_, err = unix.Open(home, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	wantErr(t, "O_TMPFILE", err, syscall.EOPNOTSUPP)
	wantErr(t, "rmdir of new", os.Remove(home+"/cur"), syscall.EBUSY)
	write(t, home+"/tmp/y", "y")
	must(t, os.Mkdir(home+"/.F", 0o700))
	for _, box := range []string{"cur", "new", "tmp"} {
		must(t, os.Mkdir(home+"/.F/"+box, 0o700))
	}
	write(t, home+"/.F/tmp/z", "z")
	wantErr(t, "rmdir of a used tmp", unix.Rmdir(home+"/.F/tmp"), syscall.ENOTEMPTY)
	must(t, os.Mkdir(home+"/.G", 0o700))
	must(t, os.Mkdir(home+"/.G/tmp", 0o700))
	if err := unix.Rename(home+"/.G/tmp", home+"/.F/tmp"); err == nil {
		t.Error("a tmp/ that was used is replaced")
	}
	must(t, os.RemoveAll(home+"/.G"))
	must(t, os.Remove(home+"/.F/tmp/z"))
	must(t, os.RemoveAll(home+"/.F"))
	var st unix.Statfs_t
	must(t, unix.Statfs(home, &st))
	if st.Blocks == 0 || st.Namelen != 255 {
		t.Errorf("%+v", st)
	}
}

func TestLargeMessages(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	text := make([]byte, 8<<20)
	x := uint64(88172645463325252)
	for i := range text { // xorshift: does not compress
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		text[i] = byte(x)
	}
	write(t, home+"/tmp/a", string(text))
	must(t, os.Remove(home+"/tmp/a")) // its pieces are dropped
	write(t, home+"/tmp/b", string(text))
	must(t, os.Link(home+"/tmp/b", home+"/new/b"))
	must(t, os.Remove(home+"/tmp/b"))
	write(t, home+"/tmp/c", string(text[:4<<20]))
	must(t, os.Rename(home+"/tmp/c", home+"/new/c"))
	write(t, home+"/tmp/d", string(text[:1<<20-100])) // one frame, and too large for one command
	must(t, os.Rename(home+"/tmp/d", home+"/new/d"))
	s.do("unlock alice")
	wantText(t, home+"/new/b", string(text))
	wantText(t, home+"/new/c", string(text[:4<<20]))
	wantText(t, home+"/new/d", string(text[:1<<20-100]))
	f, err := os.Open(home + "/new/b")
	must(t, err)
	defer f.Close()
	b := make([]byte, 5000)
	if _, err := f.ReadAt(b, 6<<20+77); err != nil || string(b) != string(text[6<<20+77:][:5000]) {
		t.Errorf("in the middle: %v", err)
	}
	must(t, os.Remove(home+"/new/b"))
	if _, err := f.ReadAt(b, 7<<20); err != nil || string(b) != string(text[7<<20:][:5000]) {
		t.Errorf("unlinked: %v", err)
	}
	g, err := os.OpenFile(home+"/new/c", os.O_RDWR, 0)
	must(t, err)
	_, err = g.WriteAt([]byte("changed"), 3<<20)
	must(t, err)
	must(t, g.Close())
	copy(text[3<<20:], "changed")
	wantText(t, home+"/new/c", string(text[:4<<20]))
	if got := s.do("orphans -"); got != "0" {
		t.Errorf("%s contents were left behind", got)
	}
}

func TestLocks(t *testing.T) {
	s := startServer(t, 1)
	path := s.home("alice") + "/dovecot-uidlist.lock"
	write(t, path, "")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(), open()
	must(t, unix.Flock(int(a.Fd()), unix.LOCK_EX))
	wantErr(t, "flock", unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB), syscall.EWOULDBLOCK)
	must(t, unix.Flock(int(a.Fd()), unix.LOCK_UN))
	must(t, unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	lk := unix.Flock_t{Type: unix.F_WRLCK, Len: 10}
	must(t, unix.FcntlFlock(a.Fd(), unix.F_OFD_SETLK, &lk))
	lk = unix.Flock_t{Type: unix.F_WRLCK, Start: 5, Len: 10}
	err := unix.FcntlFlock(b.Fd(), unix.F_OFD_SETLK, &lk)
	if !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EACCES) {
		t.Errorf("fcntl: %v", err)
	}
	lk.Start = 10
	must(t, unix.FcntlFlock(b.Fd(), unix.F_OFD_SETLK, &lk))
}

func TestXattrsAndLinks(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	write(t, home+"/tmp/m", "text")
	must(t, os.Rename(home+"/tmp/m", home+"/new/m"))
	must(t, unix.Setxattr(home+"/new/m", "user.colour", []byte("red"), 0))
	if got := xattr(t, home+"/new/m", "user.colour"); got != "red" {
		t.Error(got)
	}
	b := make([]byte, 100)
	if n, err := unix.Listxattr(home+"/new/m", b); err != nil || string(b[:n]) != "user.colour\x00" {
		t.Errorf("%q, %v", b[:max(n, 0)], err)
	}
	must(t, unix.Removexattr(home+"/new/m", "user.colour"))
	wantErr(t, "removexattr", unix.Removexattr(home+"/new/m", "user.colour"), syscall.ENODATA)
	if got := xattr(t, home+"/new/m", "security.capability"); got != syscall.ENODATA.Error() {
		t.Error(got)
	}
	for name, want := range map[string]string{"account": "alice@example.org", "uidnext": "2", "messages": "1"} {
		if got := xattr(t, home, "user.mailraft."+name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if a, b := xattr(t, home, "user.mailraft.highestmodseq"), xattr(t, home+"/new/m", "user.mailraft.modseq"); a != b {
		t.Errorf("highestmodseq %s, modseq %s", a, b)
	}

	must(t, os.Link(home+"/new/m", home+"/cur/m:2,"))
	if st := stat(t, home+"/new/m"); st.Nlink != 2 {
		t.Errorf("nlink %d", st.Nlink)
	}
	must(t, os.Remove(home+"/new/m"))
	if st := stat(t, home+"/cur/m:2,"); st.Nlink != 1 {
		t.Errorf("nlink %d", st.Nlink)
	}
	wantText(t, home+"/cur/m:2,", "text")
	must(t, os.Symlink("cur/m:2,", home+"/sym"))
	if to, err := os.Readlink(home + "/sym"); err != nil || to != "cur/m:2," {
		t.Error(to, err)
	}
	wantText(t, home+"/sym", "text")
	must(t, os.Symlink("../cur/m:2,", home+"/tmp/sym"))
	wantText(t, home+"/tmp/sym", "text")
	must(t, os.Remove(home+"/tmp/sym"))
}
