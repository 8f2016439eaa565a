package fs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shardHome is an account's home in its shard's mount: those follow the whole tree's in the list, by number.
func (s *testServer) shardHome(name string) string {
	s.t.Helper()
	shard, err := strconv.Atoi(s.do("shard %s", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.homeOn(shard, name)
}

// A mount of a shard lists that shard's accounts alone, and finds all.
func TestAShardsMountListsItsAccountsAlone(t *testing.T) {
	s := startShards(t)
	seen := map[string]int{}
	for _, mount := range s.mounts[1:] {
		entries, err := os.ReadDir(filepath.Join(mount, "example.org"))
		must(t, err)
		for _, e := range entries {
			seen[e.Name()]++
		}
	}
	for _, name := range []string{"alice", "bob", "small", "few"} {
		here := s.shardHome(name)
		if seen[name] != 1 {
			t.Errorf("%s is listed in %d of the shards' mounts", name, seen[name])
		}
		if a, b := stat(t, here), stat(t, s.home(name)); a.Ino != b.Ino || a.Dev == b.Dev {
			t.Errorf("%s: inode %d of device %d, and %d of %d", name, a.Ino, a.Dev, b.Ino, b.Dev)
		}
		for _, mount := range s.mounts[1:] {
			if other := filepath.Join(mount, "example.org", name); stat(t, other).Ino != stat(t, here).Ino {
				t.Errorf("%s is another inode", other)
			}
		}
	}
}

// What is done in one of an account's mounts is seen in the other at once, or as soon as the kernel was told.
func TestTheWholeTreeAndAShardAgree(t *testing.T) {
	s := startShards(t)
	s.do("unlock alice")
	a, b := s.home("alice"), s.shardHome("alice")
	for _, way := range [][2]string{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		_, err := os.Stat(to + "/new/x") // missed
		wantErr(t, "before", err, syscall.ENOENT)
		_, err = os.ReadDir(to + "/new")
		must(t, err)
		write(t, from+"/tmp/x", "one")
		_, err = os.Stat(to + "/tmp/x")
		wantErr(t, "staged elsewhere", err, syscall.ENOENT)
		must(t, os.Rename(from+"/tmp/x", from+"/new/x"))
		wantText(t, to+"/new/x", "one")
		if list, err := os.ReadDir(to + "/new"); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		write(t, from+"/f", "old")
		wantText(t, to+"/f", "old")
		write(t, from+"/f", "newer")
		eventually(t, "the content is the newer", func() bool {
			text, err := os.ReadFile(to + "/f")
			return err == nil && string(text) == "newer"
		})
		must(t, os.Rename(from+"/new/x", from+"/cur/x:2,S"))
		wantText(t, to+"/cur/x:2,S", "one")
		eventually(t, "the old name is gone", func() bool {
			_, err := os.Stat(to + "/new/x")
			return errors.Is(err, fs.ErrNotExist)
		})
		must(t, os.Remove(from+"/cur/x:2,S"))
		must(t, os.Remove(from+"/f"))
		eventually(t, "nothing is left", func() bool {
			_, err := os.Stat(to + "/cur/x:2,S")
			_, err2 := os.Stat(to + "/f")
			return errors.Is(err, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist)
		})
	}
}

// A lock takes the pages from all mounts.
func TestLockingWipesAllMounts(t *testing.T) {
	s := startShards(t)
	s.do("unlock alice")
	write(t, s.home("alice")+"/f", "secret")
	var open []*os.File
	for _, home := range []string{s.home("alice"), s.shardHome("alice")} {
		f, err := os.Open(home + "/f")
		must(t, err)
		defer f.Close()
		wantText(t, home+"/f", "secret")
		open = append(open, f)
	}
	s.do("lock alice")
	for _, f := range open {
		_, err := unix.Pread(int(f.Fd()), make([]byte, 6), 0)
		wantErr(t, f.Name(), err, syscall.ENOKEY)
	}
}

// While a rename of one shard waits for its commit, those of the other go on; in the whole tree they would wait with it.
func TestRenamesOfOtherShardsGoOn(t *testing.T) {
	s := startShards(t)
	slow := s.shardHome("alice")
	quick := ""
	for _, name := range []string{"bob", "small"} {
		if s.do("shard %s", name) != s.do("shard alice") {
			quick = s.shardHome(name)
		}
	}
	write(t, slow+"/tmp/held", "x")
	s.do("hold %d", stat(t, slow+"/tmp/held").Ino)
	held := make(chan error, 1)
	go func() { held <- os.Rename(slow+"/tmp/held", slow+"/new/held") }()
	moved := make(chan error, 1)
	go func() {
		var errs error
		for i := range 50 {
			name := strconv.Itoa(i)
			errs = errors.Join(errs, os.WriteFile(quick+"/tmp/"+name, []byte("x"), 0o600),
				os.Rename(quick+"/tmp/"+name, quick+"/new/"+name), os.Rename(quick+"/new/"+name, quick+"/cur/"+name+":2,S"))
		}
		moved <- errs
	}()
	waited := false
	select {
	case err := <-moved:
		must(t, err)
	case err := <-held:
		t.Errorf("the rename did not wait: %v", err)
		held <- nil
	case <-time.After(10 * time.Second):
		waited = true
	}
	s.do("release held") // before the test may end: what waits in the kernel cannot be killed
	must(t, <-held)
	if waited {
		t.Error("renames of another shard waited for it")
		<-moved
	}
}
