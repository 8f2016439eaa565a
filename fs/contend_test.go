package fs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sys/unix"
)

// Several processes contend for a few names of one folder: their history has to be linearizable. That is, there has to be an order,
// which puts no operation before one that had ended when it began, in which a plain table of names answers each as it was answered.
// (Listings, and paths through several directories, promise no such thing in any file system.)

const contenderEnv = "MAILRAFT_TEST_CONTENDER"

// contenderSpec is what one of the processes is to do.
type contenderSpec struct {
	Home   string // of the account, on the process's mount
	Number int
	Seed   uint64
	Ops    int
	Alone  bool // there is no other mount
}

// The names: three in cur/, three in new/, and one in tmp/ for each process.
const (
	contenders = 4
	shared     = 6
	allNames   = shared + contenders
)

func contendedPath(home string, name int) string {
	if name >= shared {
		return fmt.Sprintf("%s/.S/tmp/%d", home, name)
	}
	return fmt.Sprintf("%s/.S/%s/%c", home, []string{"cur", "new"}[name/3], 'a'+name%3)
}

// nameOp is one operation, and what it answered.
type nameOp struct {
	Kind     string
	From, To int // names; To alone if there is but one
	Flags    uint
	Ino      uint64 // the file that gets a name
	Errno    syscall.Errno
	Found    uint64 // the file that was made, or found; aDirectory for all of these
	Start    int64
	End      int64
}

const aDirectory = 1

func (o *nameOp) String() string {
	return fmt.Sprintf("%d-%d %s %d %d flags=%d ino=%d: %v %d", o.Start, o.End, o.Kind, o.From, o.To, o.Flags, o.Ino, o.Errno, o.Found)
}

func contend(text string) {
	var spec contenderSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		panic(err)
	}
	c := &contender{contenderSpec: spec, rng: rand.New(rand.NewPCG(spec.Seed, uint64(spec.Number))), own: shared + spec.Number}
	os.Stdout.WriteString("ready\n")
	io.Copy(io.Discard, os.Stdin) // until all are
	for range spec.Ops {
		c.next()
	}
	c.do(nameOp{Kind: "unlink", To: c.own})
	if err := json.NewEncoder(os.Stdout).Encode(c.done); err != nil {
		panic(err)
	}
}

type contender struct {
	contenderSpec
	rng  *rand.Rand
	own  int // the name in tmp/
	done []nameOp
}

func (c *contender) next() {
	a, b := c.rng.IntN(shared), c.rng.IntN(shared-1)
	if b >= a {
		b++
	}
	flags := []uint{0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[c.rng.IntN(3)]
	among := flags
	if !c.Alone {
		// Where the kernel knows an old place of a file, two names may seem to be that file's: then rename(2) does nothing, and answers
		// success. For that reason files get no second name there either.
		among = unix.RENAME_NOREPLACE
	}
	switch c.rng.IntN(12) {
	case 0, 1:
		c.do(nameOp{Kind: "create", To: a})
	case 2, 3: // a delivery
		made := c.do(nameOp{Kind: "create", To: c.own})
		if made.Errno == 0 {
			c.do(nameOp{Kind: "link", Ino: made.Found, From: c.own, To: a})
			c.do(nameOp{Kind: "unlink", To: c.own})
		}
	case 4:
		if c.do(nameOp{Kind: "create", To: c.own}).Errno == 0 {
			c.do(nameOp{Kind: "rename", From: c.own, To: a, Flags: flags &^ unix.RENAME_EXCHANGE})
			c.do(nameOp{Kind: "unlink", To: c.own})
		}
	case 5, 6, 7:
		c.do(nameOp{Kind: "rename", From: a, To: b, Flags: among})
	case 8:
		c.do(nameOp{Kind: "mkdir", To: a})
	case 9:
		c.do(nameOp{Kind: "rmdir", To: a})
	case 10:
		c.do(nameOp{Kind: "unlink", To: a})
	case 11:
		os.ReadDir(filepath.Dir(contendedPath(c.Home, a))) // whose answer is not looked at: it has the kernel take in what is there
		if found := c.do(nameOp{Kind: "look", To: a}); found.Errno == 0 && found.Found != aDirectory && c.Alone {
			c.do(nameOp{Kind: "link", Ino: found.Found, From: a, To: b})
		}
	}
}

// do does an operation and notes it. A link is one of what a name led to a moment before, whatever it leads to by now.
func (c *contender) do(o nameOp) nameOp {
	from, to := contendedPath(c.Home, o.From), contendedPath(c.Home, o.To)
	fd := -1
	if o.Kind == "link" {
		fd, o.Errno = open(from, unix.O_PATH)
		if o.Errno != 0 || inodeOf(fd) != o.Ino {
			unix.Close(fd)
			return o
		}
	}
	o.Start = monotonic()
	var err error
	switch o.Kind {
	case "create":
		fd, o.Errno = open(to, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
	case "link":
		err = unix.Linkat(fd, "", unix.AT_FDCWD, to, unix.AT_EMPTY_PATH)
	case "rename":
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, o.Flags)
	case "mkdir":
		err = unix.Mkdir(to, 0o700)
	case "rmdir":
		err = unix.Rmdir(to)
	case "unlink":
		err = unix.Unlink(to)
	case "look":
		fd, o.Errno = open(to, unix.O_PATH)
	}
	o.End = monotonic()
	if err != nil {
		o.Errno = err.(syscall.Errno)
	}
	if fd >= 0 {
		o.Found = inodeOf(fd)
		file := os.NewFile(uintptr(fd), to)
		if o.Kind == "create" {
			fmt.Fprint(file, o.Found)
		}
		if err := file.Close(); err != nil { // by itself, or its finalizer closes another's descriptor
			panic(err)
		}
	}
	c.done = append(c.done, o)
	return o
}

func open(path string, flags int) (int, syscall.Errno) {
	fd, err := unix.Open(path, flags|unix.O_NOFOLLOW, 0o600)
	errno, _ := err.(syscall.Errno)
	return fd, errno
}

// inodeOf is what the kernel took in when it opened the file, which may have gone by now.
func inodeOf(fd int) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st); err != nil {
		panic(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return aDirectory
	}
	return st.Ino
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// nameTable says which file each name leads to; 0: none.
type nameTable [allNames]uint64

// after tells whether an operation may answer what it did, and what the names are after it.
func (n nameTable) after(o *nameOp) (nameTable, bool) {
	from, to := n[o.From], n[o.To]
	switch {
	case o.Kind == "look":
		return n, o.Errno == 0 && to == o.Found && to != 0 || o.Errno == syscall.ENOENT && to == 0
	case o.Kind == "rename":
		return n.afterRename(o, from, to)
	case o.Kind == "unlink" || o.Kind == "rmdir":
		want := syscall.Errno(0)
		switch {
		case to == 0:
			want = syscall.ENOENT
		case o.Kind == "unlink" && to == aDirectory:
			want = syscall.EISDIR
		case o.Kind == "rmdir" && to != aDirectory:
			want = syscall.ENOTDIR
		default:
			n[o.To] = 0
		}
		return n, o.Errno == want
	case to != 0 && o.Errno == syscall.EEXIST:
		return n, true
	case o.Kind == "link" && o.Errno == syscall.ENOENT:
		// The file has gone. Or it has just lost another name: the kernel takes one off its own count of them then, which somebody who
		// listed the folder in that moment may have brought up to date already.
		return n, true
	case o.Kind == "link" && !slices.Contains(n[:], o.Ino):
		return n, false
	case o.Kind == "mkdir":
		n[o.To] = aDirectory
	case o.Kind == "link":
		n[o.To] = o.Ino
	default:
		n[o.To] = o.Found
	}
	return n, to == 0 && o.Errno == 0
}

func (n nameTable) afterRename(o *nameOp, from, to uint64) (nameTable, bool) {
	want := syscall.Errno(0)
	switch {
	case from == 0:
		want = syscall.ENOENT
	case o.Flags == unix.RENAME_NOREPLACE && to != 0:
		want = syscall.EEXIST
	case o.Flags == unix.RENAME_EXCHANGE && to == 0:
		want = syscall.ENOENT
	case o.Flags == unix.RENAME_EXCHANGE:
		n[o.From], n[o.To] = to, from
	case from == to && from != aDirectory: // rename(2): two names of one file
	case to == aDirectory && from != aDirectory:
		want = syscall.EISDIR
	case to != 0 && to != aDirectory && from == aDirectory:
		want = syscall.ENOTDIR
	default:
		n[o.From], n[o.To] = 0, from
	}
	return n, o.Errno == want
}

// afterElsewhere is after, where other mounts change the names. What a name leads to may then be what it led to a moment ago, so that
// an operation fails, or a file is found: but nothing is done wrong, and no miss is stale. (ESTALE: the kernel knows a directory at its
// old place, and cannot move it there while it renames between directories itself.)
func (n nameTable) afterElsewhere(o *nameOp) (nameTable, bool) {
	next, ok := n.after(o)
	if ok {
		return next, true
	}
	stale := []syscall.Errno{syscall.EEXIST, syscall.EISDIR, syscall.ENOTDIR, syscall.ESTALE}
	return n, slices.Contains(stale, o.Errno) || o.Kind == "look" && o.Errno == 0
}

func TestContention(t *testing.T) {
	t.Run("on one mount", func(t *testing.T) { contention(t, 1) })
	t.Run("on two mounts", func(t *testing.T) { contention(t, 2) })
}

func contention(t *testing.T, mounts int) {
	s := startServer(t, mounts)
	s.do("unlock alice")
	home := s.home("alice")
	for _, dir := range []string{"", "/cur", "/new", "/tmp"} {
		must(t, os.Mkdir(home+"/.S"+dir, 0o700))
	}
	history := runContenders(t, s)
	counts := map[string]int{}
	for _, o := range history {
		counts[fmt.Sprint(o.Kind, " ", o.Errno)]++
	}
	t.Logf("%d operations: %v", len(history), counts)
	if mounts == 1 {
		history = append(history, lookAround(t, home)...)
	}
	s.stop()
	s.start() // to a kernel that knows nothing
	s.do("unlock alice")
	history = append(history, lookAround(t, home)...)
	linearizable(t, history, mounts)
	compareIndex(t, home+"/.S")
	s.do("check all")
}

// runContenders has all processes do their operations at the same time.
func runContenders(t *testing.T, s *testServer) (history []nameOp) {
	seed := uint64(time.Now().UnixNano())
	var running []*exec.Cmd
	var starts []io.Closer
	var outputs []io.Reader
	for i := range contenders {
		b, err := json.Marshal(contenderSpec{Home: s.homeOn(i%len(s.mounts), "alice"), Number: i, Seed: seed, Ops: 300, Alone: len(s.mounts) == 1})
		must(t, err)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), contenderEnv+"="+string(b))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, len("ready\n")))
		must(t, err)
		running, starts, outputs = append(running, cmd), append(starts, in), append(outputs, out)
	}
	for _, in := range starts {
		must(t, in.Close())
	}
	for i, cmd := range running {
		var done []nameOp
		must(t, json.NewDecoder(outputs[i]).Decode(&done)) // they write when they have done all
		must(t, cmd.Wait())
		history = append(history, done...)
	}
	return history
}

// lookAround looks at every name when nothing goes on any more: what it leads to, how many names that says to have, and what it reads.
func lookAround(t *testing.T, home string) (history []nameOp) {
	t.Helper()
	names := map[uint64]int{}
	links := map[uint64]int{}
	for i := range allNames {
		o := nameOp{Kind: "look", To: i, Start: monotonic()}
		path := contendedPath(home, i)
		fd, errno := open(path, unix.O_PATH)
		o.Errno, o.End = errno, monotonic()
		if errno == 0 {
			o.Found = inodeOf(fd)
			unix.Close(fd)
		}
		history = append(history, o)
		if o.Found <= aDirectory {
			continue
		}
		names[o.Found]++
		links[o.Found] = int(stat(t, path).Nlink)
		wantText(t, path, fmt.Sprint(o.Found))
	}
	for ino, n := range names {
		if links[ino] != n {
			t.Errorf("inode %d has %d names, and says that it has %d", ino, n, links[ino])
		}
	}
	return history
}

// linearizable says which operation does not fit if there is no order in which all do.
func linearizable(t *testing.T, history []nameOp, mounts int) {
	t.Helper()
	after := nameTable.after
	if mounts > 1 {
		after = nameTable.afterElsewhere
	}
	model := porcupine.Model{
		Init: func() any { return nameTable{} },
		Step: func(state, input, _ any) (bool, any) {
			next, ok := after(state.(nameTable), input.(*nameOp))
			return ok, next
		},
	}
	var ops []porcupine.Operation
	for i := range history {
		o := &history[i]
		ops = append(ops, porcupine.Operation{Input: o, Call: o.Start, Return: o.End})
	}
	result, info := porcupine.CheckOperationsVerbose(model, ops, 10*time.Second)
	if result == porcupine.Ok {
		return
	}
	var longest []int
	for _, partial := range info.PartialLinearizations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	var text strings.Builder
	var state nameTable
	left := make([]*nameOp, len(history))
	for i := range history {
		left[i] = &history[i]
	}
	for at, i := range longest {
		state, _ = after(state, &history[i])
		left[i] = nil
		if at > len(longest)-30 {
			fmt.Fprintf(&text, "%v\n\t%v\n", &history[i], state)
		}
	}
	text.WriteString("and then one of\n")
	left = slices.DeleteFunc(left, func(o *nameOp) bool { return o == nil })
	slices.SortFunc(left, func(a, b *nameOp) int { return cmp.Compare(a.Start, b.Start) })
	for _, o := range left[:min(len(left), contenders+2)] {
		fmt.Fprintln(&text, o)
	}
	t.Errorf("history: %s. %d of %d operations have an order, which ends with\n%s", result, len(longest), len(history), &text)
}

// compareIndex compares the folder's index with its listings: every message is there once, with a UID of its own.
func compareIndex(t *testing.T, folder string) {
	t.Helper()
	var want []string
	for _, box := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(folder, box))
		must(t, err)
		for _, e := range entries {
			if e.Type().IsRegular() {
				want = append(want, box+"/"+e.Name())
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(folder, ".mailraft-index"))
	must(t, err)
	var got []string
	uids := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		fields := strings.Fields(line)
		if uids[fields[0]] {
			t.Errorf("UID %s is there twice:\n%s", fields[0], text)
		}
		uids[fields[0]] = true
		got = append(got, fields[4])
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the index has %q, the folder %q", got, want)
	}
}
