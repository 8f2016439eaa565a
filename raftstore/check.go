package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"mailraft/raftstore/directory"
	"mailraft/raftstore/group"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Problem is something that is wrong with what is stored.
type Problem struct {
	Group   string // "directory", "shard-1"
	Account string // its address, or "account 7" when the directory does not know it; "": of none
	Path    string // below the account's home, where it is known
	What    string
}

// Check reads all that is stored, the logs too, while the store is in use, and reports what is wrong: with what one record says
// of another, and what the directory says of the shards. sealed gets the first octets of each content and answers what is wrong
// with them; the store can't tell. An error means that reading ended early.
func (s *Store) Check(sealed func(first []byte) error, report func(Problem)) error {
	var errs []error
	s.each(func(_ int, g *group.Group) { errs = append(errs, s.checkGroup(g, report)) })
	addresses, err := s.checkDirectory(report)
	errs = append(errs, err)
	for _, sh := range s.shards {
		if r, release := sh.use(); r != nil { // its own node checks another's
			errs = append(errs, sh.check(r, addresses, sealed, report))
			release()
		}
	}
	return errors.Join(errs...)
}

func (s *Store) checkGroup(g *group.Group, report func(Problem)) error {
	err := g.CheckLog()
	if err != nil {
		report(Problem{Group: g.Name(), What: err.Error()})
	}
	return nil
}

// checked is what of an account the shards are checked against.
type checked struct {
	address string
	shards  [3]uint32 // shardsOf it
}

// checkDirectory checks the directory against the shards, and answers its accounts.
func (s *Store) checkDirectory(report func(Problem)) (map[tree.Account]checked, error) {
	found := func(a *raftpb.Account, format string, args ...any) {
		report(Problem{Group: "directory", Account: a.Address(), What: fmt.Sprintf(format, args...)})
	}
	accounts := map[tree.Account]checked{}
	var failed error
	err := s.directory.state.AllAccounts(func(a *raftpb.Account) bool {
		accounts[tree.Account(a.Number)] = checked{a.Address(), shardsOf(a)}
		named, err := s.directory.findAny(a.LocalPart, a.Domain)
		switch {
		case errors.Is(err, ErrNoSuchAccount), errors.Is(err, ErrNoSuchDomain):
			found(a, "account %d is not found by its address", a.Number)
		case err != nil:
			failed = err
			return false
		case named.Number != a.Number:
			found(a, "address leads to account %d, not to %d", named.Number, a.Number)
		}
		if problem, err := s.checkUnfinished(a); err != nil {
			failed = err
			return false
		} else if problem != "" {
			found(a, "%s", problem)
		}
		if a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
			return true // being made or removed
		}
		if a.Shard == 0 || int(a.Shard) > len(s.shards) {
			found(a, "is on shard %d, there are %d", a.Shard, len(s.shards))
			return true
		}
		sh := s.shards[a.Shard-1]
		if sh.local() == nil {
			return true
		}
		if _, err := sh.View().Account(tree.Account(a.Number)); err != nil && !s.hasMoved(a) {
			found(a, "shard %d does not have its mail: %v", a.Shard, err)
		}
		return true
	})
	if err == nil {
		err = failed
	}
	domains, derr := s.directory.Domains()
	for _, d := range domains {
		aliases, err := s.directory.Aliases(d.Name)
		derr = errors.Join(derr, err)
		for _, al := range aliases {
			if _, _, err := s.directory.Resolve(al.Address); err != nil {
				report(Problem{Group: "directory", Account: al.Address, What: fmt.Sprintf("alias leads nowhere: %v", err)})
			}
		}
	}
	return accounts, errors.Join(err, derr)
}

// hasMoved tells whether the account is another shard's since its record was read, or is no more.
func (s *Store) hasMoved(a *raftpb.Account) bool {
	now, err := s.directory.state.Account(a.Number)
	return err == syscall.ENOENT || err == nil && now.Shard != a.Shard
}

// checkUnfinished makes sure that an account which directory.IsUnfinished is noted as such, and no other: "" if so.
func (s *Store) checkUnfinished(a *raftpb.Account) (problem string, err error) {
	noted, err := s.directory.state.NotedUnfinished(a.Number)
	unfinished := directory.IsUnfinished(a)
	if err != nil || noted == unfinished {
		return "", err
	}
	now, err := s.directory.state.Account(a.Number)
	switch {
	case err == syscall.ENOENT, err == nil && now.Version != a.Version: // it has changed since it was read
		return "", nil
	case err != nil:
		return "", err
	case noted:
		return "is noted as unfinished, and is not", nil
	}
	return "is being made, removed, moved or sealed anew, and not noted: that would not be finished", nil
}

func (sh *Shard) check(r *replica, accounts map[tree.Account]checked, sealed func([]byte) error, report func(Problem)) error {
	name := shardName(sh.id)
	address := func(n tree.Account) string {
		if a, ok := accounts[n]; ok {
			return a.address
		}
		if n == 0 {
			return ""
		}
		return fmt.Sprint("account ", n)
	}
	err := tree.CheckContents(r.tree.View(), func(p tree.Problem) {
		what := p.What
		if p.Path == "" {
			what = fmt.Sprintf("%s (key %x)", what, p.Key)
		}
		report(Problem{Group: name, Account: address(p.Account), Path: p.Path, What: what})
	}, func(in *tree.Inode, first []byte) error { return sealed(first) })
	if err != nil {
		report(Problem{Group: name, What: fmt.Sprintf("reading ended early: %v", err)})
	}
	return errors.Join(err, sh.View().Accounts(func(n tree.Account) bool {
		if a := accounts[n]; !slices.Contains(a.shards[:], sh.id) && !sh.isOf(n) {
			report(Problem{Group: name, Account: address(n), What: "mail of an account that the directory does not have here"})
		}
		return true
	}))
}

// isOf tells whether the directory has the account here by now: it may have moved since its record was read.
func (sh *Shard) isOf(n tree.Account) bool {
	now, err := sh.store.directory.state.Account(uint32(n))
	if err != nil {
		return false
	}
	shards := shardsOf(now)
	return slices.Contains(shards[:], sh.id)
}
