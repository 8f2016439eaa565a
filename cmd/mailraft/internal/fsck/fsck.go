// Package fsck walks over all that a node has stored and says what cannot be right: in the mail trees, in what is sealed as far
// as that shows without a key, and between the trees and the directory.
package fsck

import (
	"errors"
	"fmt"
	"syscall"

	"mailraft/fs/seal"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Problem is something that is wrong.
type Problem struct {
	Group string // "directory", "shard-1"
	Where string // an address, with a path in its mailbox where one is known; may be ""
	What  string
}

// String is the problem in one line.
func (p Problem) String() string {
	if p.Where == "" {
		return fmt.Sprintf("%s: %s", p.Group, p.What)
	}
	return fmt.Sprintf("%s: %s: %s", p.Group, p.Where, p.What)
}

// Check walks over the store, which may be in use, and reports what is wrong with it. begin is called for each group before it is
// walked. An error means that the store cannot be read.
func Check(store *raftstore.Store, begin func(group string), report func(Problem)) error {
	var errs []error
	for _, sh := range store.Shards() {
		group := fmt.Sprintf("shard-%d", sh.ID())
		begin(group)
		err := tree.CheckContents(sh.View(), func(p tree.Problem) {
			report(Problem{group, where(store, p), fmt.Sprintf("%s (key %x)", p.What, p.Key)})
		}, func(_ *tree.Inode, first []byte) error { return seal.CheckHeader(first) })
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", group, err))
		}
	}
	const group = "directory"
	begin(group)
	return errors.Join(append(errs, checkDirectory(store, func(where, what string) { report(Problem{group, where, what}) }))...)
}

// where names what the problem is about, for people.
func where(store *raftstore.Store, p tree.Problem) string {
	if p.Account == 0 {
		return p.Path
	}
	name := fmt.Sprintf("account %d", p.Account)
	if a, err := store.Directory().Account(p.Account); err == nil {
		name = a.LocalPart + "@" + a.Domain
	}
	if p.Path != "" {
		name += ", " + p.Path
	}
	return name
}

// page is how many accounts are read at once.
const page = 1000

// checkDirectory looks whether each account is whole, and has its tree where the directory says; and whether each tree is an
// account's.
func checkDirectory(store *raftstore.Store, report func(where, what string)) error {
	d := store.Directory()
	domains, err := d.Domains()
	if err != nil {
		return err
	}
	for _, domain := range domains {
		for after := ""; ; {
			accounts, err := d.Accounts(domain.Name, after, page)
			if err != nil {
				return fmt.Errorf("domain %s: %w", domain.Name, err)
			}
			for _, a := range accounts {
				after = a.LocalPart
				if what := accountProblem(store, a); what != "" {
					report(a.LocalPart+"@"+a.Domain, what)
				}
			}
			if len(accounts) < page {
				break
			}
		}
	}
	return checkOwners(store, report)
}

func accountProblem(store *raftstore.Store, a *raftpb.Account) string {
	if a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
		return "" // being made or removed: the next start ends that
	}
	if _, err := seal.ParseRecipient(a.Recipient); err != nil {
		return fmt.Sprintf("its public key: %v", err)
	}
	if len(a.Slots) == 0 {
		return "it has no key slot: nothing opens its mail"
	}
	_, err := store.Directory().Usage(tree.Account(a.Number))
	if err == nil || again(store, a) {
		return ""
	}
	return fmt.Sprintf("its mail tree in shard %d: %v", a.Shard, err)
}

// again says whether the account is another, or in another state, than when it was read.
func again(store *raftstore.Store, a *raftpb.Account) bool {
	now, err := store.Directory().Account(tree.Account(a.Number))
	return err != nil || now.State != a.State
}

func checkOwners(store *raftstore.Store, report func(where, what string)) error {
	var errs []error
	for _, sh := range store.Shards() {
		err := sh.View().Accounts(func(n tree.Account) bool {
			a, err := store.Directory().Account(n)
			switch {
			case errors.Is(err, syscall.ENOENT):
				report(fmt.Sprintf("account %d", n), fmt.Sprintf("has a mail tree in shard %d, but is not in the directory", sh.ID()))
			case err != nil:
				errs = append(errs, err)
			case a.Shard != sh.ID() && a.State == raftpb.AccountState_ACCOUNT_STATE_ACTIVE:
				report(a.LocalPart+"@"+a.Domain, fmt.Sprintf("has a mail tree in shard %d, but its home is shard %d", sh.ID(), a.Shard))
			}
			return true
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
