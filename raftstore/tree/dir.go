package tree

import (
	"errors"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// DirReader reads a directory as it was when it was opened, in the order of its names. It is for one goroutine.
type DirReader struct {
	snap   *snapshot
	it     *pebble.Iterator
	dir    Ino
	ok     bool // the iterator stands on the next entry
	failed error
}

// OpenDir opens a directory for reading: ENOENT, ENOTDIR.
func (v *View) OpenDir(dir Ino) (*DirReader, error) {
	snap := v.snapshot()
	in, err := inode(snap, dir)
	if err == nil && !in.IsDir() {
		err = syscall.ENOTDIR
	}
	var it *pebble.Iterator
	if err == nil {
		it, err = newIter(snap, inoKey(kindEntry, dir))
	}
	if err != nil {
		snap.Close()
		return nil, err
	}
	return &DirReader{snap: snap, it: it, dir: dir, ok: it.First()}, nil
}

// Next gives the next entry; false at the end, or when reading failed (Err).
func (r *DirReader) Next() (de DirEntry, ok bool) {
	if !r.ok || r.failed != nil {
		return de, false
	}
	val, err := r.it.ValueAndErr()
	if err == nil {
		err = de.decode(r.dir, string(r.it.Key()[inoPrefix:]), val)
	}
	if err == nil {
		err = fillDir(r.snap, &de)
	}
	r.failed = err
	r.ok = r.it.Next()
	return de, err == nil
}

// SeekAfter has Next go on behind that name ("": at the beginning).
func (r *DirReader) SeekAfter(name string) {
	k := entryKey(r.dir, name)
	r.ok = r.it.SeekGE(k)
	if r.ok && name != "" && string(r.it.Key()) == string(k) {
		r.ok = r.it.Next()
	}
}

// Err is the error that ended reading.
func (r *DirReader) Err() error { return errors.Join(r.failed, r.it.Error()) }

// Close lets the snapshot go.
func (r *DirReader) Close() error { return errors.Join(r.it.Close(), r.snap.Close()) }
