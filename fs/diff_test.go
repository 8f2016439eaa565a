package fs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Random operations are done on the mount and on a tmpfs, by several processes at once, each in a folder of its own of one account:
// results and errno have to be the same. Each is root's or the mail user's, whom permissions bind. What differs by design is in the
// table differences; and what root makes on the tmpfs is given to the mail user, whose it is on the mount at once.

const workerEnv = "MAILRAFT_TEST_WORKER"

// workerSpec is what a process is to do. A failure names it: the same seed does the same again.
type workerSpec struct {
	Mount, Tmpfs string // the folders
	Seed         uint64
	Ops          int
}

func TestAgainstTmpfs(t *testing.T) {
	const workers, ops = 3, 4000
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MAILRAFT_TEST_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, 1)
	s.do("unlock alice")
	shm, err := os.MkdirTemp("/dev/shm", "mailraft-diff-")
	must(t, err)
	defer os.RemoveAll(shm)
	must(t, os.Chmod(filepath.Dir(s.dir), 0o711)) // the mail user goes through it
	must(t, os.Chown(shm, mailUser, mailUser))
	var running []*exec.Cmd
	var outputs []*bytes.Buffer
	for i := range workers {
		spec := workerSpec{filepath.Join(s.home("alice"), fmt.Sprint(".W", i)), filepath.Join(shm, fmt.Sprint(".W", i)), seed + uint64(i), ops}
		for _, root := range []string{spec.Mount, spec.Tmpfs} {
			for _, dir := range []string{"", "/cur", "/new", "/tmp", "/plain", "/plain/sub"} {
				must(t, os.Mkdir(root+dir, 0o700))
				must(t, os.Chown(root+dir, mailUser, mailUser))
			}
		}
		b, err := json.Marshal(spec)
		must(t, err)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), workerEnv+"="+string(b))
		out := new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = out, out
		must(t, cmd.Start())
		running, outputs = append(running, cmd), append(outputs, out)
	}
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil || outputs[i].Len() > 0 {
			t.Errorf("MAILRAFT_TEST_SEED=%d, worker %d: %v\n%s", seed, i, err, outputs[i])
		}
	}
}

// differences are what is different from tmpfs by design. An operation that one of them allows, and that the mount answers with its
// errno, is not done on the tmpfs.
var differences = []struct {
	why   string
	errno syscall.Errno
	of    func(o *op) bool
}{
	{"a committed file does not get into tmp/, and a directory is not swapped with what is staged", syscall.EXDEV, func(o *op) bool {
		return (o.kind == "rename" || o.kind == "link") && (inTmp(o.path2) || o.flags == unix.RENAME_EXCHANGE && inTmp(o.path))
	}},
	{"a staged file that has a committed name does not replace another file", syscall.EXDEV, func(o *op) bool {
		return o.kind == "rename" && inTmp(o.path) && !inTmp(o.path2)
	}},
}

func inTmp(path string) bool { return filepath.Dir(path) == "tmp" }

// op is one operation; result what it answers.
type op struct {
	user        int // whose
	kind        string
	path, path2 string
	flags       int
	handle      int
	off         int64
	size        int
	data        []byte
}

func (o *op) String() string {
	return fmt.Sprintf("%d: %s %q %q flags=%#x handle=%d off=%d size=%d data=%d", o.user, o.kind, o.path, o.path2, o.flags, o.handle, o.off, o.size, len(o.data))
}

type result struct {
	errno syscall.Errno
	text  string
}

// side is one of the two file systems.
type side struct {
	root    string
	handles [4]int
}

type differ struct {
	rng   *rand.Rand
	sides [2]side
	log   []string
}

func workTest(text string) {
	var spec workerSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		panic(err)
	}
	d := &differ{rng: rand.New(rand.NewPCG(spec.Seed, 1))}
	for i, root := range []string{spec.Mount, spec.Tmpfs} {
		d.sides[i] = side{root: root, handles: [4]int{-1, -1, -1, -1}}
	}
	syscall.Umask(0o022)
	if err := syscall.Setgroups([]int{}); err != nil {
		panic(err)
	}
	runtime.LockOSThread()
	for i := range spec.Ops {
		o := d.next()
		become(o.user)
		got := d.sides[0].do(&o)
		d.log = append(d.log, fmt.Sprintf("%d: %v: %v %.200s", i, &o, got.errno, got.text))
		if differs(&o, got.errno) {
			continue
		}
		want := d.sides[1].do(&o)
		become(0)
		d.sides[1].giveAway(&o)
		if got != want && !(got.errno == syscall.ESTALE && d.sides[1].removedPipe(&o)) {
			fmt.Printf("%s\ntmpfs: %v %.200s\n", strings.Join(d.log[max(0, len(d.log)-60):], "\n"), want.errno, want.text)
			if at := firstDifference(got.text, want.text); at > 200 {
				fmt.Printf("%d octets, %d on the tmpfs; other from %d on: %.20q, %.20q\n", len(got.text), len(want.text), at, got.text[at:], want.text[at:])
			}
			if path := os.Getenv("MAILRAFT_TEST_LOG"); path != "" {
				os.WriteFile(path, []byte(strings.Join(d.log, "\n")), 0o600)
			}
			os.Exit(1)
		}
	}
}

// giveAway has what root has made belong to the mail user. Its group may be one that the directory hands down.
func (s *side) giveAway(o *op) {
	fd, err := unix.Open(filepath.Join(s.root, o.path), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if o.kind == "open" && s.handles[o.handle] >= 0 { // through a symbolic link, perhaps
		unix.Close(fd)
		fd, err = unix.Dup(s.handles[o.handle])
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		panic(err)
	}
	gid := -1
	if st.Gid == 0 {
		gid = mailUser
	}
	if st.Uid == 0 {
		if err := unix.Fchownat(fd, "", mailUser, gid, unix.AT_EMPTY_PATH); err != nil {
			panic(err)
		}
	}
}

// removedPipe is of the one difference that an open file shows: an open FIFO is the kernel's alone, so that the mount does not know
// that it is in use after its last name has gone.
func (s *side) removedPipe(o *op) bool {
	var st unix.Stat_t
	return slices.Contains([]string{"fstat", "fchown", "fchmod"}, o.kind) && unix.Fstat(s.handles[o.handle], &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO && st.Nlink == 0
}

// become has the operations that follow, on this thread, be those of a user, who has none of root's capabilities.
func become(user int) {
	unix.SetfsgidRetGid(user)
	unix.SetfsuidRetUid(user)
	if now, _ := unix.SetfsuidRetUid(-1); now != user {
		panic(fmt.Sprintf("the thread is user %d, and not %d", now, user))
	}
}

func firstDifference(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func differs(o *op, errno syscall.Errno) bool {
	for _, d := range differences {
		if errno == d.errno && d.of(o) {
			return true
		}
	}
	return false
}

var opKinds = []string{
	"open", "open", "open", "close", "pread", "pwrite", "pwrite", "write", "ftruncate", "fsync", "fstat", "stat", "stat", "unlink", "unlink",
	"mkdir", "rmdir", "rename", "rename", "rename", "link", "link", "symlink", "readlink", "truncate", "chmod", "utimes", "setxattr", "getxattr",
	"listxattr", "removexattr", "list", "list", "fallocate", "read", "mknod", "chmod", "chown", "chown", "fchown", "fchmod",
}

func (d *differ) pick(list ...int) int { return list[d.rng.IntN(len(list))] }

func (d *differ) path() string {
	dirs := []string{"cur", "new", "tmp", "tmp", "plain", "plain/sub", "plain/a"}
	return dirs[d.rng.IntN(len(dirs))] + "/" + string(rune('a'+d.rng.IntN(4)))
}

func (d *differ) next() op {
	o := op{user: d.pick(0, 0, mailUser), kind: opKinds[d.rng.IntN(len(opKinds))], path: d.path(), path2: d.path(), handle: d.rng.IntN(4)}
	o.off, o.size = int64(d.rng.IntN(20_000)), d.rng.IntN(10_000)
	switch o.kind {
	case "open":
		o.flags = d.pick(unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR) | d.pick(0, unix.O_CREAT, unix.O_CREAT, unix.O_CREAT|unix.O_EXCL) |
			d.pick(0, 0, unix.O_TRUNC) | d.pick(0, 0, unix.O_APPEND) | unix.O_NONBLOCK
	case "rename":
		o.flags = d.pick(0, 0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE)
	case "pwrite", "write":
		o.data = bytes.Repeat([]byte{byte('a' + d.rng.IntN(26))}, d.pick(0, 1, 100, 5000, 70_000))
	case "setxattr":
		o.flags = d.pick(0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE)
		o.data = []byte(fmt.Sprint(d.rng.IntN(1000)))
	case "fallocate":
		o.flags = d.pick(0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE)
		if o.flags == unix.FALLOC_FL_ZERO_RANGE { // tmpfs does not do it
			o.flags = 0
		}
	case "mknod":
		o.flags = d.pick(unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK)
	case "chmod", "fchmod":
		o.flags = d.pick(0o600, 0o644, 0o4755, 0o2711, 0o400, 0o6755, 0o4666, 0o1777)
	case "chown", "fchown": // to (-1, -1) is left out: FUSE does not tell it from nothing, where a tmpfs clears set-user-ID
		o.flags, o.size = d.pick(mailUser, mailUser+1), d.pick(mailUser, mailUser+1, -1)
	}
	return o
}

func (s *side) do(o *op) result {
	text, err := s.try(o)
	errno, _ := err.(syscall.Errno)
	if err != nil {
		text = ""
	}
	return result{errno, text}
}

func (s *side) try(o *op) (string, error) {
	path, path2, fd := filepath.Join(s.root, o.path), filepath.Join(s.root, o.path2), s.handles[o.handle]
	xname := "user.x" + fmt.Sprint(o.size%3)
	buf := make([]byte, 100_000)
	switch o.kind {
	case "open":
		if fd >= 0 {
			unix.Close(fd)
		}
		var err error
		if s.handles[o.handle], err = unix.Open(path, o.flags, 0o640); err != nil {
			s.handles[o.handle] = -1
		}
		return "", err
	case "close":
		s.handles[o.handle] = -1
		return "", unix.Close(fd)
	case "pread":
		n, err := unix.Pread(fd, buf[:o.size], o.off)
		return string(buf[:max(n, 0)]), err
	case "pwrite":
		n, err := unix.Pwrite(fd, o.data, o.off)
		return fmt.Sprint(n), err
	case "write":
		n, err := unix.Write(fd, o.data)
		return fmt.Sprint(n), err
	case "ftruncate":
		return "", unix.Ftruncate(fd, o.off)
	case "fsync":
		return "", unix.Fsync(fd)
	case "fstat":
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		return statText(&st), err
	case "stat":
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		return statText(&st), err
	case "unlink":
		return "", unix.Unlink(path)
	case "mkdir":
		return "", unix.Mkdir(path, 0o750)
	case "rmdir":
		return "", unix.Rmdir(path)
	case "rename":
		return "", unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path2, uint(o.flags))
	case "link":
		return "", unix.Link(path, path2)
	case "symlink":
		return "", unix.Symlink(filepath.Base(o.path2), path)
	case "readlink":
		n, err := unix.Readlink(path, buf)
		return string(buf[:max(n, 0)]), err
	case "truncate":
		return "", unix.Truncate(path, o.off)
	case "chmod":
		return "", unix.Chmod(path, uint32(o.flags))
	case "fchmod":
		return "", unix.Fchmod(fd, uint32(o.flags))
	case "chown":
		return "", unix.Lchown(path, o.flags, o.size)
	case "fchown":
		return "", unix.Fchown(fd, o.flags, o.size)
	case "utimes":
		ts := []unix.Timespec{{Sec: 1000}, {Sec: 1_000_000 + int64(o.size)}}
		return "", unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	case "mknod":
		return "", unix.Mknod(path, uint32(o.flags)|0o600, 0)
	case "fallocate":
		return "", unix.Fallocate(fd, uint32(o.flags), o.off, int64(o.size)+1)
	case "read":
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		n, err := unix.Read(fd, buf)
		return string(buf[:max(n, 0)]), err
	case "list":
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil {
			return "", err.(*os.PathError).Err
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name()+" "+e.Type().String())
		}
		slices.Sort(names)
		return strings.Join(names, ", "), nil
	}
	return s.tryXattr(o, path, xname, buf)
}

func (s *side) tryXattr(o *op, path, name string, buf []byte) (string, error) {
	switch o.kind {
	case "setxattr":
		return "", unix.Lsetxattr(path, name, o.data, o.flags)
	case "getxattr":
		n, err := unix.Lgetxattr(path, name, buf)
		return string(buf[:max(n, 0)]), err
	case "removexattr":
		return "", unix.Lremovexattr(path, name)
	case "listxattr":
		n, err := unix.Llistxattr(path, buf)
		names := strings.Split(string(buf[:max(n, 0)]), "\x00")
		slices.Sort(names)
		return strings.Join(names, " "), err
	}
	panic(o.kind)
}

// statText is what must be the same of a status: not times, unless they were set (to long ago), and no sizes of directories.
func statText(st *unix.Stat_t) string {
	text := fmt.Sprintf("mode=%o uid=%d gid=%d nlink=%d", st.Mode, st.Uid, st.Gid, st.Nlink)
	if st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		text += fmt.Sprintf(" size=%d", st.Size)
		if st.Mtim.Sec < 1e9 {
			text += fmt.Sprintf(" mtime=%d", st.Mtim.Sec)
		}
	}
	return text
}
