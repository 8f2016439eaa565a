package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// usage is what a process and its descendants use.
type usage struct {
	cpu      float64 // seconds so far
	resident float64 // MiB, shared pages counted once (Pss)
	rss      float64 // MiB, shared pages counted in each process
}

// ticks a second: USER_HZ, which is 100 on Linux whatever the kernel's own rate.
const ticks = 100

// processes reads parent, CPU time and the like of every process from /proc/PID/stat (proc_pid_stat(5)).
func tree(root int) (usage, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return usage{}, err
	}
	parent, cpu := map[int]int{}, map[int]float64{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 15 {
			continue
		}
		parent[pid], _ = strconv.Atoi(f[1])
		for _, s := range f[11:15] { // utime, stime, and those of children that have ended
			n, _ := strconv.ParseFloat(s, 64)
			cpu[pid] += n / ticks
		}
	}
	var u usage
	for pid := range parent {
		p := pid
		for p > 1 && p != root {
			p = parent[p]
		}
		if p != root {
			continue
		}
		u.cpu += cpu[pid]
		u.resident += rollup(pid, "Pss:")
		u.rss += rollup(pid, "Rss:")
	}
	return u, nil
}

// rollup reads one sum of /proc/PID/smaps_rollup, in MiB.
func rollup(pid int, field string) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			f := strings.Fields(rest)
			if len(f) > 0 {
				kib, _ := strconv.ParseFloat(f[0], 64)
				return kib / 1024
			}
		}
	}
	return 0
}

// dropCaches has the kernel forget what it has cached of all file systems.
func dropCaches() error { return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) }
