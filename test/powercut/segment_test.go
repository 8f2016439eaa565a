package powercut

import (
	"path/filepath"
	"testing"
)

// TestSegmentMadeAtACrash: the process was killed just after it had made a segment of the log, before the segment's name was on the
// disk. The next one commits to that segment, and then the power fails.
func TestSegmentMadeAtACrash(t *testing.T) {
	d := start(t)
	open := func() keeper {
		k, _, err := openGroup(t.Context(), d.Path)
		must(t, err)
		return k
	}
	must(t, open().close())
	segments, err := filepath.Glob(filepath.Join(d.Path, "group/wal/*.wal"))
	must(t, err)
	if len(segments) != 1 {
		t.Fatal(segments)
	}
	name := filepath.Join("group/wal", filepath.Base(segments[0]))
	do(t, d.Path, "rename "+name+" group/wal/aside\nfsync group/wal\nlink group/wal/aside "+name)

	k := open()
	first, err := k.reserve(t.Context(), 1)
	must(t, err)
	must(t, k.close())
	must(t, d.Lose())
	must(t, d.Restore())
	k = open()
	next, err := k.reserve(t.Context(), 1)
	must(t, err)
	if next <= first {
		t.Errorf("number %d is given out again: %d", first, next)
	}
	must(t, k.close())
}
