package main

import (
	"fmt"
	"syscall"
)

// System calls are made directly: package os would register each file with its poller, which is one more question to a mount.

func retry(fn func() error) error {
	for {
		if err := fn(); err != syscall.EINTR {
			return err
		}
	}
}

// delivery is a delivery to one of the homes as maildir(5) and every MDA does it: create in tmp, write, fsync, close, move to new.
func (l *load) delivery() func(worker, i int) error {
	bodies := make([][]byte, 16)
	for i := range bodies {
		bodies[i] = message(l.Size, uint64(i))
	}
	return func(worker, i int) error {
		home := l.Homes[(i+worker)%len(l.Homes)]
		name := fmt.Sprintf("17000.%s.%d.bench", l.Tag, i)
		tmp, to := home+"/tmp/"+name, home+"/new/"+name
		if err := l.stage(tmp, bodies[i%len(bodies)]); err != nil {
			return fmt.Errorf("%s: %w", tmp, err)
		}
		if l.Rename {
			return retry(func() error { return syscall.Rename(tmp, to) })
		}
		if err := retry(func() error { return syscall.Link(tmp, to) }); err != nil {
			return fmt.Errorf("link %s: %w", to, err)
		}
		return retry(func() error { return syscall.Unlink(tmp) })
	}
}

func (l *load) stage(path string, body []byte) error {
	fd, err := openFile(path, syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY)
	if err != nil {
		return err
	}
	for len(body) > 0 && err == nil {
		var n int
		err = retry(func() (err error) { n, err = syscall.Write(fd, body); return err })
		body = body[max(n, 0):]
	}
	if err == nil && !l.NoSync {
		err = retry(func() error { return syscall.Fsync(fd) })
	}
	if cerr := syscall.Close(fd); err == nil {
		err = cerr
	}
	return err
}

func openFile(path string, flags int) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = syscall.Open(path, flags|syscall.O_CLOEXEC, 0o600)
		return err
	})
	return fd, err
}

// reading is open, read to the end, close of the files in turn.
func (l *load) reading() func(worker, i int) error {
	buffers := make([][]byte, l.Workers)
	for w := range buffers {
		buffers[w] = make([]byte, 64<<10)
	}
	return func(worker, i int) error {
		path := l.Files[i%len(l.Files)]
		fd, err := openFile(path, syscall.O_RDONLY)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		total := 0
		for {
			var n int
			err = retry(func() (err error) { n, err = syscall.Read(fd, buffers[worker]); return err })
			if err != nil || n <= 0 {
				break
			}
			total += n
			if n < len(buffers[worker]) {
				break // as a reader does that knows st_size
			}
		}
		if cerr := syscall.Close(fd); err == nil {
			err = cerr
		}
		if err == nil && total < l.Size {
			err = fmt.Errorf("read %d octets of %d", total, l.Size)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
}
