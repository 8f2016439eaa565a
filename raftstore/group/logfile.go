package group

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"mailraft/raftstore/durable"
)

// logFS is the raft-wal's file system with one difference: a segment's blocks are written with zeros before it is used. A segment
// that is only preallocated makes the disk's file system commit its own journal at every fsync, to note which blocks hold data
// now; here nothing but the data itself is left to be written, so fdatasync(2) does (docs/performance.md has the figures).
//
// Writing zeros takes a while, so the next segment is made ready in the background, as the file "spare".
type logFS struct {
	*walfs.FS
	mu    sync.Mutex // held while a spare is made or taken
	ready sync.WaitGroup
}

const spareFile = "spare"

func newLogFS() *logFS { return &logFS{FS: walfs.New()} }

// Create implements types.VFS. The folder is synced before it returns: the new segment's name is there before data is.
func (l *logFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spare := filepath.Join(dir, spareFile)
	if !isSpare(spare, size) {
		if err := writeZeros(spare, size); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, name)
	if err := os.Link(spare, path); err != nil { // unlike rename, it fails when the name is taken
		return nil, err
	}
	if err := os.Remove(spare); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := durable.SyncDir(dir); err != nil {
		f.Close()
		return nil, err
	}
	l.ready.Add(1)
	go l.prepare(spare, size)
	return &logFile{f}, nil
}

// isSpare tells whether the file is a segment made ready. After a crash it may be another name of a segment in use.
func isSpare(path string, size uint64) bool {
	fi, err := os.Stat(path)
	return err == nil && uint64(fi.Size()) == size && fi.Sys().(*syscall.Stat_t).Nlink == 1
}

// prepare makes the next segment's file. When it can't, Create will try again and tell why.
func (l *logFS) prepare(spare string, size uint64) {
	defer l.ready.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := writeZeros(spare, size); err != nil {
		os.Remove(spare)
	}
}

// wait waits for what goes on in the background.
func (l *logFS) wait() { l.ready.Wait() }

// OpenWriter implements types.VFS.
func (l *logFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &logFile{f}, nil
}

// writeZeros makes a file of size octets whose blocks are all on the disk.
func writeZeros(path string, size uint64) error {
	partial := path + ".new"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for left := size; left > 0 && err == nil; {
		n := min(left, uint64(len(zeros)))
		_, err = f.Write(zeros[:n])
		left -= n
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, path)
}

// logFile is a segment whose size and blocks do not change any more.
type logFile struct{ *os.File }

// Sync implements types.WritableFile.
func (f *logFile) Sync() error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return err
		}
	}
}
