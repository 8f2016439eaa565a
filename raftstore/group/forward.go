package group

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/hashicorp/raft"

	"mailraft/raftstore/machine"
)

// Peers asks the replicas of this group on other nodes, by what Group has under the same names with Here. Where nothing was sent, or the
// replica there is no leader that can go on, the error is ErrNoLeader; where what was sent may be committed yet, ErrUncertain; where the leader's disk
// is almost full, ENOSPC.
type Peers interface {
	// Propose hands a marshalled command to the node, which proposes it if it leads; it does not forward it on.
	Propose(ctx context.Context, node string, command []byte) (machine.Result, Hint, error)
	// ReadIndex asks the node, if it leads, up to where one has to have applied to show all that was acknowledged before.
	ReadIndex(ctx context.Context, node string) (Hint, error)
	// Hint tells the node what is committed, without waiting; it may be dropped, and only the newest counts.
	Hint(node string, h Hint)
}

// forward hands a command to the leader. Errors are Propose's, ErrUncertain, and ErrNoLeader when it was certainly not committed.
func (g *Group) forward(ctx context.Context, l leader, data []byte) (machine.Result, error) {
	asked, cancel := g.whileLeads(ctx, l)
	defer cancel()
	type answer struct {
		r machine.Result
		h Hint
	}
	got := make(chan answer, 1)
	err := g.await(ctx, func() error {
		r, h, err := g.cfg.Peers.Propose(asked, l.node, data)
		got <- answer{r, h}
		return g.explainPeer(ctx, err)
	})
	if err != nil {
		if errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUncertain) {
			g.role.failed(l)
		}
		return machine.Result{}, err
	}
	a := <-got
	g.TakeHint(l.node, a.h)
	within, stop := context.WithTimeout(ctx, commitPatience)
	defer stop()
	return a.r, g.passed.wait(within, g, a.r.Index)
}

// whileLeads is a context that also ends when the leader is another, or the replica is closed.
func (g *Group) whileLeads(ctx context.Context, l leader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for {
			now, _, _, changed := g.role.now()
			if now != l {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-g.stop:
				return
			}
		}
	}()
	return ctx, cancel
}

// explainPeer says what another replica's error means here: whatever it was, that one may have passed the command on to its log.
func (g *Group) explainPeer(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // it says nothing of the leader
		return ctx.Err()
	case errors.Is(err, ErrNoLeader), errors.Is(err, ErrUncertain), errors.Is(err, syscall.ENOSPC):
		return err
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

// ProposeHere proposes a marshalled command for another replica. Errors: ErrNoLeader when this one does not lead, and it is certain
// that it is not committed; ErrUncertain, ErrClosed, ErrBroken, ETIMEDOUT and the log's disk's when it may be.
func (g *Group) ProposeHere(ctx context.Context, command []byte) (machine.Result, Hint, error) {
	if err := g.leadsHere(ctx); err != nil {
		return machine.Result{}, Hint{}, err
	}
	r, err := g.proposeOnce(ctx, command)
	if err != nil {
		return r, Hint{}, err
	}
	return r, g.hint(), nil
}

// leadsHere tells why this replica can't be asked as the leader.
func (g *Group) leadsHere(ctx context.Context) error {
	if err := g.usable(ctx); err != nil {
		return err
	}
	if g.raft.State() != raft.Leader || g.waiting.patience() <= 0 {
		return ErrNoLeader
	}
	return nil
}
