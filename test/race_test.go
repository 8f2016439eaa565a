package test

import (
	"math/rand/v2"
	"testing"

	"mailraft/test/message"
	"mailraft/test/node"
)

// The daemon and its proxies run with the race detector in these, whether or not the tests do: what it finds is in the log, and fails the
// test.

func TestRoundTripRacing(t *testing.T) {
	t.Parallel()
	roundTrip(t, node.Start(t, node.Racing()), message.Generated(50))
}

func TestStormRacing(t *testing.T) {
	t.Parallel()
	const messages, kills = 600, 3
	n := node.Start(t, node.Racing())
	s := newStorm(t, n, 3, messages)
	random := rand.New(rand.NewPCG(3, 3))
	s.begin(stormClients)
	for kill := range kills {
		s.awaitAcks(kill*messages/kills + random.IntN(messages/kills))
		s.down(n.Kill)
		s.up()
	}
	s.end()
	n.Fsck()
}
