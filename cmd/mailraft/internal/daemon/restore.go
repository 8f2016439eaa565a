package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"mailraft/cmd/mailraft/internal/config"
	"mailraft/raftstore"
	"mailraft/raftstore/durable"
)

// restoringFile is in a data folder whose first store is being filled from a backup. No daemon starts with such a folder; the next
// restore begins anew.
const restoringFile = "restoring"

// FillNew makes a node's data folder, which must be empty or missing, with a store that fill fills. A folder in which that was cut off
// is emptied first. After an error no daemon starts with the folder.
func FillNew(ctx context.Context, cfg *config.Config, log *slog.Logger, fill func(*raftstore.Store) error) error {
	alone := *cfg
	alone.ClusterListen = ""
	return fillNew(ctx, &alone, log, fill)
}

// Init makes a node's data folder, which must be empty or missing, the first of a new cluster, and answers the fingerprint of its authority.
func Init(ctx context.Context, cfg *config.Config, log *slog.Logger) (fingerprint string, err error) {
	err = fillNew(ctx, cfg, log, func(s *raftstore.Store) error {
		fingerprint = s.Fingerprint()
		return nil
	})
	return fingerprint, err
}

func fillNew(ctx context.Context, cfg *config.Config, log *slog.Logger, fill func(*raftstore.Store) error) error {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return err
	}
	mark := filepath.Join(cfg.Data, restoringFile)
	if _, err := os.Stat(mark); err == nil {
		if err := os.RemoveAll(StoreFolder(cfg.Data)); err != nil {
			return err
		}
	} else if entries, err := os.ReadDir(cfg.Data); err != nil {
		return err
	} else {
		for _, e := range entries {
			if n := e.Name(); n != "lost+found" && n != restoringFile+".new" {
				return fmt.Errorf("data: %s is not empty (%s): %w; name an empty folder (--data)", cfg.Data, n, fs.ErrExist)
			}
		}
	}
	if err := durable.WriteFile(mark, []byte("mailraft restore has begun here, and not ended\n"), 0o600); err != nil {
		return err
	}
	if err := openStopped(ctx, cfg, log, false, fill); err != nil {
		return err
	}
	if err := claim(cfg.Data, cfg.Node); err != nil {
		return err
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(cfg.Data), durable.SyncDir(filepath.Dir(filepath.Clean(cfg.Data))))
}

// FillStopped has fill change the store of a daemon that does not run.
func FillStopped(ctx context.Context, cfg *config.Config, log *slog.Logger, fill func(*raftstore.Store) error) error {
	name, err := NodeName(cfg.Data)
	if err != nil {
		return fmt.Errorf("%s is not the data folder of a node: %w", cfg.Data, err)
	}
	c := *cfg
	c.Node, c.ClusterListen = name, ""
	return openStopped(ctx, &c, log, true, fill)
}

func openStopped(ctx context.Context, cfg *config.Config, log *slog.Logger, existing bool, fill func(*raftstore.Store) error) (err error) {
	uid, gid, err := cfg.Owner()
	if err != nil {
		return err
	}
	store, err := raftstore.Open(ctx, raftstore.Config{
		Dir: StoreFolder(cfg.Data), NodeID: cfg.Node, Existing: existing, Shards: cfg.Shards, UID: uid, GID: gid,
		MinFree: uint64(cfg.MinFree), Listen: cfg.ClusterListen, Advertise: cfg.ClusterAdvertise, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return fill(store)
}
