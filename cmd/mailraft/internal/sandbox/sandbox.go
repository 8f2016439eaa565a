package sandbox

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Limits are what a process keeps.
type Limits struct {
	// Mail is the folder below which it reads, writes and lists.
	Mail string
	// Socket is the name of the only Unix socket that it connects to, of at most 12 octets, in the folder SocketFolder, which is its working
	// directory.
	Socket       string
	SocketFolder string
	Log          *slog.Logger
}

// Enter confines the calling process, all of its threads, for good. Where the kernel lacks something it does the rest: Landlock needs
// 5.19 (Debian 12 has 6.1), and knows more with each version. What is lacking is logged.
func Enter(l Limits) error {
	if err := l.landlock(); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	switch err := l.seccomp(); {
	case errors.Is(err, errNoSeccomp):
		l.Log.Warn("no seccomp filter: a proxy that is taken over may use all system calls", "error", err)
	case err != nil:
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}

// mailAccess is what a maildir needs: no link but a hard one, no device, socket or pipe, and nothing is run.
const mailAccess = ll.AccessFSReadFile | ll.AccessFSReadDir | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRefer |
	ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir

// landlock takes the file system, and as far as the kernel's version goes: TCP (connect and bind, 6.7), devices (6.10), signals to
// others and abstract sockets (6.12), Unix sockets. What is open already, the listening sockets for one, stays.
func (l Limits) landlock() error {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 2 { // 1 can't rename from one folder to another
		l.Log.Warn("no Landlock: a proxy that is taken over reaches what the mail user may read", "abi", abi)
		return nil
	}
	l.Log.Debug("confined by Landlock", "abi", abi)
	return landlock.V11.BestEffort().Restrict(
		landlock.PathAccess(mailAccess, l.Mail),
		landlock.PathAccess(ll.AccessFSResolveUnix, l.SocketFolder),
	)
}
