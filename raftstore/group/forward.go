package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Peers asks the replicas of this group on other nodes, by what Group has under the same names with Here. Where nothing was sent, or the
// replica there is no leader that can go on, the error is ErrNoLeader; where what was sent may be committed yet, ErrUncertain; where the leader's disk
// is almost full, ENOSPC.
type Peers interface {
	// Propose hands a marshalled command to the node, which proposes it if it leads; it does not forward it on.
	Propose(ctx context.Context, node string, command []byte) (machine.Result, Hint, error)
	// ReadIndex asks the node, if it leads, up to where one has to have applied to show all that was acknowledged before.
	ReadIndex(ctx context.Context, node string) (Hint, error)
	// Kept asks the node which files of a checkpoint it has, from when it was sent before.
	Kept(ctx context.Context, node string) (map[string]Sum, error)
	// Hint tells the node what is committed, without waiting; it may be dropped, and only the newest counts.
	Hint(node string, h Hint)
}

// forward hands a command to the leader. What it gave comes from the leader, or from its being applied here, which may be sooner. Errors are
// Propose's, ErrUncertain, and ErrNoLeader when it was certainly not committed.
func (g *Group) forward(ctx context.Context, l leader, id *raftpb.Request, data []byte) (machine.Result, error) {
	applied, forget := g.forwarded.add(id)
	defer forget()
	type answer struct {
		r   machine.Result
		err error
	}
	got := make(chan answer, 1)
	go func() {
		asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitPatience) // who proposed may have gone on
		defer cancel()
		asked, end := g.whileLeads(asked, l)
		defer end()
		r, h, err := g.cfg.Peers.Propose(asked, l.node, data)
		if err == nil {
			g.TakeHint(l.node, h)
		}
		got <- answer{r, g.explainPeer(ctx, err)}
	}()
	var a answer
	err := g.await(ctx, func() error {
		select {
		case a = <-got:
		case a.r = <-applied:
		case <-ctx.Done():
			return ctx.Err()
		}
		return a.err
	})
	if err != nil {
		if errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUncertain) {
			g.role.failed(l)
		}
		return machine.Result{}, err
	}
	within, stop := context.WithTimeout(ctx, commitPatience)
	defer stop()
	return a.r, g.passed.wait(within, g, a.r.Index)
}

// forwarded are commands on their way to the leader.
type forwarded struct {
	mu      sync.Mutex // held for a map operation
	waiting map[requestID]chan<- machine.Result
}

// add notes a command; applied gives what it gave here. It may have been forwarded, and applied, before: then nothing comes.
func (f *forwarded) add(r *raftpb.Request) (applied <-chan machine.Result, forget func()) {
	if r == nil {
		return nil, func() {}
	}
	id, came := requestID{r.Session, r.Sequence}, make(chan machine.Result, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting == nil {
		f.waiting = map[requestID]chan<- machine.Result{}
	}
	f.waiting[id] = came
	return came, func() { f.take(r) }
}

// take is where the answer of a command that is applied goes, once; nil: nobody waits for it.
func (f *forwarded) take(r *raftpb.Request) chan<- machine.Result {
	id := requestID{r.GetSession(), r.GetSequence()}
	f.mu.Lock()
	defer f.mu.Unlock()
	to := f.waiting[id]
	delete(f.waiting, id)
	return to
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

// ProposeHere proposes a marshalled command for another replica. Errors: ErrNoLeader when this one does not lead, or cannot, and it is
// certain that it is not committed; ErrUncertain, ErrClosed, ErrBroken, ETIMEDOUT and the log's disk's when it may be.
func (g *Group) ProposeHere(ctx context.Context, command []byte) (machine.Result, Hint, error) {
	if err := g.leadsHere(ctx); err != nil {
		return machine.Result{}, Hint{}, fmt.Errorf("%w: %w", ErrNoLeader, err)
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
