package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// OwnDisk gives a node's data folder a file system (a tmpfs) of so many octets for itself.
func OwnDisk(octets int) Option {
	return func(n *Node) {
		n.t.Helper()
		n.disk = filepath.Join(filepath.Dir(n.Data), "disk")
		if err := os.Mkdir(n.disk, 0o700); err != nil {
			n.t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", n.disk, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", octets)); err != nil {
			n.disk = ""
			n.t.Fatal(err)
		}
		n.Data = filepath.Join(n.disk, "data")
	}
}

// FillDisk takes all that is free of the node's own disk.
func (n *Node) FillDisk() {
	n.t.Helper()
	f, err := os.OpenFile(n.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	for octets := make([]byte, 1<<20); len(octets) > 0; {
		if _, err = f.Write(octets); err != nil {
			octets = octets[:len(octets)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		n.t.Fatal("the disk does not fill: ", err)
	}
}

// EmptyDisk gives that back.
func (n *Node) EmptyDisk() {
	n.t.Helper()
	if err := os.Remove(n.filler()); err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) filler() string { return filepath.Join(n.disk, "filler") }
