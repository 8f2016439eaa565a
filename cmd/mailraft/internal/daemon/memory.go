package daemon

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// proxyShare is the part of the daemon's memory limit that each proxy gets.
const proxyShare = 8

// gcPercent is the garbage collector's GOGC. Most of the heap is memtables and contents, which it need not look through: collecting
// twice as often as it would by itself costs next to nothing, and halves what a large message leaves lying about.
const gcPercent = 50

// limitMemory sets this process's soft memory limit, and returns it in bytes: what is configured; or GOMEMLIMIT, which the
// runtime has taken already; or half of the machine's memory.
func limitMemory(configured uint64) uint64 {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if configured == 0 && os.Getenv("GOMEMLIMIT") != "" {
		return uint64(debug.SetMemoryLimit(-1))
	}
	limit := configured
	if limit == 0 {
		limit = machineMemory() / 2
	}
	limit = min(limit, math.MaxInt64)
	debug.SetMemoryLimit(int64(limit))
	return limit
}

// machineMemory is what this process could have, in bytes: the machine's, or less if its cgroup has less.
func machineMemory() uint64 {
	total := uint64(math.MaxInt64)
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		total = uint64(info.Totalram) * uint64(info.Unit)
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return total
	}
	for line := range strings.Lines(string(groups)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for ; path != "" && path != "/"; path = path[:strings.LastIndexByte(path, '/')] {
			b, err := os.ReadFile("/sys/fs/cgroup" + path + "/memory.max")
			if err != nil {
				break
			}
			if max, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
				total = min(total, max)
			}
		}
	}
	return total
}

// resident is how much memory a process has in RAM, in bytes; 0: not known.
func resident(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
