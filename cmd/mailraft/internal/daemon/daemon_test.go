package daemon

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
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
		})
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
	all, err := listen([]config.Listener{{Protocol: config.POP3, Option: "pop3.listen", Address: "127.0.0.1:0"}})
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
