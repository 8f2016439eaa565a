package raftstore

import "mailraft/raftstore/tree"

// view is a tree.Reader of a shard, wherever it is read.
type view struct{ shard *Shard }

// from is where to read now: until release is called.
func (v view) from() (r tree.Reader, release func()) {
	if here, release := v.shard.use(); here != nil {
		return here.tree.View(), release
	}
	return v.shard.reads, func() {}
}

// Account implements tree.Reader.
func (v view) Account(a tree.Account) (*tree.AccountRecord, error) {
	r, release := v.from()
	defer release()
	return r.Account(a)
}

// Inode implements tree.Reader.
func (v view) Inode(i tree.Ino) (*tree.Inode, error) {
	r, release := v.from()
	defer release()
	return r.Inode(i)
}

// Lookup implements tree.Reader.
func (v view) Lookup(parent tree.Ino, name string) (tree.DirEntry, error) {
	r, release := v.from()
	defer release()
	return r.Lookup(parent, name)
}

// OpenDir implements tree.Reader.
func (v view) OpenDir(dir tree.Ino) (tree.DirReader, error) {
	r, release := v.from()
	defer release()
	return r.OpenDir(dir)
}

// FolderIndex implements tree.Reader.
func (v view) FolderIndex(folder tree.Ino, since tree.ModSeq) (*tree.FolderIndex, error) {
	r, release := v.from()
	defer release()
	return r.FolderIndex(folder, since)
}

// ReadContent implements tree.Reader.
func (v view) ReadContent(in *tree.Inode, buf []byte) ([]byte, error) {
	r, release := v.from()
	defer release()
	return r.ReadContent(in, buf)
}

// OpenContent implements tree.Reader.
func (v view) OpenContent(in *tree.Inode) (tree.ContentReader, error) {
	r, release := v.from()
	defer release()
	return r.OpenContent(in)
}

// Xattr implements tree.Reader.
func (v view) Xattr(i tree.Ino, name string) ([]byte, error) {
	r, release := v.from()
	defer release()
	return r.Xattr(i, name)
}

// Xattrs implements tree.Reader.
func (v view) Xattrs(i tree.Ino) ([]string, error) {
	r, release := v.from()
	defer release()
	return r.Xattrs(i)
}

// Path implements tree.Reader.
func (v view) Path(i tree.Ino) (string, error) {
	r, release := v.from()
	defer release()
	return r.Path(i)
}

// Accounts implements tree.Reader.
func (v view) Accounts(fn func(tree.Account) bool) error {
	r, release := v.from()
	defer release()
	return r.Accounts(fn)
}
