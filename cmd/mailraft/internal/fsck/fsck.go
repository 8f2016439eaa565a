// Package fsck walks over all that a node has stored and says what cannot be right: what the store finds itself, and what takes
// an eye for keys and sealed content.
package fsck

import (
	"errors"
	"fmt"

	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
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

// Check walks over the store, which may be in use, and reports what is wrong with it. An error means that the walk ended early.
func Check(store *raftstore.Store, report func(Problem)) error {
	return errors.Join(
		store.Check(seal.CheckHeader, func(p raftstore.Problem) {
			where := p.Account
			if p.Path != "" {
				where += ", " + p.Path
			}
			report(Problem{p.Group, where, p.What})
		}),
		checkKeys(store.Directory(), report),
	)
}

// page is how many accounts are read at once.
const page = 1000

// checkKeys looks whether each account has a public key to seal to, and slots that a password could open.
func checkKeys(d *raftstore.Directory, report func(Problem)) error {
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
				for _, what := range keyProblems(a) {
					report(Problem{"directory", a.Address(), what})
				}
			}
			if len(accounts) < page {
				break
			}
		}
	}
	return nil
}

func keyProblems(a *raftpb.Account) []string {
	if a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
		return nil // being made or removed: the next start ends that
	}
	var all []string
	if _, err := seal.ParseRecipient(a.Recipient); err != nil {
		all = append(all, fmt.Sprintf("its public key: %v", err))
	}
	if _, err := seal.ParseRecipient(a.Unlocks()); err != nil && a.Pinned() {
		all = append(all, fmt.Sprintf("the public key of its login: %v", err))
	}
	if len(a.Slots) == 0 {
		all = append(all, "it has no key slot: nothing opens its mail")
	}
	for _, s := range a.Slots {
		if _, err := slot.Unmarshal(s.Record); err != nil {
			all = append(all, fmt.Sprintf("its key slot %d: %v", s.Id, err))
		}
	}
	return all
}
