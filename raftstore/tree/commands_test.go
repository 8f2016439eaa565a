package tree

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"

	"pgregory.net/rapid"

	"mailraft/raftstore/raftpb"
)

// commands draws commands that are likely to mean something in the state of a model: few accounts, few names.
type commands struct {
	t     *rapid.T
	m     *model
	now   int64
	fresh map[Account]uint64 // numbers given out, of those reserved
	dirs  []*modelInode      // of the drawn account
	all   []*modelInode      // of the drawn account
	files []*modelInode      // of these, what is no directory
	names []LinkName         // of the drawn account
}

func newCommands(t *rapid.T, m *model) *commands {
	return &commands{t: t, m: m, now: 1_700_000_000e9, fresh: map[Account]uint64{}}
}

var (
	someAccounts = []Account{1, 1, 1, 1, 1, 1, 2, 2, 2, MaxAccount}
	someNames    = []string{"a", "b", "m1", "m2", "m3:2,", "m3:2,S", ".x", "cur", "new", "tmp", ".F", ".F", ".G", "cur", "new"}
	badNames     = []string{"", ".", "..", "a/b", "a\x00", strings.Repeat("n", 255), strings.Repeat("n", 256), ".mailraft-index", ".mailraft-"}
	someXattrs   = []string{"user.a", "user.b", "user.c", "user.a", "user.b", "user.a", "user.b", "user.", "", "security.x", "user.mailraft.uid"}
	someModes    = []uint32{
		syscall.S_IFREG, syscall.S_IFREG, syscall.S_IFREG, syscall.S_IFREG, syscall.S_IFREG, syscall.S_IFREG, syscall.S_IFREG,
		syscall.S_IFREG, syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFDIR, syscall.S_IFDIR, syscall.S_IFDIR, syscall.S_IFLNK,
		syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFBLK,
	}
)

// below generates numbers of ten bits, each as likely: rapid's own integers lean to the ends.
var below = rapid.Custom(func(t *rapid.T) int {
	n := 0
	for range 10 {
		n <<= 1
		if rapid.Bool().Draw(t, "bit") {
			n++
		}
	}
	return n
})

func (c *commands) below(n int, label string) int { return below.Draw(c.t, label) % n }

func (c *commands) percent(n int) bool { return c.below(100, "percent") < n }

func one[T any](c *commands, from []T, label string) T { return from[c.below(len(from), label)] }

// random is what contents are cut from.
var random = func() []byte {
	r := rand.NewChaCha8([32]byte{'t', 'r', 'e', 'e'})
	b := make([]byte, 2*MaxPiece)
	r.Read(b)
	return b
}()

// next draws a command.
func (c *commands) next() *raftpb.Command {
	c.now += int64(c.below(100, "time")-10) * 1e8
	cmd := &raftpb.Command{Version: 1, Now: c.now, Request: &raftpb.Request{Session: 1}}
	a := one(c, someAccounts, "account")
	if c.m.accounts[a] == nil && !c.percent(10) {
		c.createAccount(cmd, a)
		return cmd
	}
	c.look(a)
	if next := c.m.accounts[a]; next != nil && c.fresh[a]+8 > next.next {
		cmd.Op = &raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: uint32(a), Count: 64}}
		return cmd
	}
	kind := c.below(100, "command")
	if len(c.all) > 50 && kind < 30 {
		kind = 40
	}
	switch {
	case kind < 30:
		c.create(cmd, a)
	case kind < 37:
		dir, name := c.newName()
		cmd.Op = &raftpb.Command_Link{Link: &raftpb.Link{Inode: uint64(c.inode(a)), Parent: uint64(dir), Name: name}}
	case kind < 50:
		dir, name := c.name()
		in := c.m.inode(dir).at(name)
		rmdir := in != nil && in.isDir() != c.percent(5)
		cmd.Op = &raftpb.Command_Unlink{Unlink: &raftpb.Unlink{Parent: uint64(dir), Name: name, Directory: rmdir}}
	case kind < 70:
		from, oldName := c.name()
		to, newName := c.newName()
		switch how := c.below(100, "new name"); {
		case how < 40:
			to, newName = c.name()
		case how < 60:
			newName = oldName
		}
		flags := c.below(100, "flags")
		cmd.Op = &raftpb.Command_Rename{Rename: &raftpb.Rename{
			OldParent: uint64(from), OldName: oldName, NewParent: uint64(to), NewName: newName, NoReplace: flags < 10, Exchange: flags >= 5 && flags < 35,
		}}
	case kind < 75:
		c.setAttr(cmd, a)
	case kind < 78:
		c.reseal(cmd, a)
	case kind < 82:
		s := &raftpb.SetContent{Inode: uint64(c.inode(a)), Content: c.content(a, c.number(a))}
		if c.percent(50) {
			s.Mtime = c.now - 5
		}
		cmd.Op = &raftpb.Command_SetContent{SetContent: s}
	case kind < 86:
		c.putPiece(cmd, a)
	case kind < 88:
		cmd.Op = &raftpb.Command_DropContent{DropContent: &raftpb.DropContent{Account: uint32(a), Content: uint64(c.contentName(a))}}
	case kind < 92:
		flags := c.below(100, "flags")
		cmd.Op = &raftpb.Command_SetXattr{SetXattr: &raftpb.SetXattr{
			Inode: uint64(c.inode(a)), Name: one(c, someXattrs, "xattr"), Value: c.small(), Create: flags < 20, Replace: flags > 80,
		}}
	case kind < 95:
		cmd.Op = &raftpb.Command_RemoveXattr{RemoveXattr: &raftpb.RemoveXattr{Inode: uint64(c.inode(a)), Name: one(c, someXattrs, "xattr")}}
	case kind < 96:
		cmd.Op = &raftpb.Command_FenceKeys{FenceKeys: &raftpb.FenceKeys{Account: uint32(a), Key: c.key(a)}}
	case kind < 97:
		q := &raftpb.SetQuota{Account: uint32(a)}
		if c.percent(50) {
			q.Bytes, q.Files = uint64(c.below(41, "bytes"))*20, uint64(c.below(41, "files"))
		}
		cmd.Op = &raftpb.Command_SetQuota{SetQuota: q}
	case kind < 99:
		cmd.Op = &raftpb.Command_ReapOrphans{ReapOrphans: &raftpb.ReapOrphans{Before: c.now - int64(c.below(41, "age"))*1e9, Limit: uint32(c.below(41, "limit")) / 8}}
	case c.percent(30):
		cmd.Op = &raftpb.Command_RemoveAccount{RemoveAccount: &raftpb.RemoveAccount{Account: uint32(a)}}
	case c.percent(30):
		cmd.Op = &raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: uint32(a), Count: uint32(c.below(41, "count")) * 128}}
	case c.percent(30):
		cmd.Op = &raftpb.Command_AddDomain{}
	default:
		c.createAccount(cmd, a)
	}
	return cmd
}

func (c *commands) createAccount(cmd *raftpb.Command, a Account) {
	if c.percent(3) {
		a = MaxAccount + 1
	}
	q := &raftpb.CreateAccount{Account: uint32(a), Uid: 8, Gid: 9}
	if c.percent(10) {
		q.QuotaBytes, q.QuotaFiles = 300, 20
	}
	cmd.Op = &raftpb.Command_CreateAccount{CreateAccount: q}
	c.fresh[a] = firstLocal
}

// look lists what the account has.
func (c *commands) look(a Account) {
	c.all, c.dirs, c.files, c.names = c.all[:0], c.dirs[:0], c.files[:0], c.names[:0]
	if c.m.accounts[a] == nil {
		return
	}
	inodes := c.m.accounts[a].inodes
	for _, i := range slices.Sorted(maps.Keys(inodes)) {
		in := inodes[i]
		c.all = append(c.all, in)
		if !in.isDir() {
			c.files = append(c.files, in)
			continue
		}
		c.dirs = append(c.dirs, in)
		for _, name := range slices.Sorted(maps.Keys(in.entries)) {
			if !in.entries[name].in.isFixed() || c.percent(3) {
				c.names = append(c.names, LinkName{i, name})
			}
		}
	}
}

func (c *commands) pick(from []*modelInode) Ino {
	return from[c.below(len(from), "inode")].ino
}

// inode draws an inode, most often one that is there.
func (c *commands) inode(a Account) Ino {
	if len(c.all) == 0 || c.percent(2) {
		return MakeIno(a, 1000)
	}
	if len(c.files) > 0 && c.percent(70) {
		return c.pick(c.files)
	}
	return c.pick(c.all)
}

// dir draws a directory, or in a few cases something else, or one of another account.
func (c *commands) dir() Ino {
	switch {
	case len(c.dirs) == 0 || c.percent(1):
		return RootIno(2)
	case c.percent(3):
		return c.pick(c.all)
	case c.percent(40):
		return MakeIno(c.dirs[0].ino.Account(), uint64(1+c.below(3, "box")))
	}
	return c.pick(c.dirs)
}

// newName draws a name in a directory.
func (c *commands) newName() (Ino, []byte) {
	if c.percent(3) {
		return c.dir(), []byte(one(c, badNames, "bad name"))
	}
	return c.dir(), []byte(one(c, someNames, "name"))
}

// name draws a name, most often one that is there.
func (c *commands) name() (Ino, []byte) {
	if len(c.names) == 0 || c.percent(5) {
		return c.dir(), []byte(one(c, someNames, "name"))
	}
	n := one(c, c.names, "entry")
	return n.Parent, []byte(n.Name)
}

func (in *modelInode) at(name []byte) *modelInode {
	if in == nil || in.entries[string(name)] == nil {
		return nil
	}
	return in.entries[string(name)].in
}

// number draws a number for a new inode or content.
func (c *commands) number(a Account) Ino {
	if c.percent(3) {
		return MakeIno(a, uint64(c.below(100, "number")))
	}
	c.fresh[a] = max(c.fresh[a], firstLocal) + 1
	return MakeIno(a, c.fresh[a]-1)
}

func (c *commands) create(cmd *raftpb.Command, a Account) {
	dir, name := c.newName()
	i := c.number(a)
	p := &raftpb.Create{Parent: uint64(dir), Name: name, Inode: uint64(i), Uid: 5, Gid: 6, Replace: c.percent(30)}
	p.Mode = one(c, someModes, "mode") | 0o600
	switch p.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		p.Content = c.content(a, i)
	case syscall.S_IFLNK:
		p.Target = c.small()
	}
	if c.percent(20) {
		p.Mtime = c.now - 77
	}
	for range c.below(100, "xattrs") / 97 {
		p.Xattrs = map[string][]byte{one(c, someXattrs, "xattr"): c.small(), one(c, someXattrs, "xattr"): c.small()}
	}
	cmd.Op = &raftpb.Command_Create{Create: p}
}

func (c *commands) small() []byte {
	n := c.below(41, "octets")
	return random[n*41 : n*42]
}

// contentName draws the name of a content of which there are pieces, most often.
func (c *commands) contentName(a Account) Ino {
	if acc := c.m.accounts[a]; acc != nil && len(acc.orphans) > 0 && !c.percent(20) {
		ids := slices.Sorted(maps.Keys(acc.orphans))
		return ids[c.below(len(ids), "orphan")]
	}
	if len(c.all) > 0 && c.percent(20) {
		return cmp.Or(c.all[c.below(len(c.all), "inode")].content, MakeIno(a, 99))
	}
	return c.number(a)
}

// key draws the number of a key pair, most often one that is not fenced off.
func (c *commands) key(a Account) uint64 {
	acc := c.m.accounts[a]
	if acc == nil {
		return 0
	}
	switch n := c.below(20, "key"); {
	case n == 0 && acc.fence > 0:
		return acc.fence - 1
	case n < 14:
		return acc.fence
	}
	return acc.fence + 1
}

func (c *commands) content(a Account, i Ino) *raftpb.Content {
	content := c.sealed(a, i)
	if content != nil {
		content.Key = c.key(a)
	}
	return content
}

// reseal draws another content for a file, most often one that it can have.
func (c *commands) reseal(cmd *raftpb.Command, a Account) {
	r := &raftpb.ResealContent{Inode: uint64(c.inode(a)), Content: c.content(a, c.number(a))}
	if in := c.m.inode(Ino(r.Inode)); in != nil && !c.percent(5) {
		r.Was = uint64(in.content)
		if r.Content != nil && !c.percent(5) {
			r.Content.Size, r.Content.Key = in.size, in.key+1
		}
	}
	cmd.Op = &raftpb.Command_ResealContent{ResealContent: r}
}

func (c *commands) sealed(a Account, i Ino) *raftpb.Content {
	kind := c.below(100, "content")
	switch {
	case kind < 10:
		return nil
	case kind < 13: // what does not fit
		return &raftpb.Content{Id: uint64(c.contentName(a)), SealedSize: 3, Size: uint64(kind), Inline: c.small()}
	case kind < 14:
		return &raftpb.Content{Id: uint64(i), SealedSize: 1, Size: MaxContent + 1, Inline: []byte{1}}
	case kind < 30: // what came in pieces
		id := c.contentName(a)
		sealed := 0
		if acc := c.m.accounts[a]; acc != nil && acc.orphans[id] != nil {
			for _, p := range acc.orphans[id].pieces {
				sealed += len(p)
			}
		}
		return &raftpb.Content{Id: uint64(id), SealedSize: uint64(sealed), Size: uint64(sealed / 3)}
	case kind == 99 && c.percent(30):
		n := c.below(41, "octets")
		return &raftpb.Content{Id: uint64(i), SealedSize: uint64(MaxPiece + n), Size: 70, Inline: random[:MaxPiece+n]}
	}
	b := c.small()
	return &raftpb.Content{Id: uint64(i), SealedSize: uint64(len(b)), Size: uint64(len(b) * 2), Inline: b}
}

func (c *commands) putPiece(cmd *raftpb.Command, a Account) {
	p := &raftpb.PutPiece{Account: uint32(a), Content: uint64(c.contentName(a)), Number: uint32(c.below(100, "piece") / 40), Data: c.small(), Reseals: c.percent(10)}
	if c.percent(30) {
		p.Data = random[len(p.Data):][:MaxPiece]
	}
	if c.percent(2) {
		p.Number = 1 << 20
	}
	cmd.Op = &raftpb.Command_PutPiece{PutPiece: p}
}

func (c *commands) setAttr(cmd *raftpb.Command, a Account) {
	s := &raftpb.SetAttr{Inode: uint64(c.inode(a))}
	set := c.below(100, "attributes")
	if set%2 == 0 {
		mode := uint32(set * 7)
		s.Mode = &mode
	}
	if set%3 == 0 {
		id := uint32(set)
		s.Uid, s.Gid = &id, &id
	}
	if set%5 < 2 {
		at := c.now - int64(set%2)
		if in := c.m.inode(Ino(s.Inode)); in != nil && set%4 < 2 {
			at = in.mtime // no change
		}
		s.Mtime = &at
	}
	if set%7 == 0 {
		at := c.now + 1
		s.Atime = &at
	}
	cmd.Op = &raftpb.Command_SetAttr{SetAttr: s}
}
