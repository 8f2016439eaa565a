package tree

import (
	"errors"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// dirReader implements DirReader on a snapshot.
type dirReader struct {
	snap   *snapshot
	it     *pebble.Iterator
	dir    Ino
	ok     bool // the iterator stands on the next entry
	failed error
}

// OpenDir implements Reader.
func (v *View) OpenDir(dir Ino) (DirReader, error) {
	snap := v.snapshot()
	in, err := wholeInode(snap, dir)
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
	return &dirReader{snap: snap, it: it, dir: dir, ok: it.First()}, nil
}

// Next implements DirReader.
func (r *dirReader) Next() (de DirEntry, ok bool) {
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

// SeekAfter implements DirReader.
func (r *dirReader) SeekAfter(name string) {
	k := entryKey(r.dir, name)
	r.ok = r.it.SeekGE(k)
	if r.ok && name != "" && string(r.it.Key()) == string(k) {
		r.ok = r.it.Next()
	}
}

// Err implements DirReader.
func (r *dirReader) Err() error { return errors.Join(r.failed, r.it.Error()) }

// Close lets the snapshot go.
func (r *dirReader) Close() error { return errors.Join(r.it.Close(), r.snap.Close()) }
