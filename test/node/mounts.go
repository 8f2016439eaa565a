package node

import (
	"os"
	"strings"
)

// mountsBelow lists the mount points whose paths begin with prefix, as the kernel has them.
func mountsBelow(prefix string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		// proc_pid_mountinfo(5): the fifth field is the mount point.
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], prefix) {
			all = append(all, f[4])
		}
	}
	return all, nil
}
