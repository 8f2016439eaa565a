package node

import (
	"os"
	"slices"
	"strings"
)

// mountsBelow lists the mount points whose paths begin with one of the prefixes, as the kernel has them.
func mountsBelow(prefixes ...string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		// proc_pid_mountinfo(5): the fifth field is the mount point.
		f := strings.Fields(line)
		if len(f) > 4 && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(f[4], p) }) {
			all = append(all, f[4])
		}
	}
	return all, nil
}
