package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"

	"mailraft/fs/seal"
	"mailraft/raftstore/tree"
)

// pinned is a committed content that stays readable while it is open, whatever becomes of its names.
type pinned struct {
	id     uint64             // local number of the content; 0: empty
	size   uint64             // octets of the message
	octets uint64             // of the sealed form
	key    uint64             // number of the key pair that it is sealed to
	inline []byte             // the sealed form, or
	at     tree.ContentReader // where to read it
}

// pinInline is the largest sealed content that is copied when it is opened. Of a larger one the store's state is held.
const pinInline = 64 << 10

// pinContent pins the inode's content: ENOENT when the inode has gone.
func pinContent(v tree.Reader, in *tree.Inode) (*pinned, error) {
	for {
		p := &pinned{id: in.Content, size: in.Size, octets: in.SealedSize, key: in.Key}
		var err error
		switch {
		case in.Content == 0:
		case in.SealedSize <= pinInline:
			p.inline, err = v.ReadContent(in, make([]byte, 0, in.SealedSize))
		default:
			p.at, err = v.OpenContent(in)
		}
		if err == nil {
			return p, nil
		}
		if errnoOf(err) != syscall.ESTALE {
			return nil, err
		}
		content := in.Content
		if in, err = v.Inode(in.Ino); err != nil { // replaced, or removed, since in was read
			return nil, err
		}
		if in.Content == content {
			return nil, syscall.EIO // the store has lost it
		}
	}
}

// unpin lets the pinned content and its reader go. Called with io.
func (f *file) unpin() {
	f.closeReader()
	if f.pin != nil && f.pin.at != nil {
		f.pin.at.Close()
	}
	f.pin = nil
}

func (f *file) closeReader() {
	if f.reader != nil {
		f.reader.Close()
		f.reader = nil
	}
}

// reread has a clean committed file show what the shard holds now, and answers its status there: ENOENT when it holds it no more.
// Called with io.
func (f *file) reread() (tree.Stat, error) {
	in, err := f.acct.view.Inode(f.ino)
	if err != nil {
		return tree.Stat{}, err
	}
	stored := in.Stat
	f.overlay(&in.Stat)
	f.mu.Lock()
	f.linked(in.Links...)
	f.mu.Unlock()
	if !in.IsRegular() || f.isDirty() || f.pin != nil && f.pin.id == in.Content {
		return stored, nil
	}
	p, err := pinContent(f.acct.view, in)
	if err != nil {
		return stored, err
	}
	f.show(p)
	return stored, nil
}

// show has the file show a committed content. Called with io.
func (f *file) show(p *pinned) {
	f.unpin()
	f.closeBuffer()
	f.pin = p
}

func (f *file) closeBuffer() {
	if f.buf != nil {
		f.buf.Close()
		f.buf = nil
	}
}

// open makes the reader of the content, which is not in buf: ENOKEY when the account is locked. What encloses a content needs no key. Called
// with io.
func (f *file) open(ids []seal.Identity) error {
	if f.reader != nil {
		return nil
	}
	var src io.ReaderAt
	var octets, size uint64
	switch {
	case f.sealed != nil && f.sealed.id != 0 && !f.sealed.pieces:
		c := f.sealed
		src, octets, size = bytes.NewReader(c.inline), c.octets, c.size
	case f.pin != nil && f.pin.id != 0:
		src, octets, size = f.pin.at, f.pin.octets, f.pin.size
		if f.pin.at == nil {
			src = bytes.NewReader(f.pin.inline)
		}
	default:
		return nil
	}
	if f.encloses() {
		r, err := f.openEnclosing(src, octets)
		if err == nil {
			f.reader = r
		}
		return err
	}
	r, err := seal.Open(src, int64(octets), int64(size), ids...)
	if err == nil {
		f.reader = r
	}
	return err
}

// openSealed is open that says of a content which none of the keys opens whether it is lost: EKEYREJECTED. Else, EIO, this node may not have heard
// yet of the account's new key, to which another one has sealed it. Called with io.
func (m *mount) openSealed(f *file, ids []seal.Identity) error {
	err := f.open(ids)
	if !errors.Is(err, seal.ErrWrongKey) {
		return err
	}
	a, aerr := m.gate.account(f.acct.number)
	if aerr != nil {
		return aerr
	}
	var key uint64
	switch {
	case f.sealed != nil:
		key = f.sealed.key
	case f.pin != nil:
		key = f.pin.key
	}
	if key < a.record.OldestKey() || key == 0 && a.record.Key == 0 { // keys that were discarded before they had numbers have 0 too
		return err
	}
	return fmt.Errorf("sealed to key %d of account %d, which has key %d here: %w", key, a.number, a.record.Key, syscall.EIO)
}

// length is how long the content is that is not in buf. Called with io.
func (f *file) length() uint64 {
	switch {
	case f.sealed != nil:
		return f.sealed.size
	case f.pin != nil:
		return f.pin.size
	}
	return 0
}

// fill brings the content into buf, to be changed there: ENOKEY when the account is locked, unless it is empty. Called with io.
func (m *mount) fill(f *file) error {
	if f.buf != nil {
		return nil
	}
	buf := m.area.NewFile()
	if size := int64(f.length()); size > 0 {
		ids, err := m.gate.identities(f.acct)
		if f.encloses() {
			err = syscall.ENOKEY
		}
		if err == nil {
			err = m.openSealed(f, ids)
		}
		if err == nil {
			plain := make([]byte, min(size, 256<<10))
			_, err = io.CopyBuffer(io.NewOffsetWriter(buf, 0), io.NewSectionReader(f.reader, 0, size), plain)
			clear(plain)
		}
		if err != nil {
			buf.Close()
			return err
		}
		f.closeReader()
	}
	f.buf = buf
	return nil
}

// fillFor is fill for a handle that is to change a part of the content. What others wrote may be in buf for as long as they have the file
// open, and the kernel tells late that they have closed it: of an account that is locked, or unlocked for others, that is not for this one. Called with io.
func (m *mount) fillFor(h *openFile) error {
	f := h.file
	there := f.buf == nil && f.length() > 0 || f.buf != nil && f.buf.Size() > 0 && !h.own
	if there {
		if err := m.mayRead(f, h.uid); err != nil {
			return err
		}
		if err := f.canOpen(h.own); err != nil {
			return err
		}
	}
	return m.fill(f)
}

// truncate sets the content's length. To nothing needs no key. Called with io.
func (m *mount) truncate(f *file, size uint64, now int64) error {
	if size > tree.MaxContent {
		return syscall.EFBIG
	}
	if size == 0 {
		if f.buf == nil && f.length() == 0 {
			f.buf = m.area.NewFile()
		} else {
			f.closeReader()
			f.closeBuffer()
			f.buf = m.area.NewFile()
		}
	} else if err := m.fill(f); err != nil {
		return err
	}
	if err := f.buf.Truncate(int64(size)); err != nil {
		return err
	}
	f.touched(now)
	return nil
}
