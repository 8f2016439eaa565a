package raftstore

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Programs of two versions may run side by side, while a cluster is upgraded node by node: an older one must never have to apply what it does
// not know. The directory says which version every node can apply (RaiseVersion); its leader raises that once the last node runs a newer
// program, and for good: then no older program can be started on what is stored, nor join.

// ErrNewerData says that what is stored may hold commands that this program does not know.
var ErrNewerData = errors.New("used by a newer version of this program")

// allows tells whether commands of a version may be proposed yet.
func (s *Store) allows(version uint32) error {
	if version <= 1 {
		return nil
	}
	now, err := s.directory.state.Version()
	if err != nil || version <= now {
		return err
	}
	nodes, err := s.directory.state.Nodes()
	if err != nil {
		return err
	}
	var old []string
	for _, n := range present(nodes) {
		if n.Commands < version {
			old = append(old, n.Id)
		}
	}
	return fmt.Errorf("not before all nodes run a version of mailraft that can do this; these do not: %v: %w", old, syscall.EOPNOTSUPP)
}

// Knows tells whether every node can apply commands of a version: what does not yet need them does without.
func (s *Store) Knows(version uint32) bool { return s.allows(version) == nil }

// raiseVersion has the directory note what all of the nodes can apply, if that is more than it says.
func (s *Store) raiseVersion(ctx context.Context, nodes []*raftpb.PutNode) error {
	all := uint32(machine.Version)
	for _, n := range present(nodes) {
		all = min(all, n.Commands)
	}
	now, err := s.directory.state.Version()
	if err != nil || all <= now {
		return err
	}
	_, err = s.directory.change(ctx, &raftpb.Command{Op: &raftpb.Command_RaiseVersion{RaiseVersion: &raftpb.RaiseVersion{Version: all}}})
	if err == nil {
		s.log.Info("all nodes can do what is new in this version", "version", all)
	}
	return err
}

// checkVersion refuses what a newer program may have stored.
func (s *Store) checkVersion() error {
	v, err := s.directory.state.Version()
	if err == nil && v > machine.Version {
		err = fmt.Errorf("%w: it knows commands of version %d, this one of %d; start the newer one", ErrNewerData, v, machine.Version)
	}
	return err
}
