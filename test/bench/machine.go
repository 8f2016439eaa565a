package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// describe says on what is measured.
func (b *bench) describe() error {
	disk, err := diskOf(b.dir)
	if err != nil {
		return err
	}
	sync, err := syncTime(b.dir)
	if err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	var memory syscall.Sysinfo_t
	if err := syscall.Sysinfo(&memory); err != nil {
		return err
	}
	_, err = fmt.Fprintf(b.out, "%s, %d processors, %.0f GiB of memory; %s; %s, %.2f ms an fsync; load before: %s\n",
		processor(), runtime.NumCPU(), float64(memory.Totalram)*float64(memory.Unit)/(1<<30), kernel(), disk, sync*1e3, strings.TrimSpace(string(load)))
	return err
}

// processor is the model's name.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(b))
}

// diskOf is the device that a folder is on, its model where it has one, and the file system: what /proc/PID/mountinfo
// (proc_pid_mountinfo(5)) has of its number.
func diskOf(dir string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return "", err
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		mount, fs, _ := strings.Cut(line, " - ")
		m, f := strings.Fields(mount), strings.Fields(fs)
		if len(m) < 3 || m[2] != number || len(f) < 2 {
			continue
		}
		device := filepath.Join("/sys/dev/block", number)
		own, _ := os.ReadFile(device + "/device/model")
		whole, _ := os.ReadFile(device + "/../device/model") // of the disk that a partition is on
		if model := strings.TrimSpace(cmp.Or(string(own), string(whole))); model != "" {
			return fmt.Sprintf("%s on %s (%s)", f[0], f[1], model), nil
		}
		return fmt.Sprintf("%s on %s", f[0], f[1]), nil
	}
	return "disk " + number, nil
}

// syncTime is what the disk takes for an fsync of 4 KiB more of a file, in seconds: the median of some.
func syncTime(dir string) (float64, error) {
	path := filepath.Join(dir, "sync")
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	var took []float64
	for range 100 {
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start).Seconds())
	}
	return median(took), nil
}
