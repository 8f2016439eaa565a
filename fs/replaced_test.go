package fs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A mount that is not told of changes is the same as one whose shard a snapshot replaces: it has old names, attributes and pages in the
// kernel, and old tables, and only hears that anything may be other. Another mount of the same store makes the changes.

func TestReplacedShardIsSeen(t *testing.T)   { testReplaced(t, "shard") }
func TestReplacedAccountIsSeen(t *testing.T) { testReplaced(t, "account") }

func testReplaced(t *testing.T, what string) {
	s := startServer(t, 2)
	s.do("unlock alice")
	here, there := s.homeOn(0, "alice"), s.homeOn(1, "alice")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{".Old", ".Old/cur", ".Kept", ".Kept/cur"} {
		if err := os.Mkdir(filepath.Join(there, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"cur/flagged", "cur/expunged", "cur/open", "notes", "held", ".Old/cur/m", ".Kept/cur/m", ".Kept/cur/n"} {
		write(filepath.Join(there, name), "first "+name)
	}
	all := func(home string) (list []string) {
		filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				t.Error(path, err)
				return nil
			}
			fi, err := os.Lstat(path)
			if err != nil {
				t.Error(path, err)
				return nil
			}
			line := fmt.Sprint(strings.TrimPrefix(path, home), " ", fi.Mode(), " ", fi.ModTime().UnixNano())
			if !d.IsDir() {
				b, err := os.ReadFile(path)
				line += fmt.Sprintf(" %d %q %v", fi.Size(), b, err)
			}
			list = append(list, line)
			return nil
		})
		return list
	}
	all(here) // the kernel has all of it
	open, err := os.Open(filepath.Join(here, "cur/open"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	held, err := os.Open(filepath.Join(here, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	old, kept := startShell(t, filepath.Join(here, ".Old")), startShell(t, filepath.Join(here, ".Kept/cur"))
	staged := filepath.Join(here, "tmp/staged")
	write(staged, "staged")

	change := func(n int) {
		t.Helper()
		s.do("deaf 0")
		write(filepath.Join(there, "notes"), fmt.Sprint("notes as of change ", n))
		write(filepath.Join(there, "held"), fmt.Sprint("held as of change ", n))
		write(filepath.Join(there, fmt.Sprint("cur/new", n)), "new")
	}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		s.do("replaced 0 %s alice", what)
		want := all(there)
		eventually(t, "both mounts show the same", func() bool {
			got := slices.DeleteFunc(all(here), func(s string) bool { return strings.HasPrefix(s, "/tmp/staged ") })
			return slices.Equal(got, want)
		})
	}

	change(1)
	must(os.Rename(filepath.Join(there, "cur/flagged"), filepath.Join(there, "cur/flagged:2,S")),
		os.Rename(filepath.Join(there, "cur/open"), filepath.Join(there, "cur/open:2,S")),
		os.Remove(filepath.Join(there, "cur/expunged")),
		os.RemoveAll(filepath.Join(there, ".Old")), os.Mkdir(filepath.Join(there, ".New"), 0o700),
		os.Remove(filepath.Join(there, ".Kept/cur/m")), os.Chmod(filepath.Join(there, ".Kept/cur/n"), 0o640))
	for _, name := range []string{"cur/flagged", ".Old"} {
		if _, err := os.Lstat(filepath.Join(here, name)); err != nil {
			t.Errorf("%s: %v: the mount has heard of it, so there is nothing to see here", name, err)
		}
	}
	check()
	for _, name := range []string{"cur/flagged", "cur/open", "cur/expunged", ".Old", ".Kept/cur/m"} {
		if _, err := os.Lstat(filepath.Join(here, name)); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(os.Mkdir(filepath.Join(here, ".Old"), 0o700)) // although the shell is in the one before
	if b, err := os.ReadFile(staged); string(b) != "staged" {
		t.Errorf("staged: %q, %v", b, err)
	}
	if got := old.do("stat -c %n cur/m"); !strings.HasPrefix(got, "failed") {
		t.Errorf("in a directory that is gone: %q", got)
	}
	// The file that was open under a name that is gone goes on, and what is written over is seen.
	read := func(f *os.File) string {
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1000))
		return fmt.Sprint(string(b), err)
	}
	if got := read(open); got != "first cur/open<nil>" {
		t.Errorf("open: %q", got)
	}
	eventually(t, "an open file shows what was written", func() bool { return read(held) == "held as of change 1<nil>" })
	// A process in a directory sees what is new, also the next time and the one after: nothing but it has looked there since.
	if got := kept.do("echo *; stat -c %a n"); got != "n 640" {
		t.Errorf("in a directory: %q", got)
	}
	names := []string{"n", "n2", "n3", "n4"}
	for n := 1; n < len(names); n++ {
		was, is := names[n-1], names[n]
		change(n + 1)
		must(os.Rename(filepath.Join(there, ".Kept/cur", was), filepath.Join(there, ".Kept/cur", is)))
		s.do("replaced 0 %s alice", what)
		if got := kept.do("echo *; stat -c %n " + is + "; test ! -e " + was); got != is+" "+is {
			t.Errorf("in a directory, after the %dth time: %q", n+1, got)
		}
	}
	check()
}

// When the directory was replaced, what it does not have is not found.
func TestReplacedDirectoryIsSeen(t *testing.T) {
	s := startServer(t, 2)
	s.do("add carol")
	for _, name := range []string{"alice", "carol"} {
		if _, err := os.Stat(s.homeOn(0, name) + "/cur"); err != nil {
			t.Fatal(err)
		}
	}
	in := startShell(t, s.homeOn(0, "carol"))
	if err := os.WriteFile(s.homeOn(0, "carol")+"/tmp/staged", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.do("deaf 0")
	s.do("remove carol")
	if _, err := os.Stat(s.homeOn(0, "carol")); err != nil {
		t.Fatalf("%v: the mount has heard of it, so there is nothing to see here", err)
	}
	s.do("replaced 0 directory -")
	if _, err := os.Stat(s.homeOn(0, "carol")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("an account that is gone: %v", err)
	}
	if _, err := os.Stat(s.homeOn(0, "alice") + "/cur"); err != nil {
		t.Error(err)
	}
	if got := in.do("ls"); !strings.HasPrefix(got, "failed") {
		t.Errorf("in the home of an account that is gone: %q", got)
	}
	if n := s.do("count files"); n != "0" {
		t.Errorf("%s files are in memory", n)
	}
}

// shell is a process whose working directory is in the mount.
type shell struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

func startShell(t *testing.T, dir string) *shell {
	t.Helper()
	cmd := exec.Command("/bin/sh")
	cmd.Dir, cmd.Stderr = dir, nil
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &shell{t, in, bufio.NewScanner(out)}
}

// do answers what the commands write, in one line, behind "failed" if the last of them failed.
func (s *shell) do(commands string) string {
	s.t.Helper()
	fmt.Fprintf(s.in, "{ %s; } 2>/dev/null && echo =ok || echo =failed\n", commands)
	var words []string
	for s.out.Scan() {
		switch line := s.out.Text(); line {
		case "=ok":
			return strings.Join(words, " ")
		case "=failed":
			return strings.TrimSpace("failed " + strings.Join(words, " "))
		default:
			words = append(words, line)
		}
	}
	s.t.Fatal("the shell has ended")
	return ""
}
