package child

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"mailraft/cmd/mailraft/internal/supervise"
)

// A daemon that is killed may not die: one of its threads may wait in the kernel, deaf to signals, for the lock of a directory of its own
// mount, to drop a name that another node has removed. Who has the lock waits for the daemon's answer. So neither ends, the daemon keeps
// its ports and its data folder's lock, and nobody can start it again. Somebody else has to end the mount: the guard, whom the kernel tells
// when the daemon dies.

// daemonDied is the signal that tells it. The pipe would not: a process that can't die keeps its descriptors.
const daemonDied = syscall.SIGUSR1

// GuardSpec is how the guard of the mounts is run. It has each mount's root open, so it knows this mount from any that comes after it.
func GuardSpec(mounts []*os.File) supervise.Spec {
	return supervise.Spec{
		Name: "guard", Args: []string{"mailraft", "guard", strconv.Itoa(len(mounts))}, Env: []string{"PATH=/nonexistent", "GOMAXPROCS=1"},
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), DeathSignal: daemonDied,
		Files: mounts,
		Hello: func() ([]byte, error) { return binary.LittleEndian.AppendUint32(nil, uint32(unix.Gettid())), nil },
	}
}

// starterGone is closed if the thread that started this process, whose end is the signal, has ended: maybe before anybody here waited for the
// signal, which is lost then.
func starterGone() <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		var thread [4]byte
		_, err := io.ReadFull(os.NewFile(supervise.Pipe, "hello"), thread[:])
		if err != nil || unix.Tgkill(os.Getppid(), int(binary.LittleEndian.Uint32(thread[:])), 0) == unix.ESRCH {
			close(gone)
		}
	}()
	return gone
}

// Guard is the life of the guard of so many mounts: it returns when the daemon asked it to end, or when it has died and the mounts are ended.
// Whoever waits for an answer gets ECONNABORTED.
func Guard(mounts int) error {
	died, stop := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(died, daemonDied)
	signal.Notify(stop, syscall.SIGTERM)
	if err := begin("guard"); err != nil {
		return err
	}
	select {
	case <-stop:
		return nil
	case <-died:
	case <-starterGone():
	}
	// This ends the server's connection first. The mount itself stays, as this process has it open: who delivers by its path must not find
	// an empty folder there.
	var errs []error
	for i := range mounts {
		if err := unix.Unmount(fdPath(supervise.FirstFile+i), unix.MNT_FORCE); err != nil && err != unix.EBUSY {
			errs = append(errs, fmt.Errorf("end a mount of a daemon that died: %w", err))
		}
	}
	return errors.Join(errs...)
}
