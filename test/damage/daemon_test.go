package damage

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long a daemon may take to start or to stop.
const patience = 30 * time.Second

// attempt is a start of a daemon that may fail.
type attempt struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	serves bool

	mu  sync.Mutex
	log bytes.Buffer
}

// try starts the node's daemon and waits until it serves or has ended.
func try(t *testing.T, n *node.Node) *attempt {
	t.Helper()
	argv := n.Command()
	a := &attempt{cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	a.cmd.Dir = "/"
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := a.cmd.StderrPipe()
	must(t, err)
	must(t, a.cmd.Start())
	serving := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			a.mu.Lock()
			a.log.WriteString(lines.Text() + "\n")
			a.mu.Unlock()
			var e struct{ Msg string }
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Msg == "serving" {
				close(serving)
			}
		}
		close(a.ended)
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-serving:
		a.serves = true
	case <-a.ended:
		a.cmd.Wait()
	case <-late.C:
		a.cmd.Process.Kill()
		<-a.ended
		a.cmd.Wait()
		if n.Mounted() {
			unix.Unmount(n.Mount, unix.MNT_DETACH)
		}
		t.Fatalf("neither served nor ended in %v; it wrote:\n%s", patience, a.said())
	}
	return a
}

// said is what the daemon and its proxies have written so far.
func (a *attempt) said() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

// panicked says whether any of the processes did.
func (a *attempt) panicked() bool {
	s := a.said()
	return strings.Contains(s, "panic:") || strings.Contains(s, "goroutine ") || strings.Contains(s, "fatal error:")
}

// stop ends a daemon that serves, whatever its disk is like, and takes away what it leaves mounted.
func (a *attempt) stop(t *testing.T, n *node.Node) {
	t.Helper()
	must(t, a.cmd.Process.Signal(syscall.SIGTERM))
	late := time.AfterFunc(patience, func() { a.cmd.Process.Kill() })
	<-a.ended
	a.cmd.Wait()
	if !late.Stop() {
		t.Errorf("did not stop in %v; it wrote:\n%s", patience, a.said())
	}
	if n.Mounted() {
		unix.Unmount(n.Mount, unix.MNT_DETACH)
	}
}

// refuses starts the daemon, which has to refuse, in words that have all of these in them, one of them its data folder.
func refuses(t *testing.T, n *node.Node, words ...string) {
	t.Helper()
	a := try(t, n)
	if a.serves {
		a.stop(t, n)
		t.Fatalf("it serves")
	}
	if a.panicked() {
		t.Errorf("panic:\n%s", a.said())
	}
	if a.cmd.ProcessState.ExitCode() < 1 {
		t.Errorf("ended with %v", a.cmd.ProcessState)
	}
	for _, w := range append(words, n.Data) {
		if !strings.Contains(a.said(), w) {
			t.Errorf("it does not say %q:\n%s", w, a.said())
		}
	}
}
