package fs

import (
	"syscall"

	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// topReader lists the accounts of a domain by local part, some at a time.
type topReader struct {
	dir    *raftstore.Directory
	lists  func(*raftpb.Account) bool
	domain string
	lot    []*raftpb.Account
	after  string
	done   bool
}

// lists tells whether the account is one that this mount lists: a mount of a shard lists those of that. It finds all of them, so that a
// session whose account moves to another shard keeps its paths.
func (m *mount) lists(a *raftpb.Account) bool { return m.cfg.Shard == 0 || a.Shard == m.cfg.Shard }

// topLot is how many accounts are read at once.
const topLot = 1000

func (r *topReader) rewind() { r.lot, r.after, r.done = nil, "", false }

func (r *topReader) next() (de tree.DirEntry, ok bool, err error) {
	for {
		if len(r.lot) == 0 {
			if r.done {
				return de, false, nil
			}
			if r.lot, err = r.dir.Accounts(r.domain, r.after, topLot); err != nil {
				return de, false, err
			}
			r.done = len(r.lot) < topLot
			continue
		}
		a := r.lot[0]
		r.lot, r.after = r.lot[1:], a.LocalPart
		if a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE || !r.lists(a) {
			continue
		}
		return tree.DirEntry{Name: a.LocalPart, Ino: tree.RootIno(tree.Account(a.Number)), Stat: tree.Stat{Mode: syscall.S_IFDIR}}, true, nil
	}
}

// openTop opens the root, or a domain, for listing.
func (m *mount) openTop(d *openDir) error {
	dir := m.store.Directory()
	if err := dir.ReadIndex(m.time.context()); err != nil {
		return err
	}
	if id, ok := domainOf(d.ino); ok {
		dom, err := dir.DomainByID(id)
		d.top = &topReader{dir: dir, lists: m.lists, domain: dom.Name}
		return err
	}
	domains, err := dir.Domains()
	d.names = make([]stagedName, 0, len(domains))
	for _, dom := range domains {
		d.names = append(d.names, stagedName{dom.Name, domainIno(dom.ID), syscall.S_IFDIR})
	}
	return err
}
