package fs

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/fs/seal"
)

// What sealing says, in the kernel's words. Anything else is the errno that the error holds, or EIO.
var sealErrnos = []struct {
	err   error
	errno syscall.Errno
}{
	{seal.ErrWiped, syscall.ENOKEY},
	{seal.ErrClosed, syscall.ENOKEY}, // a lock took the plaintext away while it was read
	{seal.ErrTooLarge, syscall.EFBIG},
	{seal.ErrCorrupt, syscall.EIO},
	{seal.ErrWrongKey, syscall.EKEYREJECTED},
}

// errnoOf is the errno that an error means.
func errnoOf(err error) syscall.Errno {
	switch e := err.(type) {
	case nil:
		return 0
	case syscall.Errno:
		return e
	}
	for _, s := range sealErrnos {
		if errors.Is(err, s.err) {
			return s.errno
		}
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, context.DeadlineExceeded):
		return syscall.ETIMEDOUT
	}
	return syscall.EIO
}

// status answers an error, and logs those that an operator has to see.
func (m *mount) status(op string, ino uint64, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	errno := errnoOf(err)
	switch errno {
	case syscall.ENOENT:
		// The kernel found the inode by a name that it had cached, and that leads to another one by now, or to none: the name is not missing
		// because the inode is. At ESTALE the kernel looks the name up again.
		if byInode[op] {
			errno = syscall.ESTALE
		}
	case syscall.EIO, syscall.EKEYREJECTED, syscall.ETIMEDOUT, syscall.ENOSPC:
		m.log.Warn("mount cannot do what it was asked", "operation", op, "inode", ino, "error", err)
	}
	return fuse.Status(errno)
}

// byInode are the operations on an inode, not on a name in it.
var byInode = map[string]bool{
	"stat": true, "setattr": true, "truncate": true, "open": true, "opendir": true, "readlink": true,
	"getxattr": true, "listxattr": true, "setxattr": true, "removexattr": true,
}
