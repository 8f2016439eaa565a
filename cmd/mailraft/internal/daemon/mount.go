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

// openMount mounts the store: the whole tree for people and tools, and beside it each shard by itself, for the proxies and other servers.
// The kernel lets one rename between directories at a time wait in each mount, so in one mount for all, a shard without a quorum would
// hold up the others.
func (d *Daemon) openMount(context.Context) error {
	uid, gid, err := d.cfg.Owner()
	if err != nil {
		return err
	}
	area, err := staging.NewArea(staging.Config{
		Dir: filepath.Join(d.cfg.Data, spillFolder), Budget: staging.NewBudget(int64(d.memoryLimit / spillShare)),
	})
	if err != nil {
		return err
	}
	shards := d.store.Shards()
	d.unmounted = make(chan string, len(shards)+1)
	c := fs.Config{
		Mountpoint: d.cfg.Mount, Store: d.store, Keys: d.keyring, Staging: area, UID: uid, GID: gid, Logger: d.log,
		Statfs: func() (st syscall.Statfs_t, err error) { return st, syscall.Statfs(d.cfg.Data, &st) },
	}
	if c.Beside, err = d.mountOne(c); err != nil {
		return err
	}
	for _, sh := range shards {
		c.Shard, c.Mountpoint = sh.ID(), d.cfg.ShardMount(sh.ID())
		if _, err := d.mountOne(c); err != nil {
			return err
		}
	}
	if d.shardsDir, err = openFolder(d.cfg.ShardMounts()); err != nil {
		return err
	}
	d.atEnd("folder of the shards' mounts", d.shardsDir.Close)
	guard := supervise.Start(d.log, child.GuardSpec(d.mountDirs))
	d.atEnd("guard", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), killAfter)
		defer cancel()
		guard.Stop(ctx)
		return nil
	})
	return nil
}

// mountOne mounts, until the end.
func (d *Daemon) mountOne(c fs.Config) (*fs.FS, error) {
	if err := d.clearDeadMount(c.Mountpoint); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Mountpoint, 0o755); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	m, err := fs.Mount(c)
	if err != nil {
		return nil, err
	}
	go func() {
		<-m.Ended()
		d.unmounted <- c.Mountpoint
	}()
	d.atEnd("mount "+c.Mountpoint, m.Unmount)
	root, err := openFolder(c.Mountpoint)
	if err != nil {
		return nil, err
	}
	d.atEnd("folder of the mount "+c.Mountpoint, root.Close)
	d.mountDirs = append(d.mountDirs, root)
	return m, nil
}

// clearDeadMount takes away a mount that a crashed daemon left behind. The kernel may answer a stat of it from its cache, so it
// is asked for what it never caches.
func (d *Daemon) clearDeadMount(path string) error {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
			return nil
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("take the dead mount off %s: %w", path, err)
		}
		d.log.Warn("took away a mount that a crash left behind", "mount", path)
	}
}
