package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The programs that a server starts get none of its FUSE devices: proc_pid_fdinfo(5) tells that exec closes them.
func TestDevicesAreKept(t *testing.T) {
	s := startServer(t, 2)
	folder := fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	devices := 0
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(folder, e.Name())); err != nil || to != "/dev/fuse" {
			continue
		}
		devices++
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", s.cmd.Process.Pid, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(info), "flags:")
		var flags int
		if _, err := fmt.Sscanf(rest, "%o", &flags); err != nil {
			t.Fatalf("%s: %v", info, err)
		}
		if flags&syscall.O_CLOEXEC == 0 {
			t.Errorf("descriptor %s, of /dev/fuse, is not closed by exec", e.Name())
		}
	}
	if devices != 2 {
		t.Errorf("%d devices for two mounts", devices)
	}
}
