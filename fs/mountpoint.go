package fs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrMountpoint says that a directory cannot be mounted on; the text says why, and what to do.
var ErrMountpoint = errors.New("cannot mount there")

// clearMountpoint makes sure that the directory can be mounted on: empty, and no mount. A mount that a crashed server left behind
// is taken away. It answers the directory's absolute path.
func clearMountpoint(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for { // statfs always asks the server; a stat may be answered from the kernel's cache
		var fs unix.Statfs_t
		err := unix.Statfs(dir, &fs)
		if err != unix.ENOTCONN && err != unix.ECONNABORTED {
			break
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // its server is dead
			return "", fmt.Errorf("%w: take the dead mount off %s: %w", ErrMountpoint, dir, err)
		}
	}
	if fi, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("%w: %w", ErrMountpoint, err)
	} else if !fi.IsDir() {
		return "", fmt.Errorf("%w: %s: %w", ErrMountpoint, dir, syscall.ENOTDIR)
	}
	fstype, err := mountedOn(dir)
	if err != nil {
		return "", err
	}
	if fstype != "" {
		return "", fmt.Errorf("%w: %s is mounted already (%s): unmount it, or stop the server that serves it", ErrMountpoint, dir, fstype)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMountpoint, err)
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%w: %s is not empty (it has %s): name an empty directory", ErrMountpoint, dir, entries[0].Name())
	}
	return dir, nil
}

// mountedOn answers the type of the file system mounted on the directory itself; "" when none is.
func mountedOn(dir string) (string, error) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	fstype := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text()) // proc_pid_mountinfo(5)
		if len(fields) < 6 || unescape(fields[4]) != dir {
			continue
		}
		for i, field := range fields {
			if field == "-" && i+1 < len(fields) {
				fstype = fields[i+1]
			}
		}
	}
	return fstype, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
