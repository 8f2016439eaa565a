// Package durable makes folders and files so that a power cut does not take them back: POSIX keeps a new name only once the
// folder that it is in has been synced.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// MkdirAll makes a folder with those above it, as os.MkdirAll does, with mode 0700; its name, and those of the ones above that were
// missing, are on disk when it returns.
func MkdirAll(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	missing := []string{dir} // if it is there, a start that was cut short may have made it without syncing its name
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		missing = append(missing, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, at := range missing {
		if err := SyncDir(filepath.Dir(at)); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir has the names in the folder on disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteFile replaces a file; after a crash the old or the new one is there.
func WriteFile(path string, b []byte, mode os.FileMode) error {
	partial := path + ".new"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return Rename(partial, path)
}

// Rename renames a file within its folder, durably.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}
