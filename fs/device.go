package fs

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepDevices keeps the FUSE devices of this process from the programs that it starts. Whoever has a device can read what is
// written to its mount; and while anybody has it, a crash of the server does not end the connection: callers then wait in the
// kernel for an answer, and cannot be killed. go-fuse opens it without O_CLOEXEC.
func keepDevices() error {
	const descriptors = "/proc/self/fd"
	entries, err := os.ReadDir(descriptors)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(descriptors, e.Name())); err != nil || to != "/dev/fuse" {
			continue // what ReadDir itself had open is closed again
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return err
		}
		unix.CloseOnExec(fd)
	}
	return nil
}
