package tree

import (
	"syscall"

	"mailraft/raftstore/raftpb"
)

// createAccount makes the account's record and its home with cur, new and tmp: EEXIST.
func (x *txn) createAccount(c *raftpb.CreateAccount) error {
	a := Account(c.Account)
	if a == 0 || a > MaxAccount {
		return syscall.EINVAL
	}
	for _, k := range [][]byte{accountKey(a), importKey(a)} {
		if ok, err := x.has(k); ok || err != nil {
			if err == nil {
				err = syscall.EEXIST
			}
			return err
		}
	}
	x.account = &AccountRecord{Account: a, NextLocal: firstLocal, QuotaBytes: c.QuotaBytes, QuotaFiles: c.QuotaFiles}
	x.counted = true
	x.event.Account = a
	root, err := x.newDirectory(RootIno(a), 0o700, c.Uid, c.Gid, RoleRoot)
	if err != nil {
		return err
	}
	home := x.add(root)
	for n, box := range []string{"cur", "new", "tmp"} {
		in, err := x.newDirectory(MakeIno(a, uint64(rootLocal+1+n)), 0o700, c.Uid, c.Gid, roleOf(RoleRoot, box))
		if err == nil {
			err = x.insert(home, box, x.add(in), 0)
		}
		if err != nil {
			return err
		}
	}
	x.event.Changes = []Change{{Kind: AccountAdded, Ino: home.Ino, Dir: true}}
	x.event.Folders = nil
	return nil
}

// The greatest time that a UIDVALIDITY is made from, in seconds: a clock that is wrong by a century leaves numbers to count on.
const maxValidityTime = 1<<32 - 1<<24

// newDirectory makes the inode of an empty directory; a folder gets its UIDVALIDITY, which never comes again in the account:
// ENOSPC when they are used up.
func (x *txn) newDirectory(i Ino, perm, uid, gid uint32, role Role) (*Inode, error) {
	in := &Inode{Ino: i, Role: role, Stat: Stat{
		Mode: syscall.S_IFDIR | perm&0o7777, UID: uid, GID: gid, Mtime: x.now, Ctime: x.now, Atime: x.now,
	}}
	if role.IsFolder() {
		// RFC 9051, 2.3.1.1 wants it to grow with every new folder of the same name: seconds do, or one more than the last.
		if x.account.UIDValidity == 1<<32-1 {
			return nil, syscall.ENOSPC
		}
		seconds := min(max(x.now/1e9, 0), maxValidityTime)
		x.account.UIDValidity = max(uint32(seconds), x.account.UIDValidity+1)
		x.counted = true
		in.UIDValidity, in.UIDNext = x.account.UIDValidity, 1
		in.HighestModSeq = x.modSeq()
	}
	return in, nil
}

// removeAccount drops all records of the account, also of one that is being imported: ENOENT. Of one that was moved nobody is told: it
// goes on elsewhere. ESTALE when it was not frozen by that move, nor is it brought by it; or when it came by one that is later than c.Until.
func (x *txn) removeAccount(c *raftpb.RemoveAccount) error {
	a := Account(c.Account)
	r, err := x.counters(a)
	switch {
	case err == syscall.ENOENT:
		i, err := x.imported(a)
		if err != nil {
			return err
		}
		if c.Move != 0 && i.move != c.Move || c.Until != 0 && i.move > c.Until {
			return syscall.ESTALE
		}
	case err != nil:
		return err
	case c.Move != 0 && (r.Frozen == 0 || r.Move != c.Move), c.Until != 0 && r.Move > c.Until:
		return syscall.ESTALE
	}
	x.deleteRange(accountRange(a))
	x.deleteRange(orphanRange(a))
	if c.Move == 0 {
		x.event.Changes = []Change{{Kind: AccountRemoved, Ino: RootIno(a), Dir: true}}
	}
	return nil
}

// freezeAccount has nothing change in the account any more: ENOENT, ESTALE when it came here by that move, or by a later one.
func (x *txn) freezeAccount(c *raftpb.FreezeAccount) error {
	r, err := x.counters(Account(c.Account))
	switch {
	case err != nil:
		return err
	case c.Move == 0 || c.Shard == 0:
		return syscall.EINVAL
	case r.Frozen == c.Shard && r.Move == c.Move: // it is
		return nil
	case c.Move <= r.Move:
		return syscall.ESTALE
	}
	r.Move, r.Frozen = c.Move, c.Shard
	x.counted = true
	x.event.Changes = []Change{{Kind: AccountFrozen, Ino: RootIno(r.Account), Dir: true}}
	return nil
}

// thawed makes sure that the command's account is not frozen, if that matters to it: EREMCHG. What removes the account need not ask, nor
// what brings it.
func (x *txn) thawed(cmd *raftpb.Command) error {
	switch cmd.Op.(type) {
	case *raftpb.Command_FreezeAccount, *raftpb.Command_RemoveAccount,
		*raftpb.Command_BeginImport, *raftpb.Command_ImportRecords, *raftpb.Command_EndImport:
		return nil
	}
	a := AccountOf(cmd)
	if a == 0 {
		return nil
	}
	r, err := x.counters(a)
	if err == syscall.ENOENT { // the command will say what that is to it
		return nil
	}
	if err == nil && r.Frozen != 0 {
		err = syscall.EREMCHG
	}
	return err
}

// setQuota sets the account's limits: ENOENT. What is over them stays; nothing more comes in.
func (x *txn) setQuota(c *raftpb.SetQuota) error {
	r, err := x.counters(Account(c.Account))
	if err != nil {
		return err
	}
	r.QuotaBytes, r.QuotaFiles = c.Bytes, c.Files
	x.counted = true
	return nil
}

// reserveInodes answers the first of c.Count numbers: ENOENT, EINVAL, ENOSPC after 2^35 files.
func (x *txn) reserveInodes(c *raftpb.ReserveInodes) (uint64, error) {
	if c.Count == 0 || c.Count > MaxReserve {
		return 0, syscall.EINVAL
	}
	r, err := x.counters(Account(c.Account))
	if err != nil {
		return 0, err
	}
	first := r.NextLocal
	if first+uint64(c.Count) > maxLocal {
		return 0, syscall.ENOSPC
	}
	r.NextLocal += uint64(c.Count)
	x.counted = true
	return uint64(MakeIno(r.Account, first)), nil
}
