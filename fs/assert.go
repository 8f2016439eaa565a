package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// served is what the mount serves of fuse.RawFileSystem. What is missing has the default's answer, ENOSYS, on purpose: Access (the
// kernel checks permissions), Lseek (no holes are told), GetLk, SetLk, SetLkw (locks are the kernel's), CopyFileRange and Ioctl,
// Tmpfile (EOPNOTSUPP to the caller), Statx. FLUSH and FSYNC must never be answered with it: the kernel would not ask again, for any
// file.
type served interface {
	Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status
	Forget(nodeid, nlookup uint64)
	GetAttr(cancel <-chan struct{}, input *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status
	SetAttr(cancel <-chan struct{}, input *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status
	Mknod(cancel <-chan struct{}, input *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status
	Mkdir(cancel <-chan struct{}, input *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status
	Unlink(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status
	Rmdir(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status
	Rename(cancel <-chan struct{}, input *fuse.RenameIn, oldName string, newName string) fuse.Status
	Link(cancel <-chan struct{}, input *fuse.LinkIn, filename string, out *fuse.EntryOut) fuse.Status
	Symlink(cancel <-chan struct{}, header *fuse.InHeader, pointedTo string, linkName string, out *fuse.EntryOut) fuse.Status
	Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status)
	GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status)
	ListXAttr(cancel <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status)
	SetXAttr(cancel <-chan struct{}, input *fuse.SetXAttrIn, attr string, data []byte) fuse.Status
	RemoveXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string) fuse.Status
	Create(cancel <-chan struct{}, input *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status
	Open(cancel <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) fuse.Status
	Read(cancel <-chan struct{}, input *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status)
	Release(cancel <-chan struct{}, input *fuse.ReleaseIn)
	Write(cancel <-chan struct{}, input *fuse.WriteIn, data []byte) (uint32, fuse.Status)
	Writev(cancel <-chan struct{}, input *fuse.WriteIn, data [][]byte) (uint32, fuse.Status)
	Flush(cancel <-chan struct{}, input *fuse.FlushIn) fuse.Status
	Fsync(cancel <-chan struct{}, input *fuse.FsyncIn) fuse.Status
	Fallocate(cancel <-chan struct{}, input *fuse.FallocateIn) fuse.Status
	OpenDir(cancel <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) fuse.Status
	ReadDir(cancel <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status
	ReadDirPlus(cancel <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status
	ReleaseDir(input *fuse.ReleaseIn)
	FsyncDir(cancel <-chan struct{}, input *fuse.FsyncIn) fuse.Status
	StatFs(cancel <-chan struct{}, input *fuse.InHeader, out *fuse.StatfsOut) fuse.Status
}

var (
	_ served             = (*mount)(nil)
	_ fuse.RawFileSystem = (*mount)(nil)
	_ notifier           = (*fuse.Server)(nil)
)
