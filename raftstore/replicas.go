package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailraft/raftstore/durable"
	"mailraft/raftstore/group"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/remote"
	"mailraft/raftstore/tree"
)

// For each replica that the node has, or had, apart from those which it was made with, there is a file "replica-NAME" in the folder "cluster": it is
// there before the replica is. One that was noted and is gone must not be made anew under this node's name: it would have forgotten
// whom it voted for. The file holds nothing while there is one; "making TERM" until it is made; "gone TERM" when it was
// removed from its group, and its folder may be dropped. TERM is the one that its predecessor ended in.
const (
	notePrefix  = "replica-"
	noteMaking  = "making "
	noteRemoved = "gone "
)

// folder is a group's.
func (s *Store) folder(name string) string { return filepath.Join(s.cfg.Dir, name) }

func (s *Store) notePath(name string) string {
	return filepath.Join(s.cfg.Dir, clusterFolder, notePrefix+name)
}

// note reads what is noted of a replica: fs.ErrNotExist.
func (s *Store) note(name string) (kind string, term uint64, err error) {
	b, err := os.ReadFile(s.notePath(name))
	if err != nil || len(b) == 0 {
		return "", 0, err
	}
	for _, kind := range []string{noteMaking, noteRemoved} {
		if text, ok := strings.CutPrefix(string(b), kind); ok {
			term, err := strconv.ParseUint(text, 10, 64)
			return kind, term, err
		}
	}
	return "", 0, fmt.Errorf("%s says %q: %w", s.notePath(name), b, ErrFormat)
}

func (s *Store) setNote(name, kind string, term uint64) error {
	var text []byte
	if kind != "" {
		text = strconv.AppendUint([]byte(kind), term, 10)
	}
	return durable.WriteFile(s.notePath(name), text, 0o600)
}

// noteReplica notes, for good, that there is a replica of a group here, before it is made, and answers the term that it begins in. made is to be
// called when it is.
func (s *Store) noteReplica(name string) (leastTerm uint64, made func() error, err error) {
	kind, term, err := s.note(name)
	made = func() error { return nil }
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && kind != "":
		if err := s.setNote(name, noteMaking, term); err != nil {
			return 0, nil, err
		}
		return term, func() error { return s.setNote(name, "", 0) }, nil
	case err != nil:
		return 0, nil, err
	}
	dir := s.folder(name)
	_, err = os.Stat(filepath.Join(dir, "wal", "wal-meta.db"))
	if errors.Is(err, fs.ErrNotExist) && !s.fresh {
		return 0, nil, fmt.Errorf("group %s: its log in %s is gone; remove this node from the cluster and join anew, with an empty data folder: %w", name, dir, group.ErrMissing)
	}
	return 0, made, err
}

// openReplicas opens the replicas that the node's disk has.
func (s *Store) openReplicas(joined bool) error {
	for _, sh := range s.shards {
		name := shardName(sh.id)
		kind, _, err := s.note(name)
		switch {
		case err == nil && kind == noteRemoved: // it was cut short
			if err := os.RemoveAll(s.folder(name)); err != nil {
				return err
			}
			continue
		case errors.Is(err, fs.ErrNotExist):
			if joined {
				continue
			}
		case err != nil:
			return err
		}
		r, err := sh.open(joined || err == nil) // one that was noted came after the node was made
		if err != nil {
			return err
		}
		if r.group.IsJoining() {
			s.come(sh, r)
			continue
		}
		sh.mu.Lock()
		sh.replica = r
		sh.mu.Unlock()
	}
	return nil
}

// keepReplicas has this node have a replica of each shard that the directory wants it to vote in, and drop those that it was removed from.
func (s *Store) keepReplicas(records []*raftpb.PutShard) {
	for _, record := range records {
		sh, err := s.shardNumber(record.Id)
		if err != nil {
			continue
		}
		wanted := slices.Contains(record.Voters, s.cfg.NodeID)
		sh.mu.RLock()
		r, coming, leaving := sh.replica, sh.coming, sh.leaving
		sh.mu.RUnlock()
		switch {
		case wanted && r == nil && coming == nil && !leaving:
			if err := s.begin(sh); err != nil {
				s.log.Error("making a replica", "shard", sh.id, "error", s.explain(err))
			}
		case !wanted && (r != nil || coming != nil) && s.wasRemoved(sh):
			s.end(sh)
		}
	}
}

// begin makes a replica, which waits for the group's leader to add it.
func (s *Store) begin(sh *Shard) error {
	r, err := sh.open(true)
	if err != nil {
		return err
	}
	s.log.Info("this node is to have a replica", "shard", sh.id)
	s.come(sh, r)
	return nil
}

// come has a shard read from its new replica as soon as that can be.
func (s *Store) come(sh *Shard, r *replica) {
	sh.mu.Lock()
	sh.coming = r
	sh.mu.Unlock()
	s.done.Go(func() { s.awaitReplica(sh, r) })
}

// awaitReplica has a shard read from its new replica once that shows all that was seen of the shard here.
func (s *Store) awaitReplica(sh *Shard, r *replica) {
	if err := r.group.WaitCaughtUp(s.life); err != nil {
		return // it is closed, or broken and says so
	}
	for {
		if err := r.group.WaitApplied(s.life, sh.reads.Index()); err != nil {
			return
		}
		if sh.take(r) {
			return
		}
	}
}

// wasRemoved tells whether this node is no member of the shard's group, as its leader has it committed.
func (s *Store) wasRemoved(sh *Shard) bool {
	ctx, cancel := context.WithTimeout(s.life, time.Second)
	defer cancel()
	leader, err := sh.client.Leader(ctx)
	if err != nil {
		return false
	}
	members, err := (&peers{s, shardName(sh.id)}).members(ctx, leader)
	if err != nil || leader == s.cfg.NodeID { // this one leads it yet, or did when the client looked
		sh.client.PeerDown(leader)
	}
	return err == nil && len(members) > 0 && !slices.Contains(members, s.cfg.NodeID)
}

// end closes a replica that this node was removed from, has the shard read elsewhere, and drops the replica's folder.
func (s *Store) end(sh *Shard) {
	sh.mu.Lock()
	r := sh.replica
	if r == nil {
		r = sh.coming
	}
	sh.leaving = true
	sh.mu.Unlock()
	name := shardName(sh.id)
	s.log.Info("this node has no replica any more", "shard", sh.id)
	sh.put(nil)
	sh.client.TakeOver(r.group)
	s.done.Go(func() {
		r.users.Wait()
		closed := make(chan struct{})
		r.group.AfterClose(func() { close(closed) })
		term := r.group.Term()
		err := r.group.Close()
		if err == nil {
			err = s.setNote(name, noteRemoved, term)
		}
		if err == nil {
			select { // an open file, or a listing, may be read from it yet
			case <-closed:
				err = os.RemoveAll(s.folder(name))
			case <-s.life.Done(): // the next start drops it
				return
			}
		}
		if err != nil {
			s.log.Error("dropping a replica", "shard", sh.id, "error", err)
			return // it is left until the next start
		}
		sh.mu.Lock()
		sh.leaving = false
		sh.mu.Unlock()
		s.lookAtMembers()
	})
}

// tell hands an event to the subscribers.
func (s *Store) tell(ev *tree.Event) {
	if list := s.subscribers.Load(); list != nil {
		for _, sub := range *list {
			sub.fn(ev)
		}
	}
}

type subscriber struct{ fn func(*tree.Event) }

// Subscribe has fn called with what each command applied in any shard changed, or that all of a shard's state was replaced
// (Event.Replaced), on the applying goroutines, more than one at a time: fn must only take note. Of a shard that is read on another node
// it is told what changes in the accounts that were read. cancel ends it.
func (s *Store) Subscribe(fn func(*tree.Event)) (cancel func()) {
	sub := &subscriber{fn}
	s.subscribe(func(list []*subscriber) []*subscriber { return append(list, sub) })
	return func() {
		s.subscribe(func(list []*subscriber) []*subscriber {
			return slices.DeleteFunc(list, func(x *subscriber) bool { return x == sub })
		})
	}
}

func (s *Store) subscribe(change func([]*subscriber) []*subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*subscriber
	if now := s.subscribers.Load(); now != nil {
		list = slices.Clone(*now)
	}
	list = change(list)
	s.subscribers.Store(&list)
}

// readReplica is a replica as other nodes read it: a remote.Replica.
type readReplica struct {
	*group.Group
	r       *replica
	release func()
}

// View implements remote.Replica.
func (r readReplica) View() tree.Reader { return r.r.tree.View() }

// Applied implements remote.Replica.
func (r readReplica) Applied() uint64 { return r.Shown() }

// Subscribe implements remote.Replica.
func (r readReplica) Subscribe(fn func(*tree.Event)) (cancel func()) { return r.r.tree.Subscribe(fn) }

// Done implements remote.Replica.
func (r readReplica) Done() <-chan struct{} { return r.r.gone }

// Release implements remote.Replica.
func (r readReplica) Release() { r.release() }

// readable finds the replica of a shard for another node to read.
func (s *Store) readable(id uint32) (remote.Replica, error) {
	sh, err := s.shardNumber(id)
	if err != nil {
		return nil, err
	}
	r, release := sh.use()
	if r == nil {
		return nil, errors.New("this node has none")
	}
	return readReplica{r.group, r, release}, nil
}
