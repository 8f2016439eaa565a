package node

import (
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

// A node's life: started, stopped, started again, killed, started again; what it was told stays.
func TestLife(t *testing.T) {
	n := Start(t)
	a := n.AddAccount("alice@example.org")
	if _, err := os.Stat(a.Home + "/new"); err != nil {
		t.Error(err)
	}
	pid := n.PID()
	n.KillProxy("pop3")
	n.expected["child died"] = true
	n.Stop()
	if n.Mounted() {
		t.Error("still mounted")
	}
	n.Start()
	if n.PID() == pid {
		t.Error("it is the same process")
	}
	n.Kill()
	n.Start()
	if out := n.Admin("account", "list"); !strings.Contains(out, a.Address) {
		t.Errorf("account list: %s", out)
	}
	n.Unlock(a)
	if !n.IsUnlocked(a) {
		t.Error("locked after unlock")
	}
	n.Lock(a)
	if n.IsUnlocked(a) {
		t.Error("unlocked after lock")
	}
	if n.PeakMemory(n.PID()) < 1<<20 {
		t.Error("a daemon of less than a MiB")
	}
}
