package raftstore

import (
	"context"
	"errors"
	"syscall"
	"time"

	"mailraft/raftstore/tree"
)

// view is a tree.Reader of a shard, wherever that is read; or of an account, wherever that is.
type view struct {
	shard *Shard // of an account: where it was found; nil: where the directory here says
	home  *Home  // nil: it is of the shard itself
}

// from is where the shard is read now: until release is called.
func (sh *Shard) from() (r tree.Reader, release func()) {
	if here, release := sh.use(); here != nil {
		return here.tree.View(), release
	}
	return sh.reads, func() {}
}

// readFrom calls fn with where the shard is read now.
func readFrom[T any](sh *Shard, fn func(tree.Reader) (T, error)) (T, error) {
	r, release := sh.from()
	defer release()
	return fn(r)
}

// findTime is how long a read of an account that is not where it was waits to find it.
const findTime = 10 * time.Second

// at calls fn with where the shard is read, or the account's shard: again if the account has left that.
func at[T any](v view, fn func(tree.Reader) (T, error)) (T, error) {
	sh := v.shard
	if sh == nil {
		var err error
		if sh, err = v.home.shard(); err != nil {
			var none T
			return none, err
		}
	}
	answer, err := readFrom(sh, fn)
	if v.home == nil || !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ESTALE) {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	here, lost := sh.has(ctx, v.home.account)
	if lost == nil && here { // it may have come since it was read
		return readFrom(sh, fn)
	}
	var now *Shard
	if lost == nil {
		now, lost = v.home.find(ctx, (*Shard).ReadIndex)
	}
	switch {
	case errors.Is(lost, syscall.ENOENT): // the account is no more
		return answer, err
	case lost != nil:
		return answer, withErrno(lost)
	case now == sh: // it is frozen there, or gone altogether
		return readFrom(sh, fn)
	}
	return at(view{now, v.home}, fn)
}

// Account implements tree.Reader.
func (v view) Account(a tree.Account) (*tree.AccountRecord, error) {
	return at(v, func(r tree.Reader) (*tree.AccountRecord, error) { return r.Account(a) })
}

// Inode implements tree.Reader.
func (v view) Inode(i tree.Ino) (*tree.Inode, error) {
	return at(v, func(r tree.Reader) (*tree.Inode, error) { return r.Inode(i) })
}

// Lookup implements tree.Reader.
func (v view) Lookup(parent tree.Ino, name string) (tree.DirEntry, error) {
	return at(v, func(r tree.Reader) (tree.DirEntry, error) { return r.Lookup(parent, name) })
}

// OpenDir implements tree.Reader.
func (v view) OpenDir(dir tree.Ino) (tree.DirReader, error) {
	return at(v, func(r tree.Reader) (tree.DirReader, error) { return r.OpenDir(dir) })
}

// FolderIndex implements tree.Reader.
func (v view) FolderIndex(folder tree.Ino, since tree.ModSeq) (*tree.FolderIndex, error) {
	return at(v, func(r tree.Reader) (*tree.FolderIndex, error) { return r.FolderIndex(folder, since) })
}

// ReadContent implements tree.Reader.
func (v view) ReadContent(in *tree.Inode, buf []byte) ([]byte, error) {
	return at(v, func(r tree.Reader) ([]byte, error) { return r.ReadContent(in, buf) })
}

// OpenContent implements tree.Reader.
func (v view) OpenContent(in *tree.Inode) (tree.ContentReader, error) {
	return at(v, func(r tree.Reader) (tree.ContentReader, error) { return r.OpenContent(in) })
}

// Xattr implements tree.Reader.
func (v view) Xattr(i tree.Ino, name string) ([]byte, error) {
	return at(v, func(r tree.Reader) ([]byte, error) { return r.Xattr(i, name) })
}

// Xattrs implements tree.Reader.
func (v view) Xattrs(i tree.Ino) ([]string, error) {
	return at(v, func(r tree.Reader) ([]string, error) { return r.Xattrs(i) })
}

// Path implements tree.Reader.
func (v view) Path(i tree.Ino) (string, error) {
	return at(v, func(r tree.Reader) (string, error) { return r.Path(i) })
}

// Accounts implements tree.Reader: those of the shard.
func (v view) Accounts(fn func(tree.Account) bool) error {
	_, err := at(v, func(r tree.Reader) (struct{}, error) { return struct{}{}, r.Accounts(fn) })
	return err
}
