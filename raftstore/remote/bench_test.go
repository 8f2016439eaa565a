package remote

import (
	"testing"

	"mailraft/raftstore/tree"
)

// BenchmarkLookup compares a name looked up over the loopback with the replica's own answer.
func BenchmarkLookup(b *testing.B) {
	l := newLocal(b)
	l.apply(1, makeAccount(1))
	c := newClient(b, b.TempDir(), to(newNode(b, "n1", map[uint32]Replica{1: l})), ignore)
	for name, r := range map[string]tree.Reader{"here": l.View(), "elsewhere": c} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Lookup(tree.RootIno(1), "cur"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
