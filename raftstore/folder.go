package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The data folder has a file "FORMAT", one line "mailraft data 1, shards 4"; a folder a group; and "LOCK", which is held while a
// process has the store open.
const (
	formatFile    = "FORMAT"
	formatVersion = 1
)

// ErrFormat says that the folder is not one that this program can open.
var ErrFormat = errors.New("not a data folder of this version")

// ErrLocked says that another process has the store open.
var ErrLocked = errors.New("data folder is in use by another process")

// openFolder makes sure that dir is a data folder that nobody else uses, and makes it one if it is empty.
func openFolder(dir string, shards int) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		if errors.Is(err, syscall.EROFS) {
			return nil, fmt.Errorf("data folder %s is on a read-only file system; remount it writable: %w", dir, err)
		}
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if err == syscall.EWOULDBLOCK {
			return nil, fmt.Errorf("%s: %w; stop it first", dir, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := makeFormat(dir, shards); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func makeFormat(dir string, shards int) error {
	if _, err := os.Stat(filepath.Join(dir, formatFile)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n := e.Name(); n != "LOCK" && n != formatFile+".new" {
			return fmt.Errorf("%s has no file %s, but is not empty (%s): %w; name an empty folder to make a new store", dir, formatFile, n, ErrFormat)
		}
	}
	path := filepath.Join(dir, formatFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "mailraft data %d, shards %d\n", formatVersion, shards)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readShards reads how many shards the store was made with.
func readShards(dir string) (int, error) {
	path := filepath.Join(dir, formatFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("data folder: %w", err)
	}
	var version, shards int
	line := string(b)
	if n, err := fmt.Sscanf(line, "mailraft data %d, shards %d\n", &version, &shards); n < 1 || err != nil && version == formatVersion {
		return 0, fmt.Errorf("%s says %q: %w", path, strings.TrimSpace(line), ErrFormat)
	}
	if version != formatVersion {
		return 0, fmt.Errorf("%s is of version %d, this program knows version %d: %w; start the program that wrote it", path, version, formatVersion, ErrFormat)
	}
	if shards < 1 || shards > 1<<16 || line != fmt.Sprintf("mailraft data %d, shards %d\n", version, shards) {
		return 0, fmt.Errorf("%s says %q: %w", path, strings.TrimSpace(line), ErrFormat)
	}
	return shards, nil
}
