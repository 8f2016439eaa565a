package fs

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mailraft/fs/keyring"
	"mailraft/fs/staging"
	"mailraft/raftstore"
)

// eventually waits until what comes by itself is so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestTwoMounts(t *testing.T) {
	s := startServer(t, 2)
	s.do("unlock alice")
	a, b := s.homeOn(0, "alice"), s.homeOn(1, "alice")
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	for i := range 50 {
		msg := fmt.Sprintf("new/%d", i)
		if exists(b + "/" + msg) {
			t.Fatal("there too early")
		}
		write(t, a+"/tmp/x", "text "+msg)
		must(t, os.Rename(a+"/tmp/x", a+"/"+msg))
		if !exists(b + "/" + msg) { // a miss is never stale
			t.Fatal("a delivery that was acknowledged is missed elsewhere")
		}
		wantText(t, b+"/"+msg, "text "+msg)
		if got := names(t, b+"/new"); got != strconv.Itoa(i) {
			t.Fatalf("listing: %q", got)
		}
		cur := fmt.Sprintf("cur/%d:2,S", i)
		must(t, os.Rename(a+"/"+msg, a+"/"+cur))
		if !exists(b + "/" + cur) {
			t.Fatal("a rename that was acknowledged is missed elsewhere")
		}
		eventually(t, "the old name is gone", func() bool { return !exists(b + "/" + msg) })
		must(t, os.Remove(b+"/"+cur))
		eventually(t, "the name is gone", func() bool { return !exists(a + "/" + cur) })
	}

	write(t, a+"/f", "one")
	wantText(t, b+"/f", "one")
	f, err := os.Open(b + "/f")
	must(t, err)
	defer f.Close()
	write(t, a+"/f", "three")
	eventually(t, "new content", func() bool { return read(b+"/f") == "three" })
	eventually(t, "new content in an open file", func() bool {
		buf := make([]byte, 10)
		n, _ := f.ReadAt(buf, 0)
		return string(buf[:n]) == "three"
	})
	eventually(t, "new size", func() bool { return stat(t, b+"/f").Size == 5 })
	must(t, os.Chmod(b+"/f", 0o640))
	eventually(t, "new mode", func() bool { return stat(t, a+"/f").Mode&0o777 == 0o640 })
	must(t, os.Link(b+"/f", b+"/g"))
	eventually(t, "new link count", func() bool { return stat(t, a+"/f").Nlink == 2 })
	must(t, os.Mkdir(a+"/d", 0o700))
	wantErr(t, "mkdir", os.Mkdir(b+"/d", 0o700), syscall.EEXIST)
	must(t, os.Mkdir(b+"/d/e", 0o700))
	wantErr(t, "rmdir", unix.Rmdir(a+"/d"), syscall.ENOTEMPTY)
	must(t, os.Remove(a+"/d/e"))
	eventually(t, "the directory can go", func() bool { return unix.Rmdir(b+"/d") == nil })
	eventually(t, "the directory is gone", func() bool { return !exists(a + "/d") })

	// Staged where the folder has gone elsewhere.
	for _, dir := range []string{"", "/cur", "/new", "/tmp"} {
		must(t, os.Mkdir(a+"/.F"+dir, 0o700))
	}
	write(t, a+"/.F/tmp/x", "x")
	must(t, os.Remove(b+"/.F/tmp"))
	eventually(t, "tmp is gone", func() bool { return !exists(a + "/.F/tmp/x") })

	s.do("add carol")
	if !exists(s.homeOn(1, "carol")+"/new") || !exists(s.homeOn(0, "carol")) {
		t.Error("a new account is missing")
	}
	s.do("remove carol")
	eventually(t, "the account is gone", func() bool { return !exists(s.homeOn(0, "carol")) && !exists(s.homeOn(1, "carol")) })
}

func TestExclusiveCreateLocksAcrossMounts(t *testing.T) {
	s := startServer(t, 2)
	won := make(chan int, 2)
	for round := range 100 {
		for i := range 2 {
			go func() {
				f, err := os.OpenFile(s.homeOn(i, "alice")+fmt.Sprint("/lock", round), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					won <- 0
					return
				}
				f.Close()
				won <- 1
			}()
		}
		if n := <-won + <-won; n != 1 {
			t.Fatalf("%d made the lock", n)
		}
	}
}

func TestLockDropsOpenPlaintext(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	s.do("unlock alice")
	write(t, home+"/tmp/m", "secret")
	must(t, os.Rename(home+"/tmp/m", home+"/new/m"))
	f, err := os.Open(home + "/new/m")
	must(t, err)
	defer f.Close()
	b := make([]byte, 100)
	if n, err := f.ReadAt(b, 0); n != 6 {
		t.Fatal(n, err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, 6, unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(mapped)
	if !bytes.Equal(mapped, []byte("secret")) {
		t.Errorf("mapped %q", mapped)
	}
	s.do("lock alice")
	_, err = f.ReadAt(b, 0)
	wantErr(t, "read after the lock", err, syscall.ENOKEY)
	s.do("unlock alice")
	if n, _ := f.ReadAt(b, 0); string(b[:n]) != "secret" {
		t.Errorf("after an unlock: %q", b[:n])
	}
	s.do("lock alice")
	_, err = f.ReadAt(b, 0)
	wantErr(t, "read after the second lock", err, syscall.ENOKEY)
}

// Mail that comes after an account got another key pair is sealed to that one.
func TestANewKeyIsUsedAtOnce(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	write(t, home+"/tmp/a", "before")
	must(t, os.Rename(home+"/tmp/a", home+"/new/a"))
	s.do("rekey alice")
	write(t, home+"/tmp/b", "after")
	must(t, os.Rename(home+"/tmp/b", home+"/new/b"))
	s.do("unlock alice")
	if b, err := os.ReadFile(home + "/new/b"); string(b) != "after" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := os.ReadFile(home + "/new/a"); err == nil {
		t.Errorf("sealed to the key before, and yet read: %q", b)
	}
}

func TestIndex(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	deliver := func(name, text string) {
		write(t, home+"/tmp/x", text)
		when := time.Unix(1_700_000_000, 0)
		must(t, os.Chtimes(home+"/tmp/x", when, when))
		must(t, os.Rename(home+"/tmp/x", home+"/new/"+name))
	}
	deliver("a", "12345")
	deliver("b\n\\", "123")
	deliver("c", "1")
	index := func(suffix string) []string {
		text, err := os.ReadFile(home + "/.mailraft-index" + suffix)
		must(t, err)
		return strings.Split(string(text), "\n")
	}
	full := index("")
	modseq := func() string { return xattr(t, home, "user.mailraft.highestmodseq") }
	head := fmt.Sprintf("#mailraft-index 1 uidvalidity=%s uidnext=4 highestmodseq=%s messages=3 since=0", xattr(t, home, "user.mailraft.uidvalidity"), modseq())
	if full[0] != head || len(full) != 5 {
		t.Fatalf("index %q, want first %q", full, head)
	}
	fields := strings.Fields(full[2])
	if want := []string{"2", xattr(t, home+"/new/b\n\\", "user.mailraft.modseq"), "3", "1700000000", `new/b\n\\`}; fmt.Sprint(fields) != fmt.Sprint(want) {
		t.Errorf("line %q, want %q", fields, want)
	}
	since := modseq()
	must(t, os.Rename(home+"/new/a", home+"/cur/a:2,S"))
	must(t, os.Remove(home+"/new/c"))
	changes := index("@" + since)
	if len(changes) != 4 || !strings.HasSuffix(changes[0], "messages=2 since="+since) || !strings.HasSuffix(changes[1], " cur/a:2,S") ||
		changes[2] != "vanished 3 "+modseq() {
		t.Errorf("changes %q", changes)
	}
	if got := index("@0"); len(got) != 4 {
		t.Errorf("all changes %q", got)
	}
	for _, name := range []string{"@", "@x", "@01", "@-1", "x"} {
		if exists(home + "/.mailraft-index" + name) {
			t.Errorf("there is an index %q", name)
		}
	}
	if exists(home + "/new/.mailraft-index") {
		t.Error("new/ has an index")
	}
	if got := names(t, home); got != "cur new tmp" {
		t.Errorf("home lists %q", got)
	}
}

func TestCrash(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	wantErr(t, "second mount", mountError(s, s.mounts[0]), syscall.Errno(0))
	var acknowledged []string
	died := make(chan struct{})
	ready := make(chan struct{})
	go func() {
		defer close(died)
		for i := 0; ; i++ {
			name := fmt.Sprint(i)
			if err := os.WriteFile(home+"/tmp/"+name, []byte("text "+name), 0o600); err != nil {
				return
			}
			if err := os.Link(home+"/tmp/"+name, home+"/new/"+name); err != nil {
				return
			}
			acknowledged = append(acknowledged, name)
			if i == 50 {
				close(ready)
			}
			os.Remove(home + "/tmp/" + name)
		}
	}()
	<-ready
	s.kill()
	<-died
	s.start() // takes the dead mount away
	s.do("unlock alice")
	for _, name := range acknowledged {
		wantText(t, home+"/new/"+name, "text "+name)
	}
	if got := names(t, home+"/tmp"); got != "" {
		t.Errorf("tmp has %q", got)
	}
}

// mountError is what a second mount on a mountpoint says: nil when it is refused as it should be.
func mountError(s *testServer, path string) error {
	fmt.Fprintf(s.in, "mount %s\n", path)
	if got := s.answer(); !strings.Contains(got, "is mounted already") {
		return fmt.Errorf("second mount: %s", got)
	}
	return syscall.Errno(0)
}

func TestMountpointsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "")
	for path, want := range map[string]string{dir: "not empty", dir + "/file": "not a directory", dir + "/none": "no such file"} {
		if _, err := clearMountpoint(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	empty := filepath.Join(dir, "e mpty")
	must(t, os.Mkdir(empty, 0o700))
	if got, err := clearMountpoint(empty); err != nil || got != empty {
		t.Error(got, err)
	}
}

// An unmount takes the mount away from under those who use it, and loses nothing that they wrote.
func TestUnmountInUse(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	f, err := os.Create(home + "/f")
	must(t, err)
	defer f.Close()
	f.WriteString("written")
	cat := exec.Command("sleep", "60")
	cat.Dir = home
	must(t, cat.Start())
	defer func() { cat.Process.Kill(); cat.Wait() }()
	s.stop()
	s.start()
	s.do("unlock alice")
	wantText(t, home+"/f", "written")
}

// A mount that nobody uses can be made and ended in the process itself: nothing of it stays behind.
func TestUnmountLeavesNothingRunning(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/mnt", 0o755))
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	store, err := raftstore.Open(t.Context(), raftstore.Config{Dir: dir + "/data", NodeID: "n1", Shards: 1, MinFree: 1, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer store.Close()
	area, err := staging.NewArea(staging.Config{Dir: dir + "/staging"})
	must(t, err)
	keys := keyring.New(keyring.Config{})
	defer keys.Close()
	for range 2 {
		m, err := Mount(Config{Mountpoint: dir + "/mnt", Store: store, Keys: keys, Staging: area, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		must(t, m.Unmount())
		<-m.Ended()
		must(t, m.Unmount()) // again does nothing
	}
}
