package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mailraft/raftstore/durable"
)

// The data folder has a file "FORMAT", one line "mailraft data 1, shards 4", or "mailraft data 1, joined" of a node that joined a
// cluster, whose directory says which shards there are; a folder a group; "cluster", what the node proves its name with; and "LOCK",
// which is held while a process has the store open. While the store is made, the line stands in "FORMAT.making".
const (
	formatFile    = "FORMAT"
	newFormatFile = "FORMAT.making"
	formatVersion = 1
)

// ErrFormat says that the folder is not one that this program can open.
var ErrFormat = errors.New("not a data folder of this version")

// ErrNoStore says that the store that must be there is not.
var ErrNoStore = fmt.Errorf("the store that was made here is gone: %w", syscall.ENOENT)

// ErrLocked says that another process has the store open.
var ErrLocked = errors.New("data folder is in use by another process")

// openFolder makes sure that dir is a data folder that nobody else uses, and makes it one if it is empty. It answers how many
// shards the store has, and whether it is still being made: then its groups may be missing, else none may. Where one must exist,
// none is made.
func openFolder(dir string, newShards int, mustExist bool) (lock *os.File, shards int, fresh bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, formatFile)); mustExist && errors.Is(err, os.ErrNotExist) {
		return nil, 0, false, fmt.Errorf("data folder %s: %w; is its disk mounted? put it back, or name an empty data folder", dir, ErrNoStore)
	}
	if err := durable.MkdirAll(dir); err != nil {
		return nil, 0, false, fmt.Errorf("data folder: %w", err)
	}
	lock, err = lockFolder(dir)
	if err != nil {
		return nil, 0, false, err
	}
	shards, err = readFormat(filepath.Join(dir, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		fresh = true
		shards, err = beginFormat(dir, newShards)
	}
	if err != nil {
		lock.Close()
		return nil, 0, false, err
	}
	return lock, shards, fresh, nil
}

func lockFolder(dir string) (*os.File, error) {
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
	return lock, nil
}

// beginFormat notes that a store is being made. A crash while its groups are made leaves the note alone, and the next start goes
// on; endFormat says that all are there.
func beginFormat(dir string, shards int) (int, error) {
	note := filepath.Join(dir, newFormatFile)
	if was, err := readFormat(note); !errors.Is(err, os.ErrNotExist) {
		return was, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if n := e.Name(); n != "LOCK" && n != clusterFolder && n != newFormatFile+".new" {
			return 0, fmt.Errorf("%s has no file %s, but is not empty (%s): %w; name an empty folder to make a new store", dir, formatFile, n, ErrFormat)
		}
	}
	if err := durable.WriteFile(note, formatLine(shards), 0o600); err != nil {
		return 0, fmt.Errorf("make data folder: %w", err)
	}
	return shards, nil
}

func endFormat(dir string) error {
	return durable.Rename(filepath.Join(dir, newFormatFile), filepath.Join(dir, formatFile))
}

func formatLine(shards int) []byte {
	if shards == 0 {
		return fmt.Appendf(nil, "mailraft data %d, joined\n", formatVersion)
	}
	return fmt.Appendf(nil, "mailraft data %d, shards %d\n", formatVersion, shards)
}

// readFormat reads how many shards the store was made with; 0: it joined a cluster.
func readFormat(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("data folder: %w", err)
	}
	var version, shards int
	line := string(b)
	if line == string(formatLine(0)) {
		return 0, nil
	}
	if n, err := fmt.Sscanf(line, "mailraft data %d, shards %d\n", &version, &shards); n < 1 || err != nil && version == formatVersion {
		return 0, fmt.Errorf("%s says %q: %w", path, strings.TrimSpace(line), ErrFormat)
	}
	if version != formatVersion {
		return 0, fmt.Errorf("%s is of version %d, this program knows version %d: %w; start the program that wrote it", path, version, formatVersion, ErrFormat)
	}
	if shards < 1 || shards > 1<<16 || line != string(formatLine(shards)) {
		return 0, fmt.Errorf("%s says %q: %w", path, strings.TrimSpace(line), ErrFormat)
	}
	return shards, nil
}
