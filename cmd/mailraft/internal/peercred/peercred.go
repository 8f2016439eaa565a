package peercred

import (
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// maxConnections is how many connections a Listener has at once. Its users have one or two each.
const maxConnections = 256

// Listener accepts only connections of the users given, and not too many.
type Listener struct {
	*net.UnixListener
	users []uint32
	log   *slog.Logger
	open  chan struct{} // has an element for each connection
}

// Listen makes the socket with the permissions and group given, in place of one that a dead process left behind; gid -1 leaves
// the group.
func Listen(path string, mode os.FileMode, gid int, log *slog.Logger, users ...uint32) (*Listener, error) {
	l, err := Socket(path, mode, gid)
	if err != nil {
		return nil, err
	}
	return &Listener{l, users, log, make(chan struct{}, maxConnections)}, nil
}

// Accept waits for a connection of one of the users; those of others are closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		cred, err := of(c)
		if err == nil && slices.Contains(l.users, cred.Uid) {
			select {
			case l.open <- struct{}{}:
				return &conn{UnixConn: c, closed: func() { <-l.open }}, nil
			default:
			}
			c.Close()
			l.log.Warn("refused a connection: there are too many", "socket", l.Addr(), "pid", cred.Pid)
			continue
		}
		c.Close()
		if err != nil {
			l.log.Warn("refused a connection whose owner is not known", "socket", l.Addr(), "error", err)
			continue
		}
		l.log.Warn("refused a connection of another user", "socket", l.Addr(), "uid", cred.Uid, "pid", cred.Pid)
	}
}

// conn is an accepted connection.
type conn struct {
	*net.UnixConn
	closing sync.Once
	closed  func()
}

func (c *conn) Close() error {
	c.closing.Do(c.closed)
	return c.UnixConn.Close()
}

func of(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return nil, cerr
	}
	return cred, err
}
