package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mailraft/raftstore/durable"
)

// The state lies in a folder "state-..." whose name stands in the file "STATE". The files of a snapshot from the leader are linked into a
// folder of its own; writing its name into STATE is the moment at which it becomes the state.
const (
	stateFile   = "STATE"
	statePrefix = "state-"
	firstState  = statePrefix + "first"
)

// stateDir finds the folder of the state, and clears away what a crash has left of others. A snapshot that had come whole
// before the crash is installed first: Raft counts on it.
func (g *Group) stateDir() (string, error) {
	if g.snapshots.got {
		if _, err := g.install(); err != nil {
			return "", fmt.Errorf("install received snapshot: %w", err)
		}
	}
	b, err := os.ReadFile(filepath.Join(g.cfg.Dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return filepath.Join(g.cfg.Dir, firstState), g.clear(firstState)
	}
	if err != nil {
		return "", err
	}
	name := string(b)
	if !strings.HasPrefix(name, statePrefix) || strings.Contains(name, "/") {
		return "", fmt.Errorf("%s is corrupt: it names %q", filepath.Join(g.cfg.Dir, stateFile), name)
	}
	if _, err := os.Stat(filepath.Join(g.cfg.Dir, name)); err != nil {
		return "", err
	}
	return filepath.Join(g.cfg.Dir, name), g.clear(name)
}

// clear removes every state but the one named, and checkpoints that were being sent.
func (g *Group) clear(keep string) error {
	entries, err := os.ReadDir(g.cfg.Dir)
	for _, e := range entries {
		if n := e.Name(); strings.HasPrefix(n, statePrefix) && n != keep || strings.HasPrefix(n, checkpointPrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(g.cfg.Dir, n)))
		}
	}
	return err
}

// replaceState has a received snapshot become the state. The one before goes when its last reader has ended.
func (g *Group) replaceState() error {
	before := g.stateAt
	dir, err := g.install()
	if err != nil {
		return err
	}
	db, err := g.openState(dir)
	if err != nil {
		return err
	}
	g.stateAt = dir
	err = g.store.Swap(db, func() {
		if err := os.RemoveAll(before); err != nil { // the next start does
			g.log.Warn("removing the state before the snapshot", "error", err)
		}
	})
	if err != nil {
		g.log.Warn("closing the state before the snapshot", "error", err)
	}
	return nil
}

// install makes the state of the snapshot that was received, and answers its folder.
func (g *Group) install() (string, error) {
	dir, err := os.MkdirTemp(g.cfg.Dir, statePrefix)
	if err != nil {
		return "", err
	}
	received := filepath.Join(g.snapshots.dir, receivedFolder)
	files, err := os.ReadDir(received)
	for _, f := range files {
		err = errors.Join(err, os.Link(filepath.Join(received, f.Name()), filepath.Join(dir, f.Name())))
	}
	if err := errors.Join(err, durable.SyncDir(dir)); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	if err := durable.WriteFile(filepath.Join(g.cfg.Dir, stateFile), []byte(filepath.Base(dir)), 0o600); err != nil {
		return "", err
	}
	return dir, g.snapshots.installed()
}
