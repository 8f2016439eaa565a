package tree

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"syscall"

	"mailraft/raftstore/raftpb"
)

// model is the tree as plainly as it can be said: maps in memory, every count counted anew. Apply must do what it does.
type model struct {
	tombs    int
	accounts map[Account]*modelAccount

	index uint64 // of the command
	now   int64
}

type modelAccount struct {
	number                 Account
	quotaBytes, quotaFiles uint64
	next                   uint64
	validity               uint32
	fence                  uint64
	inodes                 map[Ino]*modelInode
	orphans                map[Ino]*modelOrphan
}

type modelOrphan struct {
	since  int64
	pieces map[uint32][]byte
}

type modelInode struct {
	ino                 Ino
	mode, uid, gid      uint32
	mtime, ctime, atime int64
	content             Ino // the content's name; 0: empty
	sealed              []byte
	size                uint64
	key                 uint64
	target              string
	xattrs              map[string]string

	// directories
	role    Role
	parent  *modelInode
	entries map[string]*modelEntry
	// folders
	validity uint32
	uidNext  UID
	highest  ModSeq
	vanished []Vanished
	floor    ModSeq
}

type modelEntry struct {
	in     *modelInode
	uid    UID
	modseq ModSeq
}

func (in *modelInode) kind() uint32  { return in.mode & syscall.S_IFMT }
func (in *modelInode) isDir() bool   { return in.kind() == syscall.S_IFDIR }
func (in *modelInode) isFixed() bool { l := in.ino.Local(); return l == 2 || l == 3 || l == 4 }

func (in *modelInode) isMessageAt(dir *modelInode, name string) bool {
	return in.kind() == syscall.S_IFREG && (dir.role == RoleCur || dir.role == RoleNew) && !strings.HasPrefix(name, ".")
}

// names are all the names of the inode, sorted.
func (a *modelAccount) names(in *modelInode) []LinkName {
	var names []LinkName
	for _, dir := range a.inodes {
		for name, e := range dir.entries {
			if e.in == in {
				names = append(names, LinkName{dir.ino, name})
			}
		}
	}
	slices.SortFunc(names, func(x, y LinkName) int {
		return cmp.Or(cmp.Compare(x.Parent, y.Parent), cmp.Compare(x.Name, y.Name))
	})
	return names
}

func (a *modelAccount) usage() (bytes, files uint64) {
	for i, in := range a.inodes {
		if i.Local() >= firstLocal {
			files++
			bytes += in.size
		}
		for _, v := range in.xattrs {
			bytes += uint64(len(v))
		}
	}
	return bytes, files
}

func (a *modelAccount) clone() *modelAccount {
	c := *a
	c.inodes, c.orphans = map[Ino]*modelInode{}, map[Ino]*modelOrphan{}
	for i, in := range a.inodes {
		d := *in
		d.xattrs, d.vanished = maps.Clone(in.xattrs), slices.Clone(in.vanished)
		c.inodes[i] = &d
	}
	for i, in := range a.inodes {
		d := c.inodes[i]
		if in.parent != nil {
			d.parent = c.inodes[in.parent.ino]
		}
		if in.entries != nil {
			d.entries = map[string]*modelEntry{}
		}
		for name, e := range in.entries {
			d.entries[name] = &modelEntry{c.inodes[e.in.ino], e.uid, e.modseq}
		}
	}
	for id, o := range a.orphans {
		c.orphans[id] = &modelOrphan{o.since, maps.Clone(o.pieces)}
	}
	return &c
}

// apply does the command, or nothing when it gives an errno.
func (m *model) apply(index uint64, cmd *raftpb.Command) (uint64, syscall.Errno) {
	m.index, m.now = index, cmd.Now
	switch op := cmd.Op.(type) {
	case *raftpb.Command_CreateAccount:
		return 0, m.createAccount(op.CreateAccount)
	case *raftpb.Command_RemoveAccount:
		if m.accounts[Account(op.RemoveAccount.Account)] == nil {
			return 0, syscall.ENOENT
		}
		delete(m.accounts, Account(op.RemoveAccount.Account))
		return 0, 0
	case *raftpb.Command_SetQuota:
		a := m.accounts[Account(op.SetQuota.Account)]
		if a == nil {
			return 0, syscall.ENOENT
		}
		a.quotaBytes, a.quotaFiles = op.SetQuota.Bytes, op.SetQuota.Files
		return 0, 0
	case *raftpb.Command_ReserveInodes:
		c := op.ReserveInodes
		if c.Count == 0 || c.Count > MaxReserve {
			return 0, syscall.EINVAL
		}
		a := m.accounts[Account(c.Account)]
		if a == nil {
			return 0, syscall.ENOENT
		}
		a.next += uint64(c.Count)
		return uint64(MakeIno(a.number, a.next-uint64(c.Count))), 0
	case *raftpb.Command_Create:
		return m.quota(Ino(op.Create.Parent), op.Create.Inode, func() syscall.Errno { return m.create(op.Create) })
	case *raftpb.Command_Link:
		return value(op.Link.Inode, m.link(op.Link))
	case *raftpb.Command_Unlink:
		return 0, m.unlink(op.Unlink)
	case *raftpb.Command_Rename:
		return m.rename(op.Rename)
	case *raftpb.Command_SetAttr:
		return 0, m.setAttr(op.SetAttr)
	case *raftpb.Command_SetContent:
		return m.quota(Ino(op.SetContent.Inode), 0, func() syscall.Errno { return m.setContent(op.SetContent) })
	case *raftpb.Command_ResealContent:
		return 0, m.resealContent(op.ResealContent)
	case *raftpb.Command_FenceKeys:
		a := m.accounts[Account(op.FenceKeys.Account)]
		if a == nil {
			return 0, syscall.ENOENT
		}
		a.fence = max(a.fence, op.FenceKeys.Key)
		return 0, 0
	case *raftpb.Command_PutPiece:
		return 0, m.putPiece(op.PutPiece)
	case *raftpb.Command_DropContent:
		return 0, m.dropContent(op.DropContent)
	case *raftpb.Command_SetXattr:
		return m.quota(Ino(op.SetXattr.Inode), 0, func() syscall.Errno { return m.setXattr(op.SetXattr) })
	case *raftpb.Command_RemoveXattr:
		return 0, m.removeXattr(op.RemoveXattr)
	case *raftpb.Command_ReapOrphans:
		return m.reap(op.ReapOrphans), 0
	}
	return 0, syscall.EOPNOTSUPP
}

func value(v uint64, errno syscall.Errno) (uint64, syscall.Errno) {
	if errno != 0 {
		return 0, errno
	}
	return v, 0
}

// quota does fn, and takes it back if it left the account of i with more than it had and more than it may have.
func (m *model) quota(i Ino, v uint64, fn func() syscall.Errno) (uint64, syscall.Errno) {
	a := m.accounts[i.Account()]
	if a == nil || a.quotaBytes == 0 && a.quotaFiles == 0 {
		return value(v, fn())
	}
	before := a.clone()
	errno := fn()
	hadBytes, hadFiles := before.usage()
	bytes, files := a.usage()
	if errno == 0 && (a.quotaBytes > 0 && bytes > hadBytes && bytes > a.quotaBytes ||
		a.quotaFiles > 0 && files > hadFiles && files > a.quotaFiles) {
		m.accounts[a.number] = before
		return 0, syscall.EDQUOT
	}
	return value(v, errno)
}

func (m *model) inode(i Ino) *modelInode {
	if a := m.accounts[i.Account()]; a != nil {
		return a.inodes[i]
	}
	return nil
}

func (m *model) directory(i Ino) (*modelInode, syscall.Errno) {
	switch in := m.inode(i); {
	case in == nil:
		return nil, syscall.ENOENT
	case !in.isDir():
		return nil, syscall.ENOTDIR
	default:
		return in, 0
	}
}

func modelName(b []byte) syscall.Errno {
	switch name := string(b); {
	case name == "":
		return syscall.ENOENT
	case name == "." || name == "..":
		return syscall.EEXIST
	case len(name) > 255:
		return syscall.ENAMETOOLONG
	case strings.Contains(name, "/") || strings.Contains(name, "\x00"):
		return syscall.EINVAL
	case strings.HasPrefix(name, ".mailraft-"):
		return syscall.EPERM
	}
	return 0
}

func (m *model) newDir(a *modelAccount, i Ino, perm, uid, gid uint32, role Role) *modelInode {
	in := &modelInode{
		ino: i, mode: syscall.S_IFDIR | perm&0o7777, uid: uid, gid: gid, mtime: m.now, ctime: m.now, atime: m.now,
		role: role, entries: map[string]*modelEntry{}, xattrs: map[string]string{},
	}
	if role == RoleRoot || role == RoleFolder {
		a.validity = max(uint32(m.now/1e9), a.validity+1)
		in.validity, in.uidNext, in.highest = a.validity, 1, ModSeq(m.index)
	}
	return in
}

func (m *model) createAccount(c *raftpb.CreateAccount) syscall.Errno {
	n := Account(c.Account)
	switch {
	case n == 0 || n > MaxAccount:
		return syscall.EINVAL
	case m.accounts[n] != nil:
		return syscall.EEXIST
	}
	a := &modelAccount{
		number: n, quotaBytes: c.QuotaBytes, quotaFiles: c.QuotaFiles, next: 8,
		inodes: map[Ino]*modelInode{}, orphans: map[Ino]*modelOrphan{},
	}
	m.accounts[n] = a
	home := m.newDir(a, MakeIno(n, 1), 0o700, c.Uid, c.Gid, RoleRoot)
	a.inodes[home.ino] = home
	for i, role := range []Role{RoleCur, RoleNew, RoleTmp} {
		in := m.newDir(a, MakeIno(n, uint64(2+i)), 0o700, c.Uid, c.Gid, role)
		a.inodes[in.ino] = in
		m.enter(home, []string{"cur", "new", "tmp"}[i], in, 0)
	}
	return 0
}

// modelRole is what a directory is under that name.
func modelRole(parent Role, name string) Role {
	inFolder := parent == RoleRoot || parent == RoleFolder
	switch {
	case inFolder && name == "cur":
		return RoleCur
	case inFolder && name == "new":
		return RoleNew
	case inFolder && name == "tmp":
		return RoleTmp
	case parent == RoleRoot && strings.HasPrefix(name, ".") && name != ".":
		return RoleFolder
	}
	return RolePlain
}

// enter gives in a name; a message gets its UID, or keeps the one given.
func (m *model) enter(dir *modelInode, name string, in *modelInode, uid UID) {
	e := &modelEntry{in: in}
	if in.isMessageAt(dir, name) {
		if uid == 0 {
			uid = dir.parent.uidNext
			dir.parent.uidNext++
		}
		e.uid, e.modseq = uid, ModSeq(m.index)
		dir.parent.highest = ModSeq(m.index)
	}
	dir.entries[name] = e
	dir.mtime, dir.ctime, in.ctime = m.now, m.now, m.now
	if in.isDir() {
		in.parent = dir
	}
}

// leave takes a name away; a message that does not stay in its folder leaves a tombstone.
func (m *model) leave(dir *modelInode, name string, stays bool) {
	e := dir.entries[name]
	delete(dir.entries, name)
	dir.mtime, dir.ctime, e.in.ctime = m.now, m.now, m.now
	if e.uid == 0 {
		return
	}
	folder := dir.parent
	folder.highest = ModSeq(m.index)
	if stays {
		return
	}
	folder.vanished = append(folder.vanished, Vanished{e.uid, ModSeq(m.index)})
	if lot := max(m.tombs/16, 1); len(folder.vanished) >= m.tombs+lot {
		folder.floor = folder.vanished[lot-1].ModSeq
		folder.vanished = folder.vanished[lot:]
	}
}

// discard is leave, and the end of the inode if it was its last name.
func (m *model) discard(dir *modelInode, name string) {
	in := dir.entries[name].in
	m.leave(dir, name, false)
	if a := m.accounts[in.ino.Account()]; len(a.names(in)) == 0 {
		delete(a.inodes, in.ino)
	}
}

func (m *model) create(c *raftpb.Create) syscall.Errno {
	name := string(c.Name)
	if errno := modelName(c.Name); errno != 0 {
		return errno
	}
	dir, errno := m.directory(Ino(c.Parent))
	if errno != 0 {
		return errno
	}
	a := m.accounts[dir.ino.Account()]
	i := Ino(c.Inode)
	if !a.reserved(i) || a.inodes[i] != nil {
		return syscall.EINVAL
	}
	in := &modelInode{ino: i, mode: c.Mode & (syscall.S_IFMT | 0o7777), uid: c.Uid, gid: c.Gid, ctime: m.now, atime: m.now, xattrs: map[string]string{}}
	validity := a.validity
	switch c.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		in = m.newDir(a, i, c.Mode, c.Uid, c.Gid, modelRole(dir.role, name))
	case syscall.S_IFLNK:
		if len(c.Target) == 0 {
			return syscall.ENOENT
		}
		if len(c.Target) > MaxTarget {
			return syscall.ENAMETOOLONG
		}
		in.target, in.size = string(c.Target), uint64(len(c.Target))
	case syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK:
	default:
		return syscall.EPERM
	}
	in.mtime = cmp.Or(c.Mtime, m.now)
	errno = func() syscall.Errno {
		for _, x := range slices.Sorted(maps.Keys(c.Xattrs)) {
			if errno := modelXattr(x, c.Xattrs[x]); errno != 0 {
				return errno
			}
			in.xattrs[x] = string(c.Xattrs[x])
		}
		if dir.role == RoleTmp && !in.isDir() {
			return syscall.EXDEV
		}
		old := dir.entries[name]
		if old != nil && (!c.Replace || in.isDir()) {
			return syscall.EEXIST
		}
		if old != nil && old.in.isDir() {
			return syscall.EISDIR
		}
		if in.kind() == syscall.S_IFREG {
			if errno := a.fill(in, c.Content); errno != 0 {
				return errno
			}
		}
		if old != nil {
			m.discard(dir, name)
		}
		return 0
	}()
	if errno != 0 {
		a.validity = validity
		return errno
	}
	a.inodes[i] = in
	m.enter(dir, name, in, 0)
	return 0
}

func (a *modelAccount) reserved(i Ino) bool {
	return i.Account() == a.number && i.Local() >= 8 && i.Local() < a.next
}

// fill gives in its content.
func (a *modelAccount) fill(in *modelInode, c *raftpb.Content) syscall.Errno {
	if c.GetId() == 0 {
		if c.GetSize() != 0 || c.GetSealedSize() != 0 || c.GetKey() != 0 || len(c.GetInline()) != 0 {
			return syscall.EINVAL
		}
		in.content, in.sealed, in.size, in.key = 0, nil, 0, 0
		return 0
	}
	id := Ino(c.Id)
	switch {
	case c.Size > MaxContent:
		return syscall.EFBIG
	case !a.reserved(id) || c.SealedSize == 0:
		return syscall.EINVAL
	case c.Key < a.fence:
		return syscall.EKEYREVOKED
	}
	sealed := c.Inline
	if len(sealed) > 0 {
		if len(sealed) > MaxInline || a.holds(id) {
			return syscall.EINVAL
		}
	} else if sealed = a.orphans[id].whole(); sealed == nil {
		return syscall.EINVAL
	}
	if uint64(len(sealed)) != c.SealedSize {
		return syscall.EINVAL
	}
	delete(a.orphans, id)
	in.content, in.sealed, in.size, in.key = id, sealed, c.Size, c.Key
	return 0
}

// holds tells whether there is anything of that content.
func (a *modelAccount) holds(id Ino) bool {
	for _, in := range a.inodes {
		if in.content == id {
			return true
		}
	}
	return a.orphans[id] != nil
}

// whole is the content, if all its pieces are there.
func (o *modelOrphan) whole() []byte {
	if o == nil {
		return nil
	}
	var sealed []byte
	for n := range uint32(len(o.pieces)) {
		p, ok := o.pieces[n]
		if !ok || len(p) < MaxPiece && int(n) != len(o.pieces)-1 {
			return nil
		}
		sealed = append(sealed, p...)
	}
	return sealed
}

func (m *model) link(c *raftpb.Link) syscall.Errno {
	if errno := modelName(c.Name); errno != 0 {
		return errno
	}
	in := m.inode(Ino(c.Inode))
	if in == nil {
		return syscall.ENOENT
	}
	dir, errno := m.directory(Ino(c.Parent))
	switch {
	case errno != 0:
		return errno
	case in.isDir():
		return syscall.EPERM
	case dir.ino.Account() != in.ino.Account() || dir.role == RoleTmp:
		return syscall.EXDEV
	case dir.entries[string(c.Name)] != nil:
		return syscall.EEXIST
	case len(m.accounts[in.ino.Account()].names(in)) >= MaxLinks:
		return syscall.EMLINK
	}
	m.enter(dir, string(c.Name), in, 0)
	return 0
}

func (m *model) unlink(c *raftpb.Unlink) syscall.Errno {
	dir, errno := m.directory(Ino(c.Parent))
	if errno != 0 {
		return errno
	}
	e := dir.entries[string(c.Name)]
	switch {
	case e == nil:
		return syscall.ENOENT
	case c.Directory && !e.in.isDir():
		return syscall.ENOTDIR
	case !c.Directory && e.in.isDir():
		return syscall.EISDIR
	case len(e.in.entries) > 0:
		return syscall.ENOTEMPTY
	case e.in.isFixed():
		return syscall.EBUSY
	}
	m.discard(dir, string(c.Name))
	return 0
}

func (m *model) rename(c *raftpb.Rename) (uint64, syscall.Errno) {
	oldName, newName := string(c.OldName), string(c.NewName)
	if errno := modelName(c.NewName); errno != 0 {
		return 0, errno
	}
	from, errno := m.directory(Ino(c.OldParent))
	if errno != 0 {
		return 0, errno
	}
	to, errno := m.directory(Ino(c.NewParent))
	if errno != 0 {
		return 0, errno
	}
	e := from.entries[oldName]
	if e == nil {
		return 0, syscall.ENOENT
	}
	if from.ino.Account() != to.ino.Account() {
		return 0, syscall.EXDEV
	}
	if errno := mayMove(e.in, from, to, newName); errno != 0 {
		return 0, errno
	}
	other := to.entries[newName]
	switch {
	case c.Exchange && other == nil:
		return 0, syscall.ENOENT
	case c.NoReplace && other != nil:
		return 0, syscall.EEXIST
	case other != nil && other.in == e.in:
		return uint64(e.in.ino), 0
	}
	sameFolder := from.parent == to.parent
	keeps := e.uid != 0 && sameFolder && e.in.isMessageAt(to, newName)
	if c.Exchange {
		if errno := mayMove(other.in, to, from, oldName); errno != 0 {
			return 0, errno
		}
		otherKeeps := other.uid != 0 && sameFolder && other.in.isMessageAt(from, oldName)
		m.leave(from, oldName, keeps)
		m.leave(to, newName, otherKeeps)
		m.enter(to, newName, e.in, kept(e, keeps))
		m.enter(from, oldName, other.in, kept(other, otherKeeps))
		return uint64(e.in.ino), 0
	}
	if other != nil {
		switch {
		case e.in.isDir() && !other.in.isDir():
			return 0, syscall.ENOTDIR
		case !e.in.isDir() && other.in.isDir():
			return 0, syscall.EISDIR
		case len(other.in.entries) > 0:
			return 0, syscall.ENOTEMPTY
		case other.in.isFixed():
			return 0, syscall.EBUSY
		}
		m.discard(to, newName)
	}
	m.leave(from, oldName, keeps)
	m.enter(to, newName, e.in, kept(e, keeps))
	return uint64(e.in.ino), 0
}

func kept(e *modelEntry, keeps bool) UID {
	if keeps {
		return e.uid
	}
	return 0
}

func mayMove(in, from, to *modelInode, name string) syscall.Errno {
	if in.isFixed() {
		return syscall.EBUSY
	}
	if !in.isDir() {
		if to.role == RoleTmp {
			return syscall.EXDEV
		}
		return 0
	}
	depth := 0
	for up := to; up != nil && from != to; up = up.parent {
		if up == in {
			return syscall.EINVAL
		}
		if depth++; depth > 1000 {
			return syscall.ELOOP
		}
	}
	stays := from == to || in.role == RolePlain || in.role == RoleFolder
	if modelRole(to.role, name) != in.role || !stays {
		return syscall.EXDEV
	}
	return 0
}

// messageChanged moves the MODSEQ of all that the file is.
func (m *model) messageChanged(in *modelInode) {
	for _, n := range m.accounts[in.ino.Account()].names(in) {
		dir := m.inode(n.Parent)
		if e := dir.entries[n.Name]; e.uid != 0 {
			e.modseq, dir.parent.highest = ModSeq(m.index), ModSeq(m.index)
		}
	}
}

func (m *model) setAttr(c *raftpb.SetAttr) syscall.Errno {
	in := m.inode(Ino(c.Inode))
	if in == nil {
		return syscall.ENOENT
	}
	in.ctime = m.now
	if c.Mode != nil {
		in.mode = in.kind() | *c.Mode&0o7777
	}
	if c.Uid != nil {
		in.uid = *c.Uid
	}
	if c.Gid != nil {
		in.gid = *c.Gid
	}
	if c.Atime != nil {
		in.atime = *c.Atime
	}
	if c.Mtime != nil && *c.Mtime != in.mtime {
		in.mtime = *c.Mtime
		m.messageChanged(in)
	}
	return 0
}

func (m *model) setContent(c *raftpb.SetContent) syscall.Errno {
	in := m.inode(Ino(c.Inode))
	switch {
	case in == nil:
		return syscall.ENOENT
	case in.isDir():
		return syscall.EISDIR
	case in.kind() != syscall.S_IFREG:
		return syscall.EINVAL
	}
	if errno := m.accounts[in.ino.Account()].fill(in, c.Content); errno != 0 {
		return errno
	}
	in.mtime, in.ctime = cmp.Or(c.Mtime, m.now), m.now
	m.messageChanged(in)
	return 0
}

// resealContent changes nothing but what is stored.
func (m *model) resealContent(c *raftpb.ResealContent) syscall.Errno {
	in := m.inode(Ino(c.Inode))
	switch {
	case in == nil:
		return syscall.ENOENT
	case in.isDir():
		return syscall.EISDIR
	case in.kind() != syscall.S_IFREG || c.Was == 0 || c.GetContent().GetId() == 0:
		return syscall.EINVAL
	case in.content != Ino(c.Was):
		return syscall.ESTALE
	case c.Content.Size != in.size || c.Content.Key <= in.key:
		return syscall.EINVAL
	}
	return m.accounts[in.ino.Account()].fill(in, c.Content)
}

func (m *model) putPiece(c *raftpb.PutPiece) syscall.Errno {
	a := m.accounts[Account(c.Account)]
	if a == nil {
		return syscall.ENOENT
	}
	id := Ino(c.Content)
	if !a.reserved(id) || len(c.Data) == 0 || len(c.Data) > MaxPiece || c.Number >= 16384 {
		return syscall.EINVAL
	}
	o := a.orphans[id]
	if o == nil {
		if a.holds(id) {
			return syscall.EINVAL
		}
		o = &modelOrphan{since: m.now, pieces: map[uint32][]byte{}}
	}
	if o.pieces[c.Number] != nil {
		return 0
	}
	octets := len(c.Data)
	for n, p := range o.pieces {
		octets += len(p)
		// Only the last piece may be short.
		if len(p) < MaxPiece && c.Number > n || len(c.Data) < MaxPiece && c.Number < n {
			return syscall.EINVAL
		}
	}
	if a.quotaBytes > 0 && uint64(octets) > a.quotaBytes && !c.Reseals {
		return syscall.EDQUOT
	}
	o.pieces[c.Number] = c.Data
	a.orphans[id] = o
	return 0
}

func (m *model) dropContent(c *raftpb.DropContent) syscall.Errno {
	id := Ino(c.Content)
	if id.Account() != Account(c.Account) {
		return syscall.EINVAL
	}
	a := m.accounts[id.Account()]
	if a == nil || a.orphans[id] == nil {
		return syscall.ENOENT
	}
	delete(a.orphans, id)
	return 0
}

func modelXattr(name string, value []byte) syscall.Errno {
	switch {
	case name == "" || len(name) > 255:
		return syscall.ERANGE
	case !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.mailraft."):
		return syscall.EOPNOTSUPP
	case len(value) > MaxXattr:
		return syscall.E2BIG
	}
	return 0
}

func (m *model) setXattr(c *raftpb.SetXattr) syscall.Errno {
	if errno := modelXattr(c.Name, c.Value); errno != 0 {
		return errno
	}
	in := m.inode(Ino(c.Inode))
	if in == nil {
		return syscall.ENOENT
	}
	_, there := in.xattrs[c.Name]
	switch {
	case c.Create && there:
		return syscall.EEXIST
	case c.Replace && !there:
		return syscall.ENODATA
	case !there && len(in.xattrs) == MaxXattrs:
		return syscall.ENOSPC
	}
	in.xattrs[c.Name] = string(c.Value)
	in.ctime = m.now
	return 0
}

func (m *model) removeXattr(c *raftpb.RemoveXattr) syscall.Errno {
	in := m.inode(Ino(c.Inode))
	if in == nil {
		return syscall.ENOENT
	}
	if _, there := in.xattrs[c.Name]; !there {
		return syscall.ENODATA
	}
	delete(in.xattrs, c.Name)
	in.ctime = m.now
	return 0
}

// reap drops the oldest-numbered first, account by account.
func (m *model) reap(c *raftpb.ReapOrphans) uint64 {
	n := uint64(0)
	for _, number := range slices.Sorted(maps.Keys(m.accounts)) {
		a := m.accounts[number]
		for _, id := range slices.Sorted(maps.Keys(a.orphans)) {
			if a.orphans[id].since < c.Before && n < uint64(c.Limit) {
				delete(a.orphans, id)
				n++
			}
		}
	}
	return n
}
