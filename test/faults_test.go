package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"mailraft/test/node"
)

// faults does to a cluster of three what may happen to one.
type faults struct {
	t       *testing.T
	network *node.Network
	nodes   []*node.Node
	rng     *rand.Rand
	since   time.Time
	counts  map[string]int
	deck    []int // kinds that are to come before one comes again
}

// kinds of faults: each lasts for a while, and is undone by what it returns.
var kinds = []struct {
	name string
	do   func(f *faults, a, b, c *node.Node) (undo func())
}{
	{"cut between two", func(f *faults, a, b, _ *node.Node) func() {
		f.network.Cut(a, b)
		return f.network.Heal
	}},
	{"cut one way", func(f *faults, a, b, _ *node.Node) func() {
		f.network.Lose(a, b)
		return f.network.Heal
	}},
	{"isolated", func(f *faults, a, _, _ *node.Node) func() {
		f.network.Isolate(a)
		return f.network.Heal
	}},
	{"deaf", func(f *faults, a, b, c *node.Node) func() {
		f.network.Lose(b, a)
		f.network.Lose(c, a)
		return f.network.Heal
	}},
	{"mute", func(f *faults, a, b, c *node.Node) func() {
		f.network.Lose(a, b)
		f.network.Lose(a, c)
		return f.network.Heal
	}},
	{"ring", func(f *faults, a, b, c *node.Node) func() {
		f.network.Lose(a, b)
		f.network.Lose(b, c)
		f.network.Lose(c, a)
		return f.network.Heal
	}},
	{"paused", func(f *faults, a, _, _ *node.Node) func() {
		a.Pause()
		return a.Resume
	}},
	{"clock jumps", func(f *faults, a, _, _ *node.Node) func() {
		by := time.Duration(f.rng.IntN(7200)-3600) * time.Second
		a.Jump(by)
		return func() { a.Jump(-by) }
	}},
	{"killed", func(f *faults, a, _, _ *node.Node) func() {
		a.Kill()
		return a.Start
	}},
	{"two killed", func(f *faults, a, b, _ *node.Node) func() {
		a.Kill()
		b.Kill()
		return func() {
			a.Launch()
			b.Start()
			a.Await()
		}
	}},
	{"cut and killed", func(f *faults, a, b, c *node.Node) func() {
		f.network.Cut(a, b)
		c.Kill()
		return func() {
			c.Start()
			f.network.Heal()
		}
	}},
	{"full disk", func(f *faults, _, _, _ *node.Node) func() {
		n := f.nodes[2] // which has one of its own
		n.FillDisk()
		return n.EmptyDisk
	}},
}

// next has one fault for some seconds, a long one now and then, and some seconds without after it.
func (f *faults) next() {
	if len(f.deck) == 0 {
		f.deck = f.rng.Perm(len(kinds))
	}
	kind := kinds[f.deck[0]]
	f.deck = f.deck[1:]
	order := f.rng.Perm(len(f.nodes))
	a, b, c := f.nodes[order[0]], f.nodes[order[1]], f.nodes[order[2]]
	lasts := time.Duration(500+f.rng.IntN(4500)) * time.Millisecond
	if f.rng.IntN(8) == 0 {
		lasts += 10 * time.Second
	}
	after := time.Duration(f.rng.IntN(2500)) * time.Millisecond
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	f.counts[kind.name]++
	f.t.Log(time.Since(f.since).Round(time.Millisecond), kind.name, strings.Join([]string{a.Name, b.Name, c.Name}, " "), fmt.Sprint("for ", lasts))
	undo := kind.do(f, a, b, c)
	time.Sleep(lasts) // that is what it is: a fault that lasts
	undo()
	time.Sleep(after)
}
