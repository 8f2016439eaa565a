package imap

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errUnchanged tells replaceFile that nothing is to be written.
var errUnchanged = errors.New("imap: unchanged")

const (
	lockRetry = 20 * time.Millisecond
	lockStale = 30 * time.Second // a lock this old was left behind by a crash
)

// replaceFile changes a small file of the Maildir++ under Dovecot's dotlock: creating path+".lock" exclusively locks on all nodes,
// the new content is written there, and renaming it over path publishes and unlocks at once.
func (s *session) replaceFile(path string, change func(old []byte) ([]byte, error)) error {
	lock := path + ".lock"
	fd, err := s.lock(lock)
	if err != nil {
		return err
	}
	err = func() error {
		defer unix.Close(fd)
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		text, err := change(old)
		if err != nil {
			return err
		}
		for len(text) > 0 {
			n, err := unix.Write(fd, text)
			if err != nil && err != unix.EINTR {
				return &os.PathError{Op: "write", Path: lock, Err: err}
			}
			text = text[max(n, 0):]
		}
		return nil
	}()
	if err == nil {
		err = os.Rename(lock, path)
	}
	if err != nil {
		os.Remove(lock)
	}
	if err == errUnchanged {
		return nil
	}
	return err
}

// lock creates the lock file, waiting for others to be done with it.
func (s *session) lock(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return fd, nil
		}
		if err != unix.EEXIST && err != unix.EINTR {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		if st, err := os.Stat(path); err == nil && time.Since(st.ModTime()) > lockStale {
			os.Remove(path)
			continue
		}
		select {
		case <-time.After(lockRetry):
		case <-s.ctx.Done():
			return -1, s.ctx.Err()
		}
	}
}
