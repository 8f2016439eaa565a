package fs

import (
	"io"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Read implements fuse.RawFileSystem: ENOKEY when the account was locked since the file was opened, EACCES when it is unlocked, but no
// longer for the user who opened it.
func (m *mount) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := m.handles.get(in.Fh)
	switch {
	case h == nil || h.dir != nil:
		return nil, fuse.EBADF
	case h.file == nil:
		return fuse.ReadResultData(slice(h.text, in.Offset, len(buf))), fuse.OK
	}
	n, err := m.read(h.file, buf, int64(in.Offset))
	if err != nil {
		return nil, m.status("read", in.NodeId, err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func slice(b []byte, off uint64, n int) []byte {
	if off >= uint64(len(b)) {
		return nil
	}
	b = b[off:]
	return b[:min(n, len(b))]
}

func (m *mount) read(h *openFile, b []byte, off int64) (n int, err error) {
	f := h.file
	f.io.Lock()
	defer f.io.Unlock()
	if err := m.mayRead(f, h.uid); err != nil {
		return 0, err
	}
	switch {
	case f.encloses() && !f.isUnsealed():
		n, err = m.readEnclosed(f, b, off)
	case f.buf != nil:
		n, err = f.buf.ReadAt(b, off)
	case f.length() == 0:
	default:
		ids, ierr := m.gate.identities(f.acct)
		if ierr == nil {
			ierr = m.openSealed(f, ids)
		}
		if ierr != nil {
			return 0, ierr
		}
		n, err = f.reader.ReadAt(b, off)
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}
