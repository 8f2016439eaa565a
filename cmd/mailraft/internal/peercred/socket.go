package peercred

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket makes a Unix socket, in place of one that nobody listens on any more.
func Socket(path string, mode os.FileMode, gid int) (*net.UnixListener, error) {
	if err := clearDead(path); err != nil {
		return nil, err
	}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := admit(path, mode, gid); err != nil {
		l.Close()
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// clearDead takes away a socket whose process is dead.
func clearDead(path string) error {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s: another process listens there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // such as one whose owner does not come round to accepting
		return nil
	}
	if st, err := os.Lstat(path); err != nil || st.Mode()&os.ModeSocket == 0 {
		return nil
	}
	return os.Remove(path)
}

// private makes sockets without permissions: nobody connects before they have the right ones. The file that bind(2) makes has the
// permissions of the socket's own inode, less the umask; the umask itself is every thread's.
var private = net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0) }), err)
}}

// admit gives a private socket its group and permissions. Whoever may write to its folder can have put another file in its place
// by now: then that is left alone.
func admit(path string, mode os.FileMode, gid int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode != unix.S_IFSOCK || st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s: something else is in the place of the socket that was just made there", path)
	}
	if err := unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "chown", Path: path, Err: err}
	}
	return os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode) // fchmod(2) takes no descriptor of this kind
}
