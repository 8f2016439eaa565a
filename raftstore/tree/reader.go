package tree

// Reader reads a mail tree, wherever it lies. It may be used by any number of goroutines.
//
// An error that says what the tree holds, or does not, is a bare syscall.Errno, which is named with each method: callers compare.
// Any other says that the tree could not be read, and is never one of those: from another node, it holds EIO or ETIMEDOUT.
type Reader interface {
	// Account reads the account's counters: ENOENT.
	Account(a Account) (*AccountRecord, error)
	// Inode reads an inode: ENOENT. A directory's link count is two and one for each directory in it; its size counts its entries.
	Inode(i Ino) (*Inode, error)
	// Lookup reads the entry name in the directory: ENOENT. That parent is a directory is the caller's to know.
	Lookup(parent Ino, name string) (DirEntry, error)
	// OpenDir opens a directory for reading: ENOENT, ENOTDIR.
	OpenDir(dir Ino) (DirReader, error)
	// FolderIndex reads the folder's messages; with since > 0 those alone that came or changed after it, and what vanished. When
	// the tombstones do not reach back so far, it answers the whole folder, with Since 0. ENOENT, ENOTDIR for what is no folder.
	FolderIndex(folder Ino, since ModSeq) (*FolderIndex, error)
	// ReadContent appends the sealed form of the file's content, whole, to buf[:0]. An error that holds ESTALE: the file has another
	// by now, and this one is not at hand.
	ReadContent(in *Inode, buf []byte) ([]byte, error)
	// OpenContent opens the content of a regular file: ENOENT, or ESTALE when the file has another by now, and this one is not at hand.
	OpenContent(in *Inode) (ContentReader, error)
	// Xattr reads an extended attribute: ENODATA; ENOENT when the account is not there.
	Xattr(i Ino, name string) ([]byte, error)
	// Xattrs lists the names of the inode's extended attributes, sorted: ENOENT when the account is not there.
	Xattrs(i Ino) ([]string, error)
	// Path is the inode's path below its account's home by its first name, for people: fsck, logs of the operator's own choice.
	Path(i Ino) (string, error)
	// Accounts calls fn with the account numbers that have a tree here, ascending, until it answers false.
	Accounts(fn func(Account) bool) error
}

// DirReader reads a directory as it was when it was opened, in the order of its names. It is for one goroutine.
type DirReader interface {
	// Next gives the next entry; false at the end, or when reading failed (Err).
	Next() (de DirEntry, ok bool)
	// SeekAfter has Next go on behind that name ("": at the beginning).
	SeekAfter(name string)
	// Err is the error that ended reading.
	Err() error
	// Close lets the directory go.
	Close() error
}

// ContentReader reads the sealed form of a content at random, as it was when opened, though the file be replaced or removed
// meanwhile. It may be used by many goroutines.
type ContentReader interface {
	// Size is the length of the sealed form in octets.
	Size() int64
	// ReadAt implements io.ReaderAt.
	ReadAt(p []byte, off int64) (int, error)
	// Close lets the content go.
	Close() error
}

var _ Reader = (*View)(nil)
