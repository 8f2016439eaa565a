package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/raftstore/durable"
)

// A replica that is made anew for a node that had one before has forgotten whom it voted for, and what it said was on its disk. That one was
// removed from the group since; but who has missed that may still count on it. So the new one begins in the term that the old one ended in,
// and votes for nobody before it has shown, once, all that a leader of the group knew to be committed: its own adding is in that. The
// file "joining" in the group's folder says that it has not.
const joiningFile = "joining"

// neverElected is how long a joining replica does without a leader before it stands for election. As it takes in the group's log, the newest
// configuration that it knows may be one in which its predecessor voted, perhaps alone.
const neverElected = 365 * 24 * time.Hour

// errJoining answers who wants the vote of a replica that has only begun to be one.
var errJoining = errors.New("this replica has not caught up yet, and votes for nobody")

// beginJoining is called before Raft is started.
func (g *Group) beginJoining(isNew bool) error {
	path := filepath.Join(g.cfg.Dir, joiningFile)
	if isNew {
		if err := durable.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		if g.cfg.LeastTerm > 0 {
			if err := g.wal.SetUint64([]byte("CurrentTerm"), g.cfg.LeastTerm); err != nil {
				return err
			}
		}
	}
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		close(g.caughtUp)
		return nil
	}
	return err
}

// endJoining waits until the replica is one like the others.
func (g *Group) endJoining() {
	for {
		err := g.WaitMember(g.life)
		if err == nil {
			err = os.Remove(filepath.Join(g.cfg.Dir, joiningFile)) // after a power cut it may be there again, and is removed again
		}
		switch {
		case err == nil:
			close(g.caughtUp)
			g.reload(func(c *raft.ReloadableConfig) { c.HeartbeatTimeout, c.ElectionTimeout = g.cfg.Election, g.cfg.Election })
			g.log.Info("the replica has caught up")
			return
		case errors.Is(err, ErrBroken), g.closing():
			return
		}
		select {
		case <-time.After(10 * retryPause):
		case <-g.stop:
			return
		}
	}
}

// reload changes Raft's configuration.
func (g *Group) reload(change func(*raft.ReloadableConfig)) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	c := g.raft.ReloadableConfig()
	change(&c)
	if err := g.raft.ReloadConfig(c); err != nil {
		g.log.Error("setting Raft's configuration", "error", err)
	}
}

// IsJoining tells whether this replica has not caught up with its group yet: it shows nothing that can be relied on.
func (g *Group) IsJoining() bool {
	select {
	case <-g.caughtUp:
		return false
	default:
		return true
	}
}

// WaitCaughtUp waits until it has.
func (g *Group) WaitCaughtUp(ctx context.Context) error {
	select {
	case <-g.caughtUp:
		return nil
	case <-g.failed:
		return g.Err()
	case <-g.stop:
		return ErrClosed
	case <-ctx.Done():
		return g.explain(ctx.Err())
	}
}

// Term is the newest term that this replica has heard of.
func (g *Group) Term() uint64 { return g.raft.CurrentTerm() }

// refuses tells whether a message is to be answered with an error instead of by Raft.
func (g *Group) refuses(rpc raft.RPC) error {
	switch rpc.Command.(type) {
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest, *raft.TimeoutNowRequest:
		if g.IsJoining() {
			return fmt.Errorf("group %s: %w", g.cfg.Name, errJoining)
		}
	}
	return nil
}
