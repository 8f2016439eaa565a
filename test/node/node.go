package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a daemon may take to start, to stop, or to do what it is told.
const patience = 60 * time.Second

// Node is a data folder with a mount, and the daemon that serves them, when it runs.
type Node struct {
	Data, Mount, Run string // folders
	Name             string // among the nodes of its cluster; "": it is alone
	Addresses               // of the running daemon

	t         testing.TB
	program   string
	host      string // where it listens
	namespace string // network namespace; "": the test's
	disk      string // where the file system is mounted that its data has for itself; "": it has none
	clock     string // file by which its wall clock is moved; "": it is the machine's
	ahead     time.Duration
	flags     []string
	process   *process // nil: it does not run
	expected  map[string]bool
}

// Addresses are where a daemon listens: host:port.
type Addresses struct {
	SMTP, LMTP, Submission, Submissions, IMAP, IMAPS, POP3, POP3S string
	LMTPSocket                                                    string // "unix:" and a path
}

// Option changes how a node is run.
type Option func(*Node)

// Flags are added to the command line of serve.
func Flags(flags ...string) Option { return func(n *Node) { n.flags = append(n.flags, flags...) } }

// Racing takes a program that was built with the race detector.
func Racing() Option { return func(n *Node) { n.program = racing(n.t) } }

// Running takes another program, by its path.
func Running(program string) Option { return func(n *Node) { n.program = program } }

// Expecting announces errors in the log, by their messages.
func Expecting(messages ...string) Option {
	return func(n *Node) {
		for _, m := range messages {
			n.expected[m] = true
		}
	}
}

// New makes the folders of a node that does not run yet.
func New(t testing.TB, options ...Option) *Node {
	t.Helper()
	root, err := os.MkdirTemp("", fmt.Sprintf("mailraft-%d-", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{
		Data: filepath.Join(root, "data"), Mount: filepath.Join(root, "mail"), Run: filepath.Join(root, "run"),
		t: t, host: "127.0.0.1", expected: map[string]bool{},
	}
	n.LMTPSocket = "unix:" + filepath.Join(root, "lmtp.sock")
	for _, o := range options {
		o(n)
	}
	if n.program == "" {
		n.program = Program(t)
	}
	t.Cleanup(func() { n.end(root) })
	if err := os.Mkdir(n.Mount, 0o755); err != nil {
		t.Fatal(err)
	}
	return n
}

// Start makes a node and starts its daemon.
func Start(t testing.TB, options ...Option) *Node {
	t.Helper()
	n := New(t, options...)
	n.Start()
	return n
}

// process is one run of a daemon.
type process struct {
	pid     int
	log     *os.File // where what the daemon and its children write to standard error is read
	journal *journal
	done    chan struct{} // closed when it has ended
	err     error         // how, once done
}

// Command is the command line of serve for this node, for a test that wants to run it in another way.
func (n *Node) Command() []string {
	free := net.JoinHostPort(n.host, "0")
	args := []string{
		"serve", "--data", n.Data, "--mount", n.Mount, "--run", n.Run, "--hostname", "localhost", "--log-format", "json",
		"--cluster-listen", "",
		"--smtp-listen", free, "--lmtp-listen", free + "," + n.LMTPSocket,
		"--submission-listen", free, "--submission-listen-tls", free,
		"--imap-listen", free, "--imap-listen-tls", free,
		"--pop3-listen", free, "--pop3-listen-tls", free,
	}
	command := append(append([]string{n.program}, args...), n.flags...)
	if n.clock != "" {
		command = append([]string{"env", clockVariable + "=" + n.clock}, command...)
	}
	return command
}

// Start starts the daemon and returns when it serves.
func (n *Node) Start() {
	n.t.Helper()
	n.Launch()
	n.Await()
}

// Await returns when a daemon that was launched serves.
func (n *Node) Await() {
	n.t.Helper()
	n.AwaitLog(0, "serving")
	for _, proxy := range []string{"smtp", "imap", "pop3"} {
		n.AwaitLog(0, "child started", "child", proxy)
	}
	n.learn()
}

// Launch starts the daemon and returns at once.
func (n *Node) Launch() {
	n.t.Helper()
	if n.process != nil {
		n.t.Fatal("the daemon runs already")
	}
	p, err := launch(n.Command(), n.namespace)
	if err != nil {
		n.t.Fatal(err)
	}
	n.process = p
	if dir := os.Getenv("MAILRAFT_TEST_LOGS"); dir != "" {
		n.keepLog(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.log", strings.ReplaceAll(n.t.Name(), "/", "-"), n.Name, p.pid)))
	}
}

// keepLog writes the daemon's log to a file, which stays, once it has ended.
func (n *Node) keepLog(path string) {
	p := n.process
	go func() {
		p.journal.await(0, func(Entry) bool { return false }, 24*time.Hour)
		if err := os.WriteFile(path, []byte(p.journal.all()), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
}

// launch starts a process that dies with this one. The kernel watches the thread that started it (prctl(2), PR_SET_PDEATHSIG), so
// that thread stays, and ends, with it. With a network namespace, the thread and so the process are there.
func launch(command []string, namespace string) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &process{log: r, journal: newJournal(), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Stderr = w
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var err error
		if namespace != "" {
			err = enter(namespace)
		}
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		w.Close()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, r.Close())
	}
	go func() {
		p.journal.read(r)
		r.Close()
	}()
	return p, nil
}

// writers are the processes that have the log open, and what each waits for.
func (p *process) writers() string {
	pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.log.Fd()))
	if err != nil {
		return err.Error()
	}
	var all []string
	fds, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/fd/2")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != pipe {
			continue
		}
		folder := filepath.Dir(filepath.Dir(fd))
		command, _ := os.ReadFile(folder + "/cmdline")
		state, _ := os.ReadFile(folder + "/stat")
		all = append(all, fmt.Sprintf("%s: %q, stat %s", folder, command, state))
		tasks, _ := filepath.Glob(folder + "/task/*")
		for _, task := range tasks {
			if stack, _ := os.ReadFile(task + "/stack"); bytes.Contains(stack, []byte("fuse")) {
				all = append(all, string(stack))
			}
		}
	}
	return strings.Join(all, "\n")
}

// PID is the daemon's process number.
func (n *Node) PID() int { return n.process.pid }

// Kill kills the daemon as a crash does (SIGKILL), and returns when it and its proxies are gone.
func (n *Node) Kill() {
	n.t.Helper()
	if err := syscall.Kill(n.process.pid, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	if err := n.gone(); err != nil {
		n.t.Fatal(err)
	}
}

// Pause has the daemon do nothing (SIGSTOP), as a machine does that hangs, and returns when it has stopped. Its proxies go on, and its port
// takes connections, which nobody answers.
func (n *Node) Pause() {
	n.t.Helper()
	if err := syscall.Kill(n.process.pid, syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	n.Eventually("the daemon is stopped", func() bool { return strings.HasPrefix(n.ProcessField(n.process.pid, "State"), "T") })
}

// Resume has the daemon go on. It finds that time has passed.
func (n *Node) Resume() {
	n.t.Helper()
	if err := syscall.Kill(n.process.pid, syscall.SIGCONT); err != nil {
		n.t.Fatal(err)
	}
}

// Stop stops the daemon as an admin does (SIGTERM). It has to end well, and to leave neither process nor mount.
func (n *Node) Stop() {
	n.t.Helper()
	if err := n.stop(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) stop() error {
	p := n.process
	if err := errors.Join(syscall.Kill(p.pid, syscall.SIGTERM), syscall.Kill(p.pid, syscall.SIGCONT)); err != nil {
		return err
	}
	err := n.gone()
	if err == nil && p.err != nil {
		err = fmt.Errorf("the daemon ended badly at SIGTERM: %w\n%s", p.err, p.journal.tail())
	}
	if mounts, merr := mountsBelow(n.Mount, n.Run); err == nil && (merr != nil || len(mounts) > 0) {
		err = errors.Join(fmt.Errorf("the daemon left mounted: %v", mounts), merr)
	}
	return err
}

// AwaitEnd waits for the daemon to end by itself, and returns what it wrote and how it ended.
func (n *Node) AwaitEnd() (wrote string, how error) {
	n.t.Helper()
	p := n.process
	if err := n.gone(); err != nil {
		n.t.Fatal(err)
	}
	return p.journal.tail(), p.err
}

// gone waits for the end of the daemon and of its children, and looks through its log.
func (n *Node) gone() error {
	p := n.process
	n.process = nil
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		syscall.Kill(p.pid, syscall.SIGKILL)
		unix.Unmount(n.Mount, unix.MNT_FORCE) // else it may wait in the kernel for who waits for it
		<-p.done
		return fmt.Errorf("the daemon did not end in %v; it wrote:\n%s", patience, p.journal.tail())
	}
	if !p.journal.awaitEnd(patience) {
		return fmt.Errorf("the daemon is gone, but not its children: %s; it wrote:\n%s", p.writers(), p.journal.tail())
	}
	if all := p.journal.complaints(n.expected); len(all) > 0 {
		return fmt.Errorf("in the daemon's log:\n%s", strings.Join(all, "\n"))
	}
	return nil
}

// end is the end of the test: what still runs is stopped, what is left is removed and told of.
func (n *Node) end(root string) {
	if n.process != nil {
		if n.t.Failed() {
			n.t.Logf("the end of the daemon's log:\n%s", n.process.journal.tail())
		}
		if err := n.stop(); err != nil {
			n.t.Error(err)
		}
	}
	mounts, err := mountsBelow(n.Mount, n.Run)
	if err != nil {
		n.t.Error(err)
		return
	}
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			n.t.Errorf("%s stays mounted: %v", m, err)
			return // nothing may be removed through it
		}
	}
	if n.disk != "" {
		if err := unix.Unmount(n.disk, unix.MNT_DETACH); err != nil {
			n.t.Error(err)
		}
	}
	if err := os.RemoveAll(root); err != nil {
		n.t.Error(err)
	}
}

// Mounted says whether something is mounted at the node's mount point, alive or dead.
func (n *Node) Mounted() bool {
	n.t.Helper()
	mounts, err := mountsBelow(n.Mount)
	if err != nil {
		n.t.Fatal(err)
	}
	return len(mounts) > 0
}

// Mark is the place in the daemon's log where it is now.
func (n *Node) Mark() int { return n.process.journal.length() }

// AwaitLog waits for an entry of the daemon's log, at mark or later.
func (n *Node) AwaitLog(mark int, msg string, attrs ...any) {
	n.t.Helper()
	if !n.process.journal.await(mark, func(e Entry) bool { return e.Is(msg, attrs...) }, patience) {
		n.t.Fatalf("the daemon did not say %q %v; it wrote:\n%s", msg, attrs, n.process.journal.tail())
	}
}

// Logged counts the entries that have that message and those attributes.
func (n *Node) Logged(msg string, attrs ...any) int {
	j := n.process.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	count := 0
	for _, e := range j.entries {
		if e.Is(msg, attrs...) {
			count++
		}
	}
	return count
}
