package test

import (
	"math/rand/v2"
	"testing"
	"time"

	"mailraft/test/node"
)

// The size of the storms that crash tests raise, and how often something is killed in each.
const (
	stormMessages = 10_000
	stormClients  = 16
	kills         = 20
)

// The daemon is killed at random moments, also while it starts: what was acknowledged is there.
func TestDaemonKilled(t *testing.T) {
	n := node.Start(t)
	s := newStorm(t, n, 1, stormMessages)
	random := rand.New(rand.NewPCG(1, 1))
	s.begin(stormClients)
	for kill := range kills {
		s.awaitAcks(kill*stormMessages/kills + random.IntN(stormMessages/kills))
		s.down(func() {
			n.Kill()
			if kill%4 == 3 {
				n.Launch()
				<-time.After(time.Duration(random.IntN(600)) * time.Millisecond)
				n.Kill()
			}
			n.Start()
		})
	}
	s.end()
	n.Fsck()
	n.Stop()
	n.FsckStopped()
}

// The proxies are killed at random moments, while the daemon lives, and is stopped and started now and then.
func TestProxiesKilled(t *testing.T) {
	n := node.Start(t, node.Expecting("child died"))
	s := newStorm(t, n, 2, stormMessages)
	random := rand.New(rand.NewPCG(2, 2))
	s.begin(stormClients)
	for kill := range kills {
		s.awaitAcks(kill*stormMessages/kills + random.IntN(stormMessages/kills))
		n.KillProxy("smtp")
		switch kill % 5 {
		case 1:
			n.KillProxy("imap")
		case 3:
			n.KillProxy("pop3")
		case 4:
			s.down(func() {
				n.Stop()
				n.Start()
			})
		}
	}
	s.end()
	n.Fsck()
}
