package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"mailraft/fs"
	"mailraft/fs/staging"
)

// spillShare is the part of the memory limit that files being written may fill before they spill to the data folder.
const spillShare = 8

// openMount mounts the store.
func (d *Daemon) openMount(context.Context) error {
	uid, gid, err := d.cfg.Owner()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.cfg.Mount, 0o755); err != nil && !deadMount(d.cfg.Mount) {
		return fmt.Errorf("mount: %w", err)
	}
	area, err := staging.NewArea(staging.Config{
		Dir: filepath.Join(d.cfg.Data, spillFolder), Budget: staging.NewBudget(int64(d.memoryLimit / spillShare)),
	})
	if err != nil {
		return err
	}
	d.mount, err = fs.Mount(fs.Config{
		Mountpoint: d.cfg.Mount, Store: d.store, Keys: d.keyring, Staging: area, UID: uid, GID: gid, Logger: d.log,
		Statfs: func() (st syscall.Statfs_t, err error) { return st, syscall.Statfs(d.cfg.Data, &st) },
	})
	if err != nil {
		return err
	}
	d.atEnd(d.mount.Unmount)
	if d.mountDir, err = openFolder(d.cfg.Mount); err != nil {
		return err
	}
	d.atEnd(d.mountDir.Close)
	return nil
}

// deadMount says whether the path is a mount whose server is gone; fs.Mount takes it away.
func deadMount(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
}
