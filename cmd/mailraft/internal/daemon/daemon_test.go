package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mailraft/cmd/mailraft/internal/config"
)

func TestANodeKeepsItsName(t *testing.T) {
	data := t.TempDir()
	if _, err := NodeName(data); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if ours, err := claimed(data, "n1"); err != nil || ours {
		t.Error(ours, err)
	}
	if err := claim(data, "n1"); err != nil {
		t.Fatal(err)
	}
	if ours, err := claimed(data, "n1"); err != nil || !ours {
		t.Error(ours, err)
	}
	_, err := claimed(data, "n2")
	if err == nil || !strings.Contains(err.Error(), "n1") || !strings.Contains(err.Error(), data) {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	if m := machineMemory(); m < 64<<20 || m > 1<<50 {
		t.Errorf("the machine has %d bytes", m)
	}
	if r := resident(os.Getpid()); r < 1<<20 || r > machineMemory() {
		t.Errorf("this process has %d bytes", r)
	}
}

func TestListenSaysWhoIsInTheWay(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	path := filepath.Join(t.TempDir(), "lmtp.sock")
	for _, c := range []struct {
		address string
		says    []string
	}{
		{taken.Addr().String(), []string{"imap.listen", taken.Addr().String(), "another program"}},
		{"192.0.2.1:143", []string{"imap.listen", "192.0.2.1", "not an address of this machine"}},
	} {
		_, err := listen([]config.Listener{
			{Protocol: config.LMTP, Option: "lmtp.listen", Address: "unix:" + path},
			{Protocol: config.IMAP, Option: "imap.listen", Address: c.address},
		}, 0)
		if err == nil {
			t.Fatal("it listens")
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q", err, s)
			}
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the other socket was left open:", err)
		}
	}
}

// TestASocketIsHandedOver connects to a port that the kernel chose, and accepts from the second descriptor.
func TestASocketIsHandedOver(t *testing.T) {
	all, err := listen([]config.Listener{{Protocol: config.POP3, Option: "pop3.listen", Address: "127.0.0.1:0"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeSockets(all)
	handed, err := net.FileListener(all[0].file)
	if err != nil {
		t.Fatal(err)
	}
	defer handed.Close()
	c, err := net.Dial("tcp", all[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := handed.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// Passwords can be guessed at the sockets for logins, so not everybody may open them.
func TestWhoMayOpenASocket(t *testing.T) {
	dir := t.TempDir()
	all, err := listen([]config.Listener{
		{Protocol: config.LMTP, Option: "lmtp.listen", Address: "unix:" + dir + "/lmtp.sock"},
		{Protocol: config.Auth, Option: "auth.listen", Address: "unix:" + dir + "/auth.sock"},
	}, 6000)
	if err != nil {
		t.Fatal(err)
	}
	defer closeSockets(all)
	for name, want := range map[string]string{"lmtp.sock": "666 0", "auth.sock": "660 6000"} {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%o %d", fi.Mode().Perm(), fi.Sys().(*syscall.Stat_t).Gid); got != want {
			t.Errorf("%s: permissions and group %s, want %s", name, got, want)
		}
	}
}
