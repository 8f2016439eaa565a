package child

import (
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("GUARD") != "" {
		if err := Guard(0); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// A daemon may die before its guard listens for that: the guard has to end all the same.
func TestGuardOfADaemonThatIsGone(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	guard, hello := startGuard(t)
	if _, err := hello.Write(binary.LittleEndian.AppendUint32(nil, uint32(gone.Process.Pid))); err != nil {
		t.Fatal(err)
	}
	if err := guard.Wait(); err != nil {
		t.Error(err)
	}
}

// While the thread that started it is there, it waits, until it is told to end.
func TestGuardOfADaemonThatLives(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spec := GuardSpec(nil)
	b, err := spec.Hello()
	if err != nil {
		t.Fatal(err)
	}
	guard, hello := startGuard(t)
	if _, err := hello.Write(b); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- guard.Wait() }()
	for left := 1; left > 0; { // until it has read that
		if left, err = unix.IoctlGetInt(int(hello.Fd()), unix.TIOCINQ); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		t.Fatal("it ended:", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := guard.Process.Signal(syscall.SIGUSR1); err != nil { // as the kernel would
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func startGuard(t *testing.T) (*exec.Cmd, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "GUARD=1")
	cmd.ExtraFiles = []*os.File{r}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close(); cmd.Process.Kill() })
	return cmd, w
}
