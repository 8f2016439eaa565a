package raftstore

import (
	"context"
	"errors"
	"syscall"
	"time"

	"mailraft/raftstore/tree"
)

// homeView is a tree.Reader of one account, wherever that is.
type homeView struct {
	home  Home
	shard *Shard // where it was found; nil: where the directory here says
}

// findTime is how long a read of an account that is not where it was waits to find it.
const findTime = 10 * time.Second

// at calls fn with the reader of the account's shard: again if the account has left that.
func at[T any](v homeView, fn func(tree.Reader) (T, error)) (T, error) {
	sh := v.shard
	if sh == nil {
		var err error
		if sh, err = v.home.shard(); err != nil {
			var none T
			return none, err
		}
	}
	answer, err := fn(sh.View())
	if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ESTALE) {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	here, lost := sh.has(ctx, v.home.account)
	if lost == nil && here {
		return answer, err
	}
	var now tree.Reader
	if lost == nil {
		now, lost = v.home.ReadIndex(ctx)
	}
	switch {
	case errors.Is(lost, syscall.ENOENT): // the account is no more
		return answer, err
	case lost != nil:
		return answer, withErrno(lost)
	case now.(homeView).shard == sh: // it is frozen there, or gone altogether
		return fn(sh.View())
	}
	return at(now.(homeView), fn)
}

// Account implements tree.Reader.
func (v homeView) Account(a tree.Account) (*tree.AccountRecord, error) {
	return at(v, func(r tree.Reader) (*tree.AccountRecord, error) { return r.Account(a) })
}

// Inode implements tree.Reader.
func (v homeView) Inode(i tree.Ino) (*tree.Inode, error) {
	return at(v, func(r tree.Reader) (*tree.Inode, error) { return r.Inode(i) })
}

// Lookup implements tree.Reader.
func (v homeView) Lookup(parent tree.Ino, name string) (tree.DirEntry, error) {
	return at(v, func(r tree.Reader) (tree.DirEntry, error) { return r.Lookup(parent, name) })
}

// OpenDir implements tree.Reader.
func (v homeView) OpenDir(dir tree.Ino) (tree.DirReader, error) {
	return at(v, func(r tree.Reader) (tree.DirReader, error) { return r.OpenDir(dir) })
}

// FolderIndex implements tree.Reader.
func (v homeView) FolderIndex(folder tree.Ino, since tree.ModSeq) (*tree.FolderIndex, error) {
	return at(v, func(r tree.Reader) (*tree.FolderIndex, error) { return r.FolderIndex(folder, since) })
}

// ReadContent implements tree.Reader.
func (v homeView) ReadContent(in *tree.Inode, buf []byte) ([]byte, error) {
	return at(v, func(r tree.Reader) ([]byte, error) { return r.ReadContent(in, buf) })
}

// OpenContent implements tree.Reader.
func (v homeView) OpenContent(in *tree.Inode) (tree.ContentReader, error) {
	return at(v, func(r tree.Reader) (tree.ContentReader, error) { return r.OpenContent(in) })
}

// Xattr implements tree.Reader.
func (v homeView) Xattr(i tree.Ino, name string) ([]byte, error) {
	return at(v, func(r tree.Reader) ([]byte, error) { return r.Xattr(i, name) })
}

// Xattrs implements tree.Reader.
func (v homeView) Xattrs(i tree.Ino) ([]string, error) {
	return at(v, func(r tree.Reader) ([]string, error) { return r.Xattrs(i) })
}

// Path implements tree.Reader.
func (v homeView) Path(i tree.Ino) (string, error) {
	return at(v, func(r tree.Reader) (string, error) { return r.Path(i) })
}

// Accounts implements tree.Reader: there is one.
func (v homeView) Accounts(fn func(tree.Account) bool) error {
	fn(v.home.account)
	return nil
}
