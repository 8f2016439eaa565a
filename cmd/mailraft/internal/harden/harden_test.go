package harden

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProcess hardens a process of its own, since it cannot be undone.
func TestProcess(t *testing.T) {
	if os.Getenv("HARDEN") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "HARDEN=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := Process(); err != nil {
		t.Fatal(err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Error("core dumps:", core, err)
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		t.Error("dumpable:", n, err)
	}
	// Children have it from whichever thread starts them.
	out, err := exec.Command("grep", "NoNewPrivs", "/proc/self/status").Output()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "1") {
		t.Errorf("%q, %v", out, err)
	}
}
