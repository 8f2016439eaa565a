package maildir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// doubtful is a file system whose links answer what link says.
type doubtful struct {
	*fs.LoopbackNode
	link func(make func() syscall.Errno) syscall.Errno
}

func (d *doubtful) WrapChild(_ context.Context, below fs.InodeEmbedder) fs.InodeEmbedder {
	return &doubtful{below.(*fs.LoopbackNode), d.link}
}

func (d *doubtful) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	errno = d.link(func() (errno syscall.Errno) {
		child, errno = d.LoopbackNode.Link(ctx, target, name, out)
		return errno
	})
	return child, errno
}

// mountDoubtful mounts a Maildir++ and returns its home, and the directory that the mount shows as that; link decides over each
// link(2) in it, which make makes. A process should use its own mount as little as it can.
func mountDoubtful(t *testing.T, link func(make func() syscall.Errno) syscall.Errno) (home, shown string) {
	t.Helper()
	shown = newMaildir(t)
	below, at := filepath.Dir(shown), t.TempDir()
	var st syscall.Stat_t
	if err := syscall.Stat(below, &st); err != nil {
		t.Fatal(err)
	}
	root := &fs.LoopbackRoot{Path: below, Dev: uint64(st.Dev)}
	server, err := fs.Mount(at, &doubtful{&fs.LoopbackNode{RootData: root}, link}, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMount: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return at + "/alice", shown
}

// When the mount cannot say whether a message went in, asking again settles it: what is stored is not answered as a failure, for then
// it would come again.
func TestCommitInDoubt(t *testing.T) {
	for _, test := range []struct {
		name   string
		made   []bool // whether the first, second, ... link is made
		answer []syscall.Errno
		want   error
		stored int
	}{
		{"made, EIO", []bool{true, true}, []syscall.Errno{syscall.EIO, 0}, nil, 1},
		{"made, ETIMEDOUT", []bool{true, true}, []syscall.Errno{syscall.ETIMEDOUT, 0}, nil, 1},
		{"not made, EIO", []bool{false, true}, []syscall.Errno{syscall.EIO, 0}, nil, 1},
		{"storage stays away", []bool{false, false, true}, []syscall.Errno{syscall.EIO, syscall.EIO, 0}, syscall.EIO, 0},
		{"no doubt", []bool{false, true}, []syscall.Errno{syscall.EDQUOT, 0}, syscall.EDQUOT, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var calls atomic.Int32
			home, shown := mountDoubtful(t, func(link func() syscall.Errno) syscall.Errno {
				n := calls.Add(1) - 1
				var errno syscall.Errno
				if test.made[n] {
					errno = link()
				}
				if test.answer[n] != 0 {
					errno = test.answer[n]
				}
				return errno
			})
			d, err := NewDelivery(home, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write([]byte("message\r\n")); err != nil {
				t.Fatal(err)
			}
			path, err := d.Commit(Options{Recent: true})
			if !errors.Is(err, test.want) {
				t.Errorf("Commit: %v", err)
			}
			if got := files(t, shown+"/new"); len(got) != test.stored || test.stored > 0 && filepath.Base(path) != got[0] {
				t.Errorf("stored: %v", got)
			}
			if left := files(t, shown+"/tmp"); len(left) > 0 {
				t.Errorf("left in tmp: %v", left)
			}
		})
	}
}

// A name that is taken is no success when another file has it.
func TestLinkToOthersName(t *testing.T) {
	home := newMaildir(t)
	for _, name := range []string{"/tmp/mine", "/new/taken"} {
		if err := os.WriteFile(home+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := link(home+"/tmp/mine", home+"/new/taken"); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("link: %v", err)
	}
	if isLinked(home+"/tmp/mine", home+"/new/taken") {
		t.Error("two files are taken for one")
	}
}
