package fs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Another process that uses the mount is this program again, told what to do with a file a line at a time.

const childEnv = "MAILRAFT_TEST_CHILD" // the file

// child is such a process, as the test sees it.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startChild(t *testing.T, path string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+path)
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	must(t, err)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	must(t, c.cmd.Start())
	c.in, c.out = in, bufio.NewScanner(out)
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// begin tells it something; end is what it says to that.
func (c *child) begin(format string, args ...any) { fmt.Fprintf(c.in, format+"\n", args...) }
func (c *child) end() string {
	c.out.Scan()
	return c.out.Text()
}

func (c *child) want(answer, format string, args ...any) {
	c.t.Helper()
	c.begin(format, args...)
	if got := c.end(); got != answer {
		c.t.Errorf(format+": %q, want %q", append(args, got, answer)...)
	}
}

// waits returns when the kernel has it wait for a lock, which proc_locks(5) shows by an arrow.
func (c *child) waits() {
	c.t.Helper()
	eventually(c.t, "the process waits for the lock", func() bool {
		locks, err := os.ReadFile("/proc/locks")
		must(c.t, err)
		return slices.ContainsFunc(strings.Split(string(locks), "\n"), func(line string) bool {
			f := strings.Fields(line)
			return len(f) > 5 && f[1] == "->" && f[5] == fmt.Sprint(c.cmd.Process.Pid)
		})
	})
}

// childMain is the process.
func childMain(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		answer, err := childDo(f, strings.Fields(s.Text()))
		var errno syscall.Errno
		switch {
		case errors.As(err, &errno):
			answer = unix.ErrnoName(errno)
		case err != nil:
			answer = err.Error()
		}
		fmt.Println(answer)
	}
}

var fcntlKinds = map[string]int16{"read": unix.F_RDLCK, "write": unix.F_WRLCK, "un": unix.F_UNLCK}

func childDo(f *os.File, cmd []string) (string, error) {
	switch cmd[0] {
	case "setlk", "setlkw", "getlk":
		lk := unix.Flock_t{Type: fcntlKinds[cmd[1]]}
		fmt.Sscan(cmd[2], &lk.Start)
		fmt.Sscan(cmd[3], &lk.Len)
		how := map[string]int{"setlk": unix.F_SETLK, "setlkw": unix.F_SETLKW, "getlk": unix.F_GETLK}[cmd[0]]
		err := unix.FcntlFlock(f.Fd(), how, &lk)
		if cmd[0] == "getlk" && err == nil {
			return fmt.Sprint(lk.Type, " ", lk.Start, " ", lk.Len, " ", lk.Pid), nil
		}
		return "ok", err
	case "flock":
		how := 0
		for _, word := range cmd[1:] {
			how |= map[string]int{"shared": unix.LOCK_SH, "exclusive": unix.LOCK_EX, "un": unix.LOCK_UN, "now": unix.LOCK_NB}[word]
		}
		return "ok", unix.Flock(int(f.Fd()), how)
	case "reopen": // and close that
		g, err := os.Open(f.Name())
		if err == nil {
			err = g.Close()
		}
		return "ok", err
	case "map": // read through a memory mapping
		size := 0
		fmt.Sscan(cmd[1], &size)
		mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%q", mapped), unix.Munmap(mapped)
	case "churn": // make and remove names in a directory, until the next word comes
		return "ok", churn(cmd[1], cmd[2])
	}
	return "", fmt.Errorf("command %q", cmd)
}

// Mutt locks by fcntl(2), with dot-locks beside it; Dovecot by fcntl(2) or flock(2), as it is told.
func TestLocksBetweenProcesses(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	for _, path := range []string{s.home("alice") + "/dovecot.index.log", s.home("alice") + "/tmp/staged"} {
		write(t, path, "")
		a, b := startChild(t, path), startChild(t, path)

		a.want("ok", "setlk write 0 10")
		b.want("EAGAIN", "setlk write 5 10")
		b.want("EAGAIN", "setlk read 9 1")
		b.want("ok", "setlk write 10 10")
		b.want(fmt.Sprint(unix.F_WRLCK, " 0 10 ", a.cmd.Process.Pid), "getlk read 3 1")
		b.begin("setlkw write 5 5")
		b.waits()
		a.want("EDEADLK", "setlkw write 10 1")
		a.want("ok", "setlk un 5 5") // a part of it
		if got := b.end(); got != "ok" {
			t.Errorf("after the unlock: %q", got)
		}
		a.want("EAGAIN", "setlk read 5 1")
		b.want("ok", "setlk un 0 0")
		a.want("ok", "setlk read 0 0")
		b.want("ok", "setlk read 0 0")
		a.want("EAGAIN", "setlk write 0 1")
		a.want("ok", "reopen") // fcntl(2): closing any descriptor of the file drops the process's locks
		b.want("ok", "setlk write 0 0")
		a.begin("setlkw read 0 1")
		a.waits()
		b.kill()
		if got := a.end(); got != "ok" {
			t.Errorf("after the death: %q", got)
		}
		a.want("ok", "setlk un 0 0")

		b = startChild(t, path)
		a.want("ok", "flock shared")
		b.want("ok", "flock shared now")
		b.want("EAGAIN", "flock exclusive now")
		b.want("ok", "flock un")
		b.begin("flock exclusive")
		b.waits()
		a.want("ok", "reopen") // flock(2): which is another open file
		b.waits()
		a.want("ok", "flock un")
		if got := b.end(); got != "ok" {
			t.Errorf("after the unlock: %q", got)
		}
		a.want("EAGAIN", "flock shared now")
		a.begin("flock exclusive")
		a.waits()
		b.kill()
		if got := a.end(); got != "ok" {
			t.Errorf("after the death: %q", got)
		}
	}
}

// Memory mappings show the file as it is, and what is written through one is stored.
func TestMemoryMappings(t *testing.T) {
	s := startServer(t, 2)
	s.do("unlock alice")
	home := s.home("alice")
	const size = 3<<20 + 100
	text := []byte(strings.Repeat("0123456789abcde\n", size/16+1)[:size])
	mapFile := func(path string, flags, prot, how int) ([]byte, *os.File) {
		t.Helper()
		f, err := os.OpenFile(path, flags, 0)
		must(t, err)
		mapped, err := unix.Mmap(int(f.Fd()), 0, size, prot, how)
		must(t, err)
		return mapped, f
	}
	write(t, home+"/tmp/m", string(text))
	must(t, os.Link(home+"/tmp/m", home+"/new/m"))
	must(t, os.Remove(home+"/tmp/m"))
	for _, how := range []int{unix.MAP_SHARED, unix.MAP_PRIVATE} {
		prot := unix.PROT_READ
		if how == unix.MAP_PRIVATE {
			prot |= unix.PROT_WRITE
		}
		mapped, f := mapFile(home+"/new/m", os.O_RDONLY, prot, how)
		must(t, f.Close())
		if string(mapped) != string(text) {
			t.Errorf("mapped %d: not what was delivered", how)
		}
		must(t, os.Rename(home+"/new/m", home+"/cur/m")) // which changes nothing of it
		must(t, os.Rename(home+"/cur/m", home+"/new/m"))
		if how == unix.MAP_PRIVATE {
			copy(mapped, "private")
		}
		if string(mapped[1<<20:]) != string(text[1<<20:]) {
			t.Errorf("mapped %d: changed by a rename", how)
		}
		must(t, unix.Munmap(mapped))
	}
	wantText(t, home+"/new/m", string(text))

	for _, path := range []string{home + "/f", home + "/tmp/f"} {
		write(t, path, string(text))
		other := startChild(t, path)
		mapped, f := mapFile(path, os.O_RDWR, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		copy(mapped, "first")
		other.want(`"first"`, "map 5")
		_, err := f.WriteAt([]byte("F"), 0)
		must(t, err)
		if string(mapped[:5]) != "First" {
			t.Errorf("%s: mapped %q after a write", path, mapped[:5])
		}
		must(t, unix.Msync(mapped, unix.MS_SYNC))
		copy(mapped[2<<20:], "second")
		must(t, f.Close())
		copy(mapped[size-6:], "third!") // after the close
		must(t, unix.Munmap(mapped))
		want := slices.Clone(text)
		copy(want, "First")
		copy(want[2<<20:], "second")
		copy(want[size-6:], "third!")
		wantText(t, path, string(want))
		if path == home+"/tmp/f" {
			must(t, os.Link(path, home+"/new/f"))
			path = home + "/new/f"
		}
		eventually(t, "what was written after the close is committed", func() bool {
			b, err := os.ReadFile(s.homeOn(1, "alice") + strings.TrimPrefix(path, home))
			must(t, err)
			return string(b) == string(want)
		})
		defer func() { wantText(t, path, string(want)) }()
	}
	s.kill()
	s.start()
	s.do("unlock alice")
}

// churn makes and removes names in a directory until somebody has removed the file stop.
func churn(dir, stop string) error {
	for i := 0; ; i++ {
		if _, err := os.Lstat(stop); err != nil {
			return nil
		}
		name := fmt.Sprintf("%s/churn-%d-%d", dir, os.Getpid(), i%40)
		err := os.Remove(name)
		if errors.Is(err, syscall.ENOENT) {
			err = os.WriteFile(name, nil, 0o600)
		}
		if err != nil {
			return err
		}
	}
}

// dirStream is a directory as opendir(3) has it.
type dirStream struct {
	t   *testing.T
	fd  int
	buf []byte
}

func (d *dirStream) seek(off int64) {
	d.t.Helper()
	_, err := unix.Seek(d.fd, off, io.SeekStart)
	must(d.t, err)
}

// rest reads what is left: the names that stay, and behind each the offset that telldir(3) gives there.
func (d *dirStream) rest() (names []string, offsets []int64, others map[string]bool) {
	d.t.Helper()
	others = map[string]bool{}
	for {
		n, err := unix.Getdents(d.fd, d.buf)
		must(d.t, err)
		if n == 0 {
			return names, offsets, others
		}
		for b := d.buf[:n]; len(b) > 0; {
			var off int64
			for i := range 8 {
				off |= int64(b[8+i]) << (8 * i)
			}
			length := int(b[16]) | int(b[17])<<8
			name, _, _ := strings.Cut(string(b[19:length]), "\x00")
			if strings.HasPrefix(name, "stays-") {
				names, offsets = append(names, name), append(offsets, off)
			} else if others[name] {
				d.t.Errorf("%s is listed twice", name)
			} else {
				others[name] = true
			}
			b = b[length:]
		}
	}
}

// readdir(3): while others make and remove names, those that stay are listed once; rewinddir(3) shows what is there now; and
// seekdir(3) goes on where telldir(3) was.
func TestListingWhileOthersChange(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	must(t, os.Mkdir(home+"/plain", 0o700))
	for _, dir := range []string{home + "/new", home + "/tmp", home + "/plain"} {
		var want []string
		for i := range 200 {
			name := fmt.Sprintf("stays-%03d", i)
			write(t, dir+"/"+name, "")
			want = append(want, name)
		}
		stop, file := home+"/stop", home+"/file"
		write(t, stop, "")
		write(t, file, "")
		s.do("unlock alice")
		churners := []*child{startChild(t, file), startChild(t, file)}
		for _, c := range churners {
			c.begin("churn %s %s", dir, stop)
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		d := &dirStream{t, fd, make([]byte, 1000)}
		for round := range 40 {
			must(t, os.WriteFile(fmt.Sprintf("%s/now-%d", dir, round), nil, 0o600))
			d.seek(0)
			names, offsets, others := d.rest()
			sorted := slices.Sorted(slices.Values(names))
			if !slices.Equal(sorted, want) {
				t.Fatalf("%s: round %d lists %d names of %d: %q", dir, round, len(names), len(want), sorted)
			}
			if !others[fmt.Sprint("now-", round)] || others[fmt.Sprint("now-", round-1)] || !others["."] || !others[".."] {
				t.Fatalf("%s: round %d lists beside them: %v", dir, round, others)
			}
			for _, at := range []int{len(names) - 1, round, 0, 150 - round} {
				d.seek(offsets[at])
				if again, _, _ := d.rest(); !slices.Equal(again, names[at+1:]) {
					t.Fatalf("%s: after seekdir behind %s come %d names, want %d: %q", dir, names[at], len(again), len(names)-at-1, again)
				}
			}
			must(t, os.Remove(fmt.Sprintf("%s/now-%d", dir, round)))
		}
		must(t, unix.Close(fd))
		must(t, os.Remove(stop))
		for _, c := range churners {
			if got := c.end(); got != "ok" {
				t.Errorf("%s: %s", dir, got)
			}
		}
	}
}

// An account's files are sealed to its key: another account gets copies, which mv(1) makes when it is told EXDEV.
func TestAcrossAccounts(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	s.do("unlock bob")
	alice, bob := s.home("alice"), s.home("bob")
	write(t, alice+"/tmp/m", "text")
	must(t, os.Rename(alice+"/tmp/m", alice+"/new/m"))
	write(t, alice+"/tmp/staged", "staged")
	write(t, bob+"/f", "bob's")
	must(t, os.Mkdir(alice+"/d", 0o700))
	must(t, os.Symlink("m", alice+"/s"))
	for _, from := range []string{"/new/m", "/tmp/staged", "/d", "/s"} {
		for _, flags := range []uint{0, unix.RENAME_NOREPLACE} {
			for _, to := range []string{"/x", "/new/x", "/tmp/x"} {
				wantErr(t, "rename "+from+to, unix.Renameat2(unix.AT_FDCWD, alice+from, unix.AT_FDCWD, bob+to, flags), syscall.EXDEV)
			}
		}
		wantErr(t, "exchange "+from, unix.Renameat2(unix.AT_FDCWD, alice+from, unix.AT_FDCWD, bob+"/f", unix.RENAME_EXCHANGE), syscall.EXDEV)
		if from != "/d" {
			wantErr(t, "link "+from, unix.Link(alice+from, bob+"/x"), syscall.EXDEV)
		}
	}
	wantErr(t, "over a file", os.Rename(alice+"/new/m", bob+"/f"), syscall.EXDEV)
	wantErr(t, "into the domain", os.Rename(alice+"/d", s.mounts[0]+"/example.org/d"), syscall.EPERM)
	if got := names(t, bob) + "; " + names(t, bob+"/new") + "; " + names(t, bob+"/tmp"); got != "cur f new tmp; ; " {
		t.Errorf("bob has %q", got)
	}
	out, err := exec.Command("mv", alice+"/new/m", alice+"/d", bob+"/").CombinedOutput()
	if err != nil {
		t.Fatalf("mv: %v\n%s", err, out)
	}
	wantText(t, bob+"/m", "text")
	if got := names(t, bob) + "; " + names(t, alice) + "; " + names(t, alice+"/new"); got != "cur d f m new tmp; cur new s tmp; " {
		t.Errorf("after mv: %q", got)
	}
	s.do("lock alice")
	wantText(t, bob+"/m", "text")
}
