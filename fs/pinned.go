package fs

import (
	"fmt"
	"io"
	"syscall"
	"time"

	"mailraft/fs/enclose"
	"mailraft/fs/seal"
	"mailraft/raftstore/tree"
)

// An account that is pinned to a key of its owner's has messages that nobody here can open. They are sealed bare, and what is read of one is
// a message that encloses it (package enclose). A message is what lies in a cur/, new/ or tmp/; everything else, such as subscriptions and
// keywords, is sealed to the account's own key and read as in any account.
//
// So what is a message stays one: nothing goes from those directories to others, or comes from there, but as a copy.

// holdsMessages tells whether files in directories of that role are messages, or become some.
func holdsMessages(r tree.Role) bool { return r.HoldsMessages() || r == tree.RoleTmp }

// encloses tells whether the file is a message of a pinned account. Called with io.
func (f *file) encloses() bool { return f.message && f.acct.record.Pinned() }

// placed takes note of whether the file is a message, by where it lies. Called with io.
func (m *mount) placed(f *file) error {
	if !f.acct.record.Pinned() {
		return nil
	}
	links := f.linkNames()
	if len(links) == 0 {
		return nil
	}
	role, err := m.gate.role(f.acct, links[0].Parent)
	if err != nil {
		return err
	}
	f.message = holdsMessages(role)
	return nil
}

// checkPlaces refuses to give a file of a pinned account a name where it would be, or not be, a message: EXDEV, as between file systems.
func (m *mount) checkPlaces(a *account, message bool, to tree.Ino) error {
	if !a.record.Pinned() {
		return nil
	}
	role, err := m.gate.role(a, to)
	if err == nil && holdsMessages(role) != message {
		err = syscall.EXDEV
	}
	return err
}

// checkMove is checkPlaces of a committed name. Directories may go anywhere: what is in those that hold no messages are none.
func (m *mount) checkMove(a *account, from tree.Ino, name string, to tree.Ino) error {
	if !a.record.Pinned() || from == to {
		return nil
	}
	role, err := m.gate.role(a, from)
	if err != nil {
		return err
	}
	if err = m.checkPlaces(a, holdsMessages(role), to); err != syscall.EXDEV {
		return err
	}
	if de, lerr := a.view.Lookup(from, name); lerr == nil && de.Stat.IsDir() {
		return nil
	}
	return err
}

// fileKey is the public key that the file is sealed to, also as it is written. Called with io.
func (a *account) fileKey(f *file) (string, *seal.Recipient, error) {
	if a.record.Pinned() && !f.message {
		text := a.record.LoginRecipient
		key, err := seal.ParseRecipient(text)
		if err != nil {
			err = fmt.Errorf("public key of account %d's login: %w", a.number, err)
		}
		return text, key, err
	}
	key, err := a.key()
	return a.record.Recipient, key, err
}

// openEnclosing makes the reader of what encloses a sealed content. Its date is that of the file as it is now. Called with io.
func (f *file) openEnclosing(sealed io.ReaderAt, octets uint64) (*enclose.Reader, error) {
	f.mu.Lock()
	date := f.stat.Mtime
	f.mu.Unlock()
	return enclose.New(sealed, int64(octets), enclose.Head{
		Address: f.acct.record.Address(), Date: time.Unix(0, date), ID: fmt.Sprint("mailraft.", uint64(f.ino)),
	})
}

// canOpen says whether what the file has can be had in plain, to be changed in part: ENOKEY of a message that is enclosed, but for who has it
// under way. Called with io.
func (f *file) canOpen(own bool) error {
	if f.encloses() && f.length() > 0 && !own && !f.isUnsealed() {
		return syscall.ENOKEY
	}
	return nil
}

// readEnclosed is read of a message that has been sealed: ENOKEY while it is written anew, or while it is too long to be kept here and not
// committed yet. Called with io.
func (m *mount) readEnclosed(f *file, b []byte, off int64) (int, error) {
	if f.isDirty() || f.length() > 0 && !f.isSealed() {
		return 0, syscall.ENOKEY
	}
	if f.length() == 0 {
		return 0, nil
	}
	if err := f.open(nil); err != nil {
		return 0, err
	}
	return f.reader.ReadAt(b, off)
}

// sizeWillChange tells whether the file is a message that is being written, and has another size once it is sealed.
func (f *file) sizeWillChange() bool { return f.acct.record.Pinned() && f.isDirty() }

// sizeWillChange is that of an inode's file, if one is open.
func (m *mount) sizeWillChange(i tree.Ino) bool {
	f := m.files.get(i)
	if f == nil {
		return false
	}
	defer m.put(f)
	return f.sizeWillChange()
}

// storedSize is what a content that is written counts, by its size in plain. Called with io.
func (f *file) storedSize(plain uint64) uint64 {
	if !f.encloses() || plain == 0 {
		return plain
	}
	key, err := f.acct.key()
	if err != nil { // sealing will say it
		return plain
	}
	return uint64(enclose.Size(key.BareSize(int64(plain))))
}
