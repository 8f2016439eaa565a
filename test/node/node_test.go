package node

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
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

// TestJump: a node's wall clock can be moved.
func TestJump(t *testing.T) {
	n := Start(t, JumpingClock())
	clock := func(address string) time.Duration {
		t.Helper()
		n.AddAccount(address)
		var said struct{ Time time.Time }
		for _, line := range strings.Split(n.process.journal.all(), "\n") {
			if strings.Contains(line, `"account added"`) {
				if err := json.Unmarshal([]byte(line), &said); err != nil {
					t.Fatal(err)
				}
			}
		}
		return time.Until(said.Time)
	}
	if by := clock("before@clock.example"); by < -time.Minute || by > 0 {
		t.Errorf("before, its clock is %v ahead", by)
	}
	n.Jump(time.Hour)
	if by := clock("after@clock.example"); by < 59*time.Minute || by > time.Hour {
		t.Errorf("it is %v ahead, and not an hour", by)
	}
}
