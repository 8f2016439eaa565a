package raftstore

import (
	"errors"
	"syscall"
	"testing"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// newKey gives an account a new key pair, as far as the directory is concerned, and answers its record.
func newKey(t *testing.T, s *Store, n tree.Account) *raftpb.Account {
	t.Helper()
	var is *raftpb.Account
	err := s.Directory().UpdateAccount(t.Context(), n, func(a *raftpb.Account) error {
		a.PreviousKeys = append(a.PreviousKeys, &raftpb.PreviousKey{Number: a.Key, Sealed: []byte("sealed")})
		a.Key++
		is = a
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	is.Version++ // as its change has made it
	return is
}

// sealAnew has the shard take another content for each that is sealed to a previous key.
func sealAnew(t *testing.T, s *Store, p *Proposer, a *raftpb.Account) {
	t.Helper()
	n := tree.Account(a.Number)
	found, err := s.Directory().Sealed(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found.Previous {
		ino, err := p.ReserveIno(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Propose(t.Context(), &raftpb.Command{Op: &raftpb.Command_ResealContent{ResealContent: &raftpb.ResealContent{
			Inode: uint64(f.Ino), Was: uint64(tree.MakeIno(n, f.Content)),
			Content: &raftpb.Content{Id: uint64(ino), SealedSize: 5, Size: f.Size, Inline: []byte("again"), Key: a.Key},
		}}})
		if err == nil {
			err = r.Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A copy of the cluster is taken again when an account has dropped, after its contents were copied, a key that they may be sealed to.
func TestSnapshotHasTheKeysOfItsContents(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	n := tree.Account(addAccount(t, s, "alice@example.org").Number)
	p := s.NewProposer()
	if err := deliver(t.Context(), p, n, "a", []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	a := newKey(t, s, n)
	for _, c := range []struct {
		what      string
		meanwhile func()
		again     bool
	}{
		{"nothing", func() {}, false},
		{"its contents are sealed anew", func() { sealAnew(t, s, p, a) }, false},
		{"the previous key is dropped", func() {
			if err := s.Directory().DropPreviousKeys(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"it gets another", func() { newKey(t, s, n) }, false},
	} {
		sn := &Snapshot{shards: map[uint32]ShardSnapshot{}}
		before, err := s.snapshotShards(t.Context(), sn)
		if err != nil {
			t.Fatal(err)
		}
		c.meanwhile()
		again, err := s.snapshotDirectory(t.Context(), sn, before)
		if err != nil || again != c.again {
			t.Errorf("meanwhile %s: taken again %v, %v", c.what, again, err)
		}
		is := sn.Accounts[0]
		err = sn.Shard(is).Records(n, func(key, value []byte) error {
			in, err := tree.InodeOf(n, key, value)
			if err == nil && in != nil && in.Content != 0 && !is.Opens(in.Key) && !again {
				t.Errorf("meanwhile %s: a content is sealed to key %d, the account has %d", c.what, in.Key, is.Key)
			}
			return err
		})
		if err := errors.Join(err, sn.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// An account that is being sealed anew moves like any other, and its fence with it.
func TestAResealedAccountMoves(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer s.Close()
	made := addAccount(t, s, "alice@example.org")
	n, p := tree.Account(made.Number), s.NewProposer()
	if err := deliver(t.Context(), p, n, "a", []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	a := newKey(t, s, n)
	move := func() {
		t.Helper()
		now, err := s.Directory().Account(n)
		if err == nil {
			err = s.Directory().MoveAccount(t.Context(), n, now.Shard%2+1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	move()
	if found, err := s.Directory().Sealed(t.Context(), a); err != nil || len(found.Previous) != 1 || found.Files != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	sealAnew(t, s, p, a)
	if err := s.Directory().FenceKeys(t.Context(), n, a.Key); err != nil {
		t.Fatal(err)
	}
	move()
	if err := deliver(t.Context(), p, n, "late", []byte("sealed to the key before")); err != syscall.EKEYREVOKED {
		t.Errorf("a delivery that comes late: %v", err)
	}
	if list, err := s.Directory().Resealed(); err != nil || len(list) != 1 || list[0].Number != a.Number {
		t.Errorf("%v, %v", list, err)
	}
	// The record is not the one that was read before the moves: whoever looked then has to look again.
	if err := s.Directory().DropPreviousKeys(t.Context(), a); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("dropped by what was true before: %v", err)
	}
	now, err := s.Directory().Account(n)
	if err == nil {
		err = s.Directory().DropPreviousKeys(t.Context(), now)
	}
	if err != nil {
		t.Fatal(err)
	}
	if list, err := s.Directory().Resealed(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	nothingFound(t, s)
}

// nothingFound has Check find nothing.
func nothingFound(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Check(func([]byte) error { return nil }, func(p Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Error(err)
	}
}
