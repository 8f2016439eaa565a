package fs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, what string, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func wantText(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s reads %.60q (%d octets), %v; want %.60q (%d octets)", filepath.Base(path), got, len(got), err, want, len(want))
	}
}

func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	fi, err := os.Lstat(path)
	must(t, err)
	return fi.Sys().(*syscall.Stat_t)
}

func xattr(t testing.TB, path, name string) string {
	t.Helper()
	b := make([]byte, 1000)
	n, err := unix.Getxattr(path, name, b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

func TestDelivery(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	if got := names(t, s.mounts[0]); got != "example.org" {
		t.Errorf("root lists %q", got)
	}
	if got := names(t, filepath.Dir(home)); got != "alice bob few small" {
		t.Errorf("domain lists %q", got)
	}
	if got := names(t, home); got != "cur new tmp" {
		t.Errorf("home lists %q", got)
	}
	text := strings.Repeat("Subject: hello\r\n\r\nworld\r\n", 300)

	for _, way := range []string{"link", "rename"} {
		tmp, msg := home+"/tmp/"+way, home+"/new/"+way
		f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		must(t, err)
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		must(t, f.Sync())
		must(t, f.Close())
		before := stat(t, tmp)
		if before.Nlink != 1 || before.Size != int64(len(text)) || before.Uid != 5000 {
			t.Errorf("staged: %+v", before)
		}
		if got := names(t, home+"/tmp"); got != way {
			t.Errorf("tmp lists %q", got)
		}
		if way == "link" {
			must(t, os.Link(tmp, msg))
			if a, b := stat(t, tmp), stat(t, msg); a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
				t.Errorf("linked: %+v, %+v", a, b)
			}
			wantErr(t, "link again", os.Link(tmp, msg), syscall.EEXIST)
			must(t, os.Remove(tmp))
		} else {
			must(t, os.Rename(tmp, msg))
		}
		after := stat(t, msg)
		if after.Ino != before.Ino || after.Nlink != 1 || after.Size != before.Size || after.Mtim != before.Mtim {
			t.Errorf("delivered: %+v, staged: %+v", after, before)
		}
		if got := names(t, home+"/tmp"); got != "" {
			t.Errorf("tmp lists %q", got)
		}
		_, err = os.Stat(tmp)
		wantErr(t, "tmp name", err, syscall.ENOENT)
		_, err = os.ReadFile(msg)
		wantErr(t, "read locked", err, syscall.ENOKEY)
	}
	s.do("unlock alice")
	wantText(t, home+"/new/link", text)
	wantText(t, home+"/new/rename", text)
	wantText(t, home+"/new/rename", text)
	if got := xattr(t, home+"/new/rename", "user.mailraft.uid"); got != "2" {
		t.Errorf("uid %q", got)
	}
	must(t, os.Rename(home+"/new/rename", home+"/cur/rename:2,S"))
	if got := xattr(t, home+"/cur/rename:2,S", "user.mailraft.uid"); got != "2" {
		t.Errorf("uid %q after rename", got)
	}
	wantText(t, home+"/cur/rename:2,S", text)
	must(t, os.Remove(home+"/new/link"))
	if got := names(t, home+"/new"); got != "" {
		t.Errorf("new lists %q", got)
	}
	_, err := os.Stat(home + "/new/link")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	s.do("lock alice")
	if b, err := os.ReadFile(home + "/cur/rename:2,S"); !errors.Is(err, syscall.ENOKEY) || bytes.Contains(b, []byte("hello")) {
		t.Errorf("after the lock: %.20q, %v", b, err)
	}
}
