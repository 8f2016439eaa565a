package tree

import (
	"strings"
	"syscall"
	"testing"
)

// The worked sizes of docs/format.md.
func TestWorkedSizes(t *testing.T) {
	name := strings.Repeat("n", 40)
	stat := Stat{Mode: syscall.S_IFREG | 0o600, UID: 1000, GID: 1000, Nlink: 1, Size: 8192, SealedSize: 5021}
	in := Inode{Ino: MakeIno(1, 9000), Stat: stat, Links: []LinkName{{MakeIno(1, 3), name}}, Content: 9000}
	de := DirEntry{Name: name, Ino: in.Ino, Stat: stat, UID: 70_000, ModSeq: 3_000_000}
	change := position{RoleNew, name}
	for what, size := range map[string][4]int{
		"inode":  {len(inodeKey(in.Ino)), 14, len(in.appendTo(nil)), 84},
		"entry":  {len(entryKey(MakeIno(1, 3), name)), 54, len(de.appendTo(nil)), 46},
		"change": {len(changeKey(kindModSeq, RootIno(1), de.ModSeq, de.UID)), 26, len(change.appendTo(nil)), 43},
		"piece":  {len(pieceKey(in.Ino, 0)), 18, 0, 0},
	} {
		if size[0] != size[1] || size[2] != size[3] {
			t.Errorf("%s: key %d, record %d octets; docs/format.md says %d, %d", what, size[0], size[2], size[1], size[3])
		}
	}
}
