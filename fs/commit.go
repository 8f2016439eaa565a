package fs

import (
	"fmt"
	"io"
	"sync"
	"syscall"

	"mailraft/fs/enclose"
	"mailraft/fs/seal"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// content is a sealed content that no inode names yet.
type content struct {
	id     tree.Ino // 0: empty
	size   uint64   // octets of the message
	octets uint64   // of the sealed form
	inline []byte   // the sealed form; nil when
	pieces bool     // it has gone ahead to the shard in pieces
	room   int      // reserved for inline
	to     string   // the public key that it is sealed to; "" if it was committed before, or is empty
	key    uint64   // the number of that key pair
}

func (c *content) command() *raftpb.Content {
	if c == nil || c.id == 0 {
		return nil
	}
	return &raftpb.Content{Id: uint64(c.id), SealedSize: c.octets, Size: c.size, Inline: c.inline, Key: c.key}
}

// seal makes the sealed form of what is in buf, if it has changed since. Called with io, and no other lock.
func (m *mount) seal(f *file) error {
	if f.sealed != nil && !f.isDirty() {
		acct, err := m.gate.account(f.acct.number)
		var key string
		if err == nil {
			key, _, err = acct.fileKey(f)
		}
		switch {
		case err != nil:
			return err
		case f.sealed.to == "" || f.sealed.to == key || f.sealed.key != acct.record.Key && acct.record.Opens(f.sealed.key):
			return nil
		default: // nobody could read it
			if err := m.fillAgain(f); err != nil {
				return err
			}
		}
	}
	m.discard(f)
	if p := f.pin; f.buf == nil && p != nil && p.inline != nil { // its last committed name is gone, and it is to get another
		f.sealed = &content{id: tree.MakeIno(f.acct.number, p.id), size: p.size, octets: p.octets, inline: p.inline, key: p.key}
		return nil
	}
	if f.buf == nil {
		if err := m.fill(f); err != nil {
			return err
		}
	}
	c, err := m.sealBuffer(f)
	if err != nil {
		return err
	}
	f.closeReader()
	f.sealed = c
	f.clean()
	if f.encloses() { // its size is another one now
		f.mu.Lock()
		f.stat.Size = c.size
		f.mu.Unlock()
		m.inval.attributes(f.ino)
	}
	// Not what the kernel should have: the pages that were written past, which some leave (6.1), and what was not sealed at the lock.
	if f.direct || m.gate.locked(f.acct) {
		f.direct = false
		m.inval.pages(f.ino)
	}
	return nil
}

// fillAgain brings the content of a file that is sealed to a key that was replaced or discarded into buf, to be sealed anew. What is in memory in
// its sealed form alone has to be opened for that: where that can't be done, as the account is locked, its sender has to hear it. Called with io.
func (m *mount) fillAgain(f *file) error {
	if err := m.fill(f); err != nil {
		return fmt.Errorf("staged file of account %d is sealed to a key that was replaced: %w (%v)", f.acct.number, syscall.EIO, err)
	}
	return nil
}

// sealAgain seals the content of a file to the account's key pair of now, as the shard takes it no more to the one that it is sealed to: this node
// may not have heard yet that it was replaced. Called with io.
func (m *mount) sealAgain(f *file) error {
	if err := m.store.Directory().ReadIndex(m.time.context()); err != nil {
		return err
	}
	m.gate.forget(f.acct.number)
	if err := m.fillAgain(f); err != nil {
		return err
	}
	m.discard(f)
	c, err := m.sealBuffer(f)
	if err != nil {
		return err
	}
	f.sealed = c
	return nil
}

func (m *mount) sealBuffer(f *file) (*content, error) {
	size := f.buf.Size()
	if size == 0 {
		return new(content), nil
	}
	if size > tree.MaxContent {
		return nil, syscall.EFBIG
	}
	acct, err := m.gate.account(f.acct.number) // its key may be another one than when the file was opened
	if err != nil {
		return nil, err
	}
	to, key, err := acct.fileKey(f)
	if err != nil {
		return nil, err
	}
	id := f.ino
	if f.used {
		if id, err = m.reserve(f.acct); err != nil {
			return nil, err
		}
	}
	f.used = true
	c := &content{id: id, size: uint64(size), to: to, key: acct.record.Key}
	if room := min(int(size), tree.MaxInline) + sealRoom; m.area.Reserve(room) {
		c.room = room
	}
	p := pieces{propose: m.propose, id: id, ahead: c.room == 0}
	if b, ok := f.buf.Bytes(); ok {
		owner, _ := m.gate.keys.Identity(uint64(acct.number))
		var sealed []byte
		sealed, err = acct.sealBytes(make([]byte, 0, min(size, tree.MaxInline)+sealRoom), b, key, owner, f.encloses())
		if len(sealed) <= tree.MaxInline && !p.ahead {
			p.kept, p.octets = sealed, uint64(len(sealed))
		} else if err == nil {
			_, err = p.Write(sealed)
		}
	} else {
		var w io.WriteCloser
		if w, err = newWriter(&p, key, f.encloses()); err == nil {
			_, err = io.Copy(w, f.buf.Reader())
		}
		if err == nil {
			err = w.Close()
		}
	}
	if err == nil {
		err = p.finish(c)
	}
	if err == nil && f.encloses() {
		if c.size = uint64(enclose.Size(int64(c.octets))); c.size > tree.MaxContent {
			err = syscall.EFBIG
		}
	}
	if err != nil && p.abandon() {
		m.dropContent(id)
	}
	if err != nil || c.pieces {
		m.area.Release(c.room)
		c.room = 0
	}
	return c, err
}

// newWriter seals what is written to it, bare or as this node opens it.
func newWriter(dst io.Writer, key *seal.Recipient, bare bool) (io.WriteCloser, error) {
	p, err := seal.Prepare(key)
	switch {
	case err != nil:
		return nil, err
	case bare:
		return p.NewBareWriter(dst)
	}
	return p.NewWriter(dst)
}

// sealRoom is what the sealed form of an incompressible message of a frame is longer by, at most.
const sealRoom = seal.MaxHeader + 1024

// pieces sends a sealed content to the shard while it is made, a few pieces at a time. What fits into one command is kept
// instead, if there is memory for it.
type pieces struct {
	propose func(*raftpb.Command) error
	id      tree.Ino
	ahead   bool // all of it is to be sent, however short it is
	reseals bool // it takes the place of another of the same message

	kept   []byte // not sent: all of it until it is longer than MaxInline, then the last piece
	octets uint64
	number uint32
	window chan struct{}
	wait   sync.WaitGroup
	mu     sync.Mutex // guards err
	err    error
}

// pieceWindow is how many pieces are under way at once.
const pieceWindow = 4

// Write implements io.Writer.
func (p *pieces) Write(b []byte) (int, error) {
	p.octets += uint64(len(b))
	for rest := b; len(rest) > 0; {
		most := tree.MaxInline
		if p.ahead {
			most = tree.MaxPiece
		}
		n := min(len(rest), most-len(p.kept))
		p.kept = append(p.kept, rest[:n]...)
		rest = rest[n:]
		if len(p.kept) == most && len(rest) > 0 {
			p.sendKept()
			p.ahead, p.kept = true, make([]byte, 0, tree.MaxPiece)
		}
	}
	return len(b), p.failed()
}

// sendKept sends what is kept, whose octets are the proposals' from then on.
func (p *pieces) sendKept() {
	for len(p.kept) > 0 {
		n := min(len(p.kept), tree.MaxPiece)
		p.send(p.kept[:n])
		p.kept = p.kept[n:]
	}
}

func (p *pieces) send(b []byte) {
	if p.window == nil {
		p.window = make(chan struct{}, pieceWindow)
	}
	cmd := &raftpb.Command{Op: &raftpb.Command_PutPiece{PutPiece: &raftpb.PutPiece{
		Account: uint32(p.id.Account()), Content: uint64(p.id), Number: p.number, Data: b[:len(b):len(b)], Reseals: p.reseals,
	}}}
	p.number++
	p.window <- struct{}{}
	p.wait.Go(func() {
		defer func() { <-p.window }()
		if err := p.propose(cmd); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.err == nil {
				p.err = err
			}
		}
	})
}

func (p *pieces) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// finish sends what is left, waits, and says in c what was sent.
func (p *pieces) finish(c *content) error {
	c.octets = p.octets
	if p.number == 0 && !p.ahead {
		c.inline = p.kept
		return nil
	}
	p.sendKept()
	p.wait.Wait()
	c.pieces = true
	return p.failed()
}

// abandon sends no more, and tells whether there is something to be dropped.
func (p *pieces) abandon() bool {
	p.wait.Wait()
	return p.number > 0
}

// discard gives up the sealed content, which no inode is to name. Called with io.
func (m *mount) discard(f *file) {
	c := f.sealed
	if c == nil {
		return
	}
	f.sealed = nil
	m.area.Release(c.room)
	if c.pieces {
		m.dropContent(c.id)
	}
}

// dropContent gives up a content that went ahead in pieces, without keeping the caller waiting. What it misses, the store's
// reaping of orphans finds.
func (m *mount) dropContent(id tree.Ino) {
	m.background.Go(func() {
		if err := m.propose(dropping(id)); err != nil && err != syscall.ENOENT {
			m.log.Warn("cannot drop the content of a file that was given up", "account", id.Account(), "error", err)
		}
	})
}

func dropping(id tree.Ino) *raftpb.Command {
	return &raftpb.Command{Op: &raftpb.Command_DropContent{DropContent: &raftpb.DropContent{Account: uint32(id.Account()), Content: uint64(id)}}}
}

// withinQuota asks whether a file of that size has room in its account: EDQUOT. The commit that names it decides; but who delivers one
// message to several accounts closes all copies before it links the first, and has to hear here of the one that has no room.
func (m *mount) withinQuota(f *file, size uint64) error {
	r, err := f.acct.view.Account(f.acct.number)
	if err != nil {
		return err
	}
	if size > 0 && r.QuotaBytes > 0 && r.Bytes+size > r.QuotaBytes || r.QuotaFiles > 0 && r.Files >= r.QuotaFiles {
		return syscall.EDQUOT
	}
	return nil
}

// flush commits the content if it has changed: of a staged file it only seals it. Called with io, and no other lock.
func (m *mount) flush(f *file) error {
	if !f.isDirty() {
		return nil
	}
	f.mu.Lock()
	local, names, st := f.isLocal(), f.names, f.stat
	f.mu.Unlock()
	if local {
		if names == 0 { // nobody can name it any more
			return nil
		}
		if err := m.withinQuota(f, f.storedSize(st.Size)); err != nil {
			return err
		}
		f.unpin() // what is written has taken its place
		return m.seal(f)
	}
	if err := m.seal(f); err != nil {
		return err
	}
	return m.commitSealed(f, &st)
}

// commitSealed commits what was sealed as the content of a committed file. st is the file's status with it. Called with io.
func (m *mount) commitSealed(f *file, st *tree.Stat) error {
	set := func() error {
		return m.propose(&raftpb.Command{Op: &raftpb.Command_SetContent{SetContent: &raftpb.SetContent{
			Inode: uint64(f.ino), Content: f.sealed.command(), Mtime: st.Mtime,
		}}})
	}
	err := set()
	if err == syscall.EKEYREVOKED {
		if err = m.sealAgain(f); err == nil {
			err = set()
		}
	}
	if err != nil {
		if err == syscall.ENOENT { // unlinked: what is written stays here
			f.lost()
			f.unpin()
			return nil
		}
		if f.buf == nil { // what is sealed is all there is
			return err
		}
		m.discard(f)
		f.mu.Lock()
		f.dirty = true
		f.stat.Size, f.stat.Mtime = st.Size, st.Mtime // others may have asked for the committed ones meanwhile
		f.mu.Unlock()
		m.inval.attributes(f.ino)
		return err
	}
	m.inval.attributes(f.ino) // its times are the commit's now
	m.sealedCommitted(f)
	return nil
}

// sealedCommitted notes that the shard holds what was sealed as the file's content. Called with io.
func (m *mount) sealedCommitted(f *file) {
	c := f.sealed
	f.sealed = nil
	m.area.Release(c.room)
	f.unpin()
	p := &pinned{id: c.id.Local(), size: c.size, octets: c.octets, inline: c.inline, key: c.key}
	f.pin = p
	if !c.pieces && len(c.inline) <= pinInline {
		return
	}
	in, err := f.acct.view.Inode(f.ino)
	if err == nil && in.Content == p.id {
		p.at, err = f.acct.view.OpenContent(in)
	}
	switch {
	case err == nil && p.at != nil:
		p.inline = nil
	case c.pieces: // removed or replaced at once by somebody else: the buffer is all there is
		f.pin = nil
	}
}
