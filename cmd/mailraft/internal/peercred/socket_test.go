package peercred

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func stat(t *testing.T, path string) syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestASocketHasItsPermissionsAndGroup(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o660, 0o666} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := Socket(path, mode, 5000)
		if err != nil {
			t.Fatal(err)
		}
		if st := stat(t, path); st.Mode != unix.S_IFSOCK|uint32(mode) || st.Gid != 5000 || st.Uid != uint32(os.Geteuid()) {
			t.Errorf("%v: mode %o, user %d, group %d", mode, st.Mode, st.Uid, st.Gid)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error("its name is left behind:", err)
		}
	}
}

func TestNobodyConnectsBeforeASocketIsReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if st := stat(t, path); st.Mode != unix.S_IFSOCK {
		t.Errorf("mode %o", st.Mode)
	}
}

// Other threads make files all the time: the store's are to be readable again.
func TestMakingSocketsLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := filepath.Join(dir, strconv.Itoa(i))
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Error(err)
				return
			}
			if st, err := os.Lstat(name); err != nil || st.Mode() != 0o600 {
				t.Errorf("mode %v, %v", st.Mode(), err)
				return
			}
			os.Remove(name)
		}
	})
	for range 2000 {
		l, err := Socket(filepath.Join(dir, "s"), 0o666, -1)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	close(stop)
	wg.Wait()
}

// TestWhatReplacesASocketIsLeftAlone does what the owner of the socket's folder could, between its making and its permissions.
func TestWhatReplacesASocketIsLeftAlone(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path, victim string) error{
		"symbolic link": func(t *testing.T, path, victim string) error { return os.Symlink(victim, path) },
		"hard link":     func(t *testing.T, path, victim string) error { return os.Link(victim, path) },
		"folder":        func(t *testing.T, path, victim string) error { return os.Mkdir(path, 0o700) },
		"somebody's socket": func(t *testing.T, path, victim string) error {
			l, err := private.Listen(context.Background(), "unix", path)
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
			return os.Chown(path, 5000, 5000)
		},
		"another socket": func(t *testing.T, path, victim string) error {
			l, err := net.Listen("unix", path)
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
			return os.Chmod(path, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, victim := filepath.Join(dir, "s"), filepath.Join(dir, "victim")
			if err := os.WriteFile(victim, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := private.Listen(context.Background(), "unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := errors.Join(os.Rename(path, path+".aside"), replace(t, path, victim)); err != nil {
				t.Fatal(err)
			}
			before := stat(t, path)
			if err := admit(path, 0o666, 6000); err == nil {
				t.Error("no error")
			}
			for _, file := range []string{path, victim} {
				if st := stat(t, file); st.Mode&0o777 == 0o666 || st.Gid == 6000 {
					t.Errorf("%s: mode %o, group %d", file, st.Mode, st.Gid)
				}
			}
			if after := stat(t, path); after.Mode != before.Mode {
				t.Errorf("mode %o became %o", before.Mode, after.Mode)
			}
		})
	}
}

func TestOnlyADeadSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := Socket(dead, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := Socket(dead, 0o600, -1); err == nil {
		t.Error("took the place of one that lives")
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Socket(file, 0o600, -1); err == nil {
		t.Error("took the place of a file")
	}

	// One that lives and has all the connections that it can have waiting.
	busy := filepath.Join(dir, "busy")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: busy}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", busy)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	before := stat(t, busy)
	if _, err := Socket(busy, 0o600, -1); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v, want EADDRINUSE", err)
	}
	if after := stat(t, busy); after.Ino != before.Ino {
		t.Error("took the place of one that is busy")
	}
}
