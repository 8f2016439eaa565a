package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ProcessField is a field of a process's status (proc_pid_status(5)), its values separated by single spaces.
func (n *Node) ProcessField(pid int, field string) string {
	n.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if values, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(values), " ")
		}
	}
	n.t.Fatalf("process %d has no %s", pid, field)
	return ""
}

// Memory is how much memory a process has resident, in bytes.
func (n *Node) Memory(pid int) uint64 {
	n.t.Helper()
	return n.memory(pid, "VmRSS")
}

// PeakMemory is the most memory that a process had resident since ForgetPeak, or since it began, in bytes.
func (n *Node) PeakMemory(pid int) uint64 {
	n.t.Helper()
	return n.memory(pid, "VmHWM")
}

func (n *Node) memory(pid int, field string) uint64 {
	n.t.Helper()
	var kib uint64
	if _, err := fmt.Sscanf(n.ProcessField(pid, field), "%d kB", &kib); err != nil {
		n.t.Fatal(err)
	}
	return kib << 10
}

// ForgetPeak has PeakMemory begin anew with what a process has resident now (proc_pid_clear_refs(5)).
func (n *Node) ForgetPeak(pid int) {
	n.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		n.t.Fatal(err)
	}
}

// OpenFiles are the paths, or other names, of what a process has open.
func (n *Node) OpenFiles(pid int) []string {
	n.t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		n.t.Fatal(err)
	}
	var all []string
	for _, fd := range fds {
		if path, err := os.Readlink(fd); err == nil { // else it was closed meanwhile
			all = append(all, path)
		}
	}
	return all
}
