package group

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Propose commits the command on a quorum and answers what applying it gave; a replica that does not lead hands it to the one that
// does. After nil this replica has applied it. When the leader is lost it waits for the next one, and proposes again under the same
// request id: it is applied once. But a group that has had no leader that can be reached for leaderPatience, or commits nothing for
// commitPatience, answers ErrNoLeader, and then at once until it has one that does. Other errors: whatever broke this replica,
// ErrRemoved, and ETIMEDOUT or ErrClosed when the context or the replica ended first. After all of them it may be committed yet:
// Barrier settles that.
func (g *Group) Propose(ctx context.Context, cmd *raftpb.Command) (machine.Result, error) {
	return g.doubts.propose(cmd, g.proposing(ctx))
}

func (g *Group) proposing(ctx context.Context) proposing {
	return func(id *raftpb.Request, data []byte) (machine.Result, bool, error) { return g.propose(ctx, id, data) }
}

// propose also tells whether some leader may have got the command.
func (g *Group) propose(ctx context.Context, id *raftpb.Request, data []byte) (r machine.Result, sent bool, err error) {
	var lost error
	for begin := time.Now(); ; {
		leader, err := g.findLeader(ctx)
		if err != nil {
			return r, sent, errors.Join(err, lost)
		}
		if leader.here {
			r, err = g.proposeOnce(ctx, data)
		} else {
			r, err = g.forward(ctx, leader, id, data)
		}
		again := errors.Is(err, ErrUncertain) || errors.Is(err, ErrNoLeader)
		sent = sent || err != nil && !errors.Is(err, ErrNoLeader)
		if !again {
			return r, sent, err
		}
		if time.Since(begin) > commitPatience {
			return r, sent, errors.Join(ErrNoLeader, err)
		}
		lost = err
		g.pause(ctx)
	}
}

// pause is before another try.
func (g *Group) pause(ctx context.Context) {
	select {
	case <-time.After(retryPause):
	case <-ctx.Done():
	case <-g.stop:
	}
}

func (g *Group) proposeOnce(ctx context.Context, data []byte) (machine.Result, error) {
	f := g.raft.Apply(data, enqueueTime(ctx))
	if err := g.await(ctx, f.Error); err != nil {
		return machine.Result{}, err
	}
	switch r := f.Response().(type) {
	case machine.Result:
		return r, nil
	case error:
		return machine.Result{}, r
	}
	return machine.Result{}, fmt.Errorf("group %s: entry was not applied: %w", g.cfg.Name, syscall.EIO)
}

// await waits for the end of what was asked of Raft or of the leader, which a disk that hangs can keep away, and a shutdown. Its errors are Propose's,
// and ErrUncertain.
func (g *Group) await(ctx context.Context, ask func() error) error {
	done := make(chan error, 1)
	g.waiting.begin()
	go func() {
		err := ask()
		g.waiting.end()
		done <- err
	}()
	look := time.NewTimer(commitPatience)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return g.explain(err)
		case <-look.C:
			left := g.waiting.patience()
			if left <= 0 {
				return ErrUncertain
			}
			look.Reset(left)
		case <-ctx.Done():
			return g.explain(ctx.Err())
		case <-g.failed:
			return g.Err()
		case <-g.stop:
			return ErrClosed
		}
	}
}

// explain says what an error of Raft's means to the one who proposed.
func (g *Group) explain(err error) error {
	if broken := g.Err(); broken != nil {
		return broken
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrSealed): // the next segment could not be made, and raft-wal does not try again
		g.fail(err)
		return g.Err()
	case errors.Is(err, ErrNoLeader), errors.Is(err, ErrUncertain):
		return err
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errors.Join(err, syscall.ETIMEDOUT)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNoLeader
	case errors.Is(err, raft.ErrEnqueueTimeout): // the context's time is over, or the leader's disk hangs
		return ErrNoLeader
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return ErrUncertain
	}
	return fmt.Errorf("commit in group %s: %w", g.cfg.Name, err) // the log's disk failed
}

// enqueueTime is how long Raft may take to take an entry, which it does soon unless its disk hangs. It would wait for ever for 0.
func enqueueTime(ctx context.Context) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return min(max(time.Until(d), time.Nanosecond), commitPatience)
	}
	return commitPatience
}

// Barrier returns nil once everything is applied here that was proposed here before and will ever be committed: also what got no
// answer, which is taken out of the way if it is not committed yet. Errors as Propose's.
func (g *Group) Barrier(ctx context.Context) error {
	if err := g.Err(); err != nil {
		return err
	}
	if g.raft.State() == raft.Leader {
		if err := g.await(ctx, g.barrier(ctx).Error); err != nil && !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrUncertain) {
			return err
		}
	}
	if err := g.doubts.settle(g.proposing(ctx)); err != nil {
		return err
	}
	return g.ReadIndex(ctx)
}
