package imap

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/proxy/maildir"
)

var (
	// errUnchanged tells replaceFile that nothing is to be written.
	errUnchanged = errors.New("imap: unchanged")
	// errLockLost tells that somebody took a lock for stale and broke it.
	errLockLost = errors.New("imap: lock was broken")
)

const (
	lockRetry = 20 * time.Millisecond
	lockStale = 30 * time.Second // a lock this old was left behind by a crash
)

// dotlock is a lock file that this process made. Its inode tells it apart from one that somebody else made after breaking it.
type dotlock struct {
	path string
	fd   int
	made unix.Stat_t
}

// replaceFile changes a small file of the Maildir++ under Dovecot's dotlock: creating path+".lock" exclusively locks on all nodes,
// the new content is written there, and renaming it over path publishes and unlocks at once. change may be called again when the
// lock was lost meanwhile.
func (s *session) replaceFile(path string, change func(old []byte) ([]byte, error)) error {
	for {
		err := s.replaceOnce(path, change)
		switch err {
		case errLockLost:
			continue
		case errUnchanged:
			return nil
		}
		return err
	}
}

func (s *session) replaceOnce(path string, change func(old []byte) ([]byte, error)) error {
	l, err := s.lock(path + ".lock")
	if err != nil {
		return err
	}
	err = l.fill(path, change)
	// What does not fit the quota, or the disk, is told at close: only then is there something to publish.
	if closeErr := unix.Close(l.fd); err == nil && closeErr != nil {
		err = &os.PathError{Op: "close", Path: l.path, Err: closeErr}
	}
	if !l.held() {
		return errLockLost
	}
	if err == nil {
		err = os.Rename(l.path, path)
	}
	if err != nil {
		os.Remove(l.path)
	}
	return err
}

// fill writes the new content into the lock file.
func (l *dotlock) fill(path string, change func(old []byte) ([]byte, error)) error {
	old, err := maildir.ReadBeside(path)
	if err != nil {
		return err
	}
	text, err := change(old)
	if err != nil {
		return err
	}
	for len(text) > 0 {
		n, err := unix.Write(l.fd, text)
		if err != nil && err != unix.EINTR {
			return &os.PathError{Op: "write", Path: l.path, Err: err}
		}
		text = text[max(n, 0):]
	}
	return nil
}

// held says whether the lock is still this one.
func (l *dotlock) held() bool {
	var st unix.Stat_t
	return unix.Lstat(l.path, &st) == nil && sameInode(&st, &l.made)
}

func sameInode(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// lock creates the lock file, waiting for others to be done with it.
func (s *session) lock(path string) (*dotlock, error) {
	for {
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err == nil {
			l := &dotlock{path: path, fd: fd}
			if err := unix.Fstat(fd, &l.made); err != nil {
				unix.Close(fd)
				os.Remove(path)
				return nil, &os.PathError{Op: "stat", Path: path, Err: err}
			}
			return l, nil
		}
		if err != unix.EEXIST && err != unix.EINTR {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil && time.Since(time.Unix(st.Mtim.Unix())) > lockStale {
			if err := breakLock(path, &st); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-time.After(lockRetry):
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
}

// breakLock removes a stale lock. Others may be doing so too, and one of them may have the next lock already: so the file is first
// renamed to a name that nobody else has, and looked at there. A lock that was taken by mistake is put back; its owner, who does
// not find it in between, takes it for lost (held).
func breakLock(path string, stale *unix.Stat_t) error {
	own := path + "." + rand.Text()
	if err := os.Rename(path, own); errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else was faster
	} else if err != nil {
		return err
	}
	var st unix.Stat_t
	if unix.Lstat(own, &st) == nil && !sameInode(&st, stale) {
		if err := os.Link(own, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.Remove(own)
}
