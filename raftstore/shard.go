package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"mailraft/raftstore/group"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/remote"
	"mailraft/raftstore/tree"
)

// Shard is a mail shard. It is read from this node's replica, if there is one, else from another's; a replica may come and go meanwhile.
type Shard struct {
	id     uint32
	store  *Store
	client *group.Client  // nil: this node is alone, and has a replica
	reads  *remote.Client // nil: the same

	mu      sync.RWMutex // held to read the replica's state, and while another takes its place
	replica *replica     // nil: the shard is read on other nodes
	changed chan struct{}
	coming  *replica // one that has not caught up yet
	leaving bool     // the folder of one that is gone is in use yet
}

// replica is this node's part of a shard.
type replica struct {
	group *group.Group
	tree  *tree.Tree
	gone  chan struct{}  // closed when it is the shard's replica no more
	users sync.WaitGroup // joined only while it is the shard's
}

func (s *Store) newShard(id uint32) *Shard {
	sh := &Shard{id: id, store: s, changed: make(chan struct{})}
	if s.transport == nil {
		return sh
	}
	name := shardName(id)
	p := &peers{s, name}
	sh.client = group.NewClient(group.ClientConfig{Name: name, Voters: sh.voters, Peers: p, Leader: p.leader})
	sh.reads = remote.New(id, sh.nearest, s.contents, func(ev *tree.Event) {
		if sh.local() == nil {
			s.tell(ev)
		}
	})
	return sh
}

// ID is the shard's number, from 1.
func (sh *Shard) ID() uint32 { return sh.id }

func (sh *Shard) local() *replica {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.replica
}

// now also answers what is closed when another is in its place.
func (sh *Shard) now() (r *replica, changed <-chan struct{}) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.replica, sh.changed
}

// use answers the replica that is read, if there is one; it is not closed before release is called.
func (sh *Shard) use() (r *replica, release func()) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if sh.replica == nil {
		return nil, func() {}
	}
	sh.replica.users.Add(1)
	return sh.replica, sh.replica.users.Done
}

// useAny is use of the replica that has not caught up, if there is that.
func (sh *Shard) useAny() (r *replica, release func()) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if r = sh.coming; r == nil {
		r = sh.replica
	}
	if r == nil {
		return nil, func() {}
	}
	r.users.Add(1)
	return r, r.users.Done
}

// put has the shard read from a replica, or from other nodes, from now on. Whoever cached what it said before hears that all may have changed.
func (sh *Shard) put(r *replica) {
	sh.mu.Lock()
	was := sh.replica
	if was != nil { // what has been read of it is read elsewhere as well
		sh.reads.Seen(was.group.Told())
	}
	sh.replica, sh.coming = r, nil
	close(sh.changed)
	sh.changed = make(chan struct{})
	sh.mu.Unlock()
	if was != nil {
		close(was.gone)
	}
	sh.store.tell(&tree.Event{Replaced: true, Shard: sh.id})
}

// take has the shard read from the replica that has come, if that shows all that was seen of the shard on other nodes.
func (sh *Shard) take(r *replica) bool {
	sh.mu.RLock()
	coming := sh.coming
	sh.mu.RUnlock()
	switch {
	case coming != r: // it is not wanted any more
		return true
	case r.group.Told() < sh.reads.Index():
		return false
	}
	sh.put(r)
	return true
}

// open opens the replica on this node's disk, or makes it.
func (sh *Shard) open(joined bool) (*replica, error) {
	r := &replica{gone: make(chan struct{})}
	s := sh.store
	g, err := s.group(shardName(sh.id), shardSegment, joined, func(st *machine.Store) machine.Machine {
		r.tree = tree.New(st)
		return r.tree
	})
	if err != nil {
		return nil, err
	}
	r.group = g
	r.tree.Subscribe(func(ev *tree.Event) {
		if sh.local() != r {
			return
		}
		if ev.Replaced {
			ev = &tree.Event{Replaced: true, Shard: sh.id, Account: ev.Account}
		}
		s.tell(ev)
	})
	return r, nil
}

// leads tells whether this node's replica leads the shard's group.
func (sh *Shard) leads() bool {
	r := sh.local()
	return r != nil && r.group.Leads()
}

// View reads the shard's state as it was seen last here. It is good as long as the store.
func (sh *Shard) View() tree.Reader { return view{shard: sh} }

// moveTime is how long what is asked of a replica that was removed waits for it to be known, and is then asked elsewhere.
const moveTime = 3 * time.Second

// elsewhere tells whether what a replica answered with an error is to be asked again, as the shard is read from another place by now.
func (sh *Shard) elsewhere(ctx context.Context, err error, changed <-chan struct{}) bool {
	if sh.client == nil || !errors.Is(err, group.ErrClosed) && !errors.Is(err, group.ErrRemoved) {
		return false
	}
	sh.store.lookAtMembers()
	timer := time.NewTimer(moveTime)
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
	case <-ctx.Done():
	case <-sh.store.life.Done():
	}
	return false
}

// ReadIndex returns nil once View shows everything that any node acknowledged before the call.
func (sh *Shard) ReadIndex(ctx context.Context) error {
	return sh.read(ctx, (*group.Group).ReadIndex)
}

// read asks for the read index where the shard is read: ask asks the replica. It asks again when that was another place at the end: what is read
// there from now on may be older than the answer.
func (sh *Shard) read(ctx context.Context, ask func(*group.Group, context.Context) error) (err error) {
	for {
		r, changed := sh.now()
		if r == nil {
			err = sh.readIndexElsewhere(ctx)
		} else {
			err = ask(r.group, ctx)
		}
		switch {
		case err == nil:
			if now, _ := sh.now(); now == r {
				return nil
			}
		case r == nil || !sh.elsewhere(ctx, err, changed):
			return err
		}
	}
}

// readIndexElsewhere asks the replica that is read. One that can't tell, while this node knows a leader, has been cut off: another is read then.
func (sh *Shard) readIndexElsewhere(ctx context.Context) error {
	err := sh.reads.ReadIndex(ctx)
	if err == nil {
		return nil
	}
	if _, lerr := sh.client.Leader(ctx); lerr != nil {
		return err
	}
	sh.reads.Leave()
	return sh.reads.ReadIndex(ctx)
}

// Barrier returns nil once everything is applied here that was proposed in this shard before the call and will ever be committed:
// also what got no answer.
func (sh *Shard) Barrier(ctx context.Context) error {
	if sh.client != nil {
		if err := sh.client.Settle(ctx); err != nil {
			return err
		}
	}
	return sh.read(ctx, (*group.Group).Barrier)
}

// propose commits a command. After nil View shows it, and whoever subscribes has been told of it.
func (sh *Shard) propose(ctx context.Context, cmd *raftpb.Command) (machine.Result, error) {
	for {
		r, changed := sh.now()
		if r == nil {
			return sh.proposeElsewhere(ctx, cmd)
		}
		result, err := r.group.Propose(ctx, cmd)
		switch {
		case err == nil:
			return result, sh.shows(ctx, r, result.Index)
		case !sh.elsewhere(ctx, err, changed):
			return result, err
		}
	}
}

// shows waits until View shows what was applied at index, and whoever subscribes has been told: was, the place where the shard was read, does.
func (sh *Shard) shows(ctx context.Context, was *replica, index uint64) error {
	for {
		r, changed := sh.now()
		if r == was {
			return nil
		}
		var err error
		if r != nil {
			err = r.group.WaitApplied(ctx, index)
		} else {
			err = sh.reads.Heard(ctx, index)
		}
		if err != nil && !sh.elsewhere(ctx, err, changed) {
			return err
		}
		was = r
	}
}

func (sh *Shard) proposeElsewhere(ctx context.Context, cmd *raftpb.Command) (machine.Result, error) {
	// What the caller caches of the effect it has to hear of when others change it.
	if a := tree.AccountOf(cmd); a != 0 {
		if err := sh.reads.Watch(ctx, a); err != nil {
			return machine.Result{}, err
		}
	}
	result, err := sh.client.Propose(ctx, cmd)
	if err != nil {
		return result, err
	}
	if err := sh.reads.Heard(ctx, result.Index); err != nil {
		return result, err
	}
	return result, sh.shows(ctx, nil, result.Index)
}

// voters are the nodes that are to have a replica, as far as the directory here says; those that answer first.
func (sh *Shard) voters() []string {
	record, err := sh.store.directory.state.Shard(sh.id)
	if err != nil {
		return nil
	}
	var up, down []string
	for _, v := range record.Voters {
		switch {
		case v == sh.store.cfg.NodeID: // it has none, or asks itself
		case sh.store.transport.Up(v):
			up = append(up, v)
		default:
			down = append(down, v)
		}
	}
	return append(up, down...)
}

// nearest is a remote.Dial.
func (sh *Shard) nearest(_ context.Context, failed []string) (*grpc.ClientConn, string, error) {
	node := ""
	for _, v := range sh.voters() {
		if !slices.Contains(failed, v) {
			node = v
			break
		}
	}
	if node == "" { // each has failed once: again from the first
		voters := sh.voters()
		if len(voters) == 0 {
			return nil, "", fmt.Errorf("shard %d: no node is known to have it: %w", sh.id, syscall.EIO)
		}
		node = voters[len(failed)%len(voters)]
	}
	conn, err := sh.store.transport.Dial(node)
	return conn, node, err
}
