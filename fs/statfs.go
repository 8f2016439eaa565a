package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// StatFs implements fuse.RawFileSystem: the disk of the data folder.
func (m *mount) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	st, err := m.cfg.Statfs()
	if err != nil {
		return m.status("statfs", in.NodeId, err)
	}
	out.FromStatfsT(&st)
	out.NameLen = 255
	return fuse.OK
}
