package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"mailraft/cmd/mailraft/internal/child"
	"mailraft/cmd/mailraft/internal/supervise"
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
	if err := d.clearDeadMount(); err != nil {
		return err
	}
	if err := os.MkdirAll(d.cfg.Mount, 0o755); err != nil {
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
	d.atEnd("mount", d.mount.Unmount)
	if d.mountDir, err = openFolder(d.cfg.Mount); err != nil {
		return err
	}
	d.atEnd("mount folder", d.mountDir.Close)
	guard := supervise.Start(d.log, child.GuardSpec(d.mountDir))
	d.atEnd("guard", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), killAfter)
		defer cancel()
		guard.Stop(ctx)
		return nil
	})
	return nil
}

// clearDeadMount takes away a mount that a crashed daemon left behind. The kernel may answer a stat of it from its cache, so it
// is asked for what it never caches.
func (d *Daemon) clearDeadMount() error {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(d.cfg.Mount, &st)
		if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
			return nil
		}
		if err := unix.Unmount(d.cfg.Mount, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("take the dead mount off %s: %w", d.cfg.Mount, err)
		}
		d.log.Warn("took away a mount that a crash left behind", "mount", d.cfg.Mount)
	}
}
