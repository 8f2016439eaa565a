package damage

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mailraft/test/node"
)

// stopped is a node that was set up, took a message, and was stopped.
func stopped(t *testing.T) *node.Node {
	t.Helper()
	n := node.Start(t, node.Flags("--shards", "1"))
	a := n.AddAccount("alice@example.org")
	must(t, os.WriteFile(filepath.Join(a.Home, "tmp", "1"), []byte("a message\n"), 0o600))
	must(t, os.Rename(filepath.Join(a.Home, "tmp", "1"), filepath.Join(a.Home, "new", "1")))
	n.Stop()
	return n
}

func TestReadOnly(t *testing.T) {
	n := stopped(t)
	must(t, unix.Mount(n.Data, n.Data, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(n.Data, unix.MNT_DETACH)) })
	must(t, unix.Mount("", n.Data, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	refuses(t, n, " is on a read-only file system; remount it writable")
	must(t, unix.Mount("", n.Data, "", unix.MS_BIND|unix.MS_REMOUNT, ""))
	n.Start() // nothing has come to harm
	n.Fsck()
	n.Stop()
}

func TestAnotherVersion(t *testing.T) {
	n := stopped(t)
	format := find(t, n.Data, "FORMAT")
	b, err := os.ReadFile(format)
	must(t, err)
	newer := strings.Replace(string(b), "data 1,", "data 2,", 1)
	must(t, os.WriteFile(format, []byte(newer), 0o600))
	refuses(t, n, "FORMAT is of version 2, this program knows version 1", "start the program that wrote it")
	if after, err := os.ReadFile(format); err != nil || string(after) != newer {
		t.Errorf("it has written to what it does not know: %q, %v", after, err)
	}
	must(t, os.WriteFile(format, b, 0o600))
	n.Start()
	n.Fsck()
	n.Stop()
}

func TestNotADataFolder(t *testing.T) {
	n := node.New(t)
	must(t, os.MkdirAll(filepath.Join(n.Data, "photos"), 0o700))
	must(t, os.WriteFile(filepath.Join(n.Data, "photos", "cat.jpeg"), []byte("cat"), 0o600))
	refuses(t, n, n.Data+" is no data folder, and is not empty (photos); name an empty folder")
	if files := filesBelow(t, n.Data); !slices.Equal(files, []string{filepath.Join(n.Data, "photos", "cat.jpeg")}) {
		t.Errorf("there is now %q", files)
	}
}

// A node whose store is gone does not begin an empty one in its place: a disk may not be mounted.
func TestStoreGone(t *testing.T) {
	n := stopped(t)
	store := filepath.Join(n.Data, "store")
	must(t, os.Rename(store, store+".away"))
	must(t, os.Mkdir(store, 0o700))
	refuses(t, n, "gone")
	if left := filesBelow(t, store); len(left) > 0 {
		t.Errorf("it has made %v", left)
	}
	must(t, os.Remove(store))
	refuses(t, n, "gone")
	must(t, os.Rename(store+".away", store))
	n.Start()
	n.Fsck()
	n.Stop()
}

func TestInUse(t *testing.T) {
	n := node.Start(t)
	other := node.New(t)
	other.Data = n.Data
	refuses(t, other, "data folder is in use by another process; stop it first")
}

// find is the path of the one file of that name below dir.
func find(t *testing.T, dir, name string) string {
	t.Helper()
	var found []string
	for _, p := range filesBelow(t, dir) {
		if filepath.Base(p) == name {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d files %s below %s", len(found), name, dir)
	}
	return found[0]
}
