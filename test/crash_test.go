package test

import (
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"mailraft/test/node"
	"mailraft/test/powercut"
)

// The storms that crash tests raise: how many deliveries, and from how many clients, lie between two kills, and how often something is killed.
const (
	stormPart    = 500
	stormClients = 16
)

func stormKills(t *testing.T) int { return numberOf(t, "MAILRAFT_TEST_STORM_KILLS", 8) }

// TestStorms raises the storms beside each other, and beside nothing that looks at the time: one alone leaves a third of two processors idle.
func TestStorms(t *testing.T) {
	for name, test := range map[string]func(*testing.T){"daemon killed": daemonKilled, "proxies killed": proxiesKilled, "power cut": powerCut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// The daemon is killed at random moments, also while it starts: what was acknowledged is there.
func daemonKilled(t *testing.T) {
	n := node.Start(t)
	kills := stormKills(t)
	s := newStorm(t, n, 1, kills*stormPart)
	random := rand.New(rand.NewPCG(1, 1))
	s.begin(stormClients)
	for kill := range kills {
		s.awaitAcks(kill*stormPart + random.IntN(stormPart))
		s.down(func() {
			n.Kill()
			if kill%4 == 3 {
				n.Launch()
				<-time.After(time.Duration(random.IntN(600)) * time.Millisecond)
				n.Kill()
			}
		})
		s.look()
		s.up()
	}
	s.end()
	n.Fsck()
	n.Stop()
	n.FsckStopped()
}

// The proxies are killed at random moments, while the daemon lives, and is stopped and started now and then. What they say is true
// for those who read as well: messages are whole, flags stay.
func proxiesKilled(t *testing.T) {
	n := node.Start(t, node.Expecting("child died"))
	kills := stormKills(t)
	s := newStorm(t, n, 2, kills*stormPart)
	random := rand.New(rand.NewPCG(2, 2))
	s.begin(stormClients)
	r := s.beginReaders()
	for kill := range kills {
		s.awaitAcks(kill*stormPart + random.IntN(stormPart))
		n.KillProxy("smtp")
		if kill%5 == 4 {
			s.down(n.Stop)
			s.up()
			continue
		}
		n.KillProxy([]string{"imap", "pop3"}[kill%2])
	}
	r.end(t)
	s.end()
	n.Fsck()
}

// The power fails at random moments: what was not synced is gone, or torn. What was acknowledged is there, and fsck finds nothing.
func powerCut(t *testing.T) {
	d, err := powercut.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	n := node.New(t)
	n.Data = filepath.Join(d.Path, "data")
	n.Start()
	kills := stormKills(t)
	s := newStorm(t, n, 4, kills*stormPart)
	random := rand.New(rand.NewPCG(4, 4))
	s.begin(stormClients)
	for cut := range kills {
		s.awaitAcks(cut*stormPart + random.IntN(stormPart))
		s.down(func() {
			fail := d.Lose
			if cut%2 == 1 {
				fail = func() error { return d.Tear(random.Uint64()) }
			}
			if err := fail(); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(n.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := d.Restore(); err != nil { // what hangs in the disk can die now
				t.Fatal(err)
			}
			n.AwaitEnd()
		})
		s.look()
		n.Fsck()
		if t.Failed() {
			t.Fatalf("after cut %d", cut)
		}
		s.up()
	}
	s.end()
	n.Fsck()
	n.Stop()
	n.FsckStopped()
}
