package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/test/node"
)

// TestReplicasAreCompared compares all replicas while mail flows, and finds one record of one replica that was changed.
func TestReplicasAreCompared(t *testing.T) {
	t.Parallel()
	nodes := node.NewNetwork(t).Cluster(3)
	var accounts []node.Account
	for i := range 4 {
		accounts = append(accounts, nodes[i%3].AddAccount(fmt.Sprintf("user%d@cluster.example", i)))
	}
	var stop atomic.Bool
	done := make(chan error, len(accounts))
	for i, a := range accounts {
		go func() {
			var err error
			for n := 0; err == nil && !stop.Load(); n++ {
				err = deliverTo(homeOn(nodes[i%2], a.Address), fmt.Sprintf("%d.flowing", n))
			}
			done <- err
		}()
	}
	for _, n := range nodes {
		compared(t, n)
	}
	nodes[2].Stop()
	if a := nodes[0].Try("", "fsck", "--cluster"); a.Code == 0 || strings.Count(a.Stdout, "on node n3 gave no hash") != 5 {
		t.Errorf("with a node that is down: exit code %d\n%s%s", a.Code, a.Stdout, a.Stderr)
	}
	group := damageReplica(t, nodes[2])
	nodes[2].Start()
	nodes[0].Eventually("it is named", func() bool { // when it has applied what it had missed
		a := nodes[0].Try("", "fsck", "--cluster")
		return a.Code != 0 && strings.Count(a.Stdout, "PROBLEM") == 1 && strings.Contains(a.Stdout, group+": the replica on node n3 differs")
	})
	stop.Store(true)
	for range accounts {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// compared has a node compare all replicas, which have to be the same.
func compared(t *testing.T, n *node.Node) {
	t.Helper()
	if a := n.Try("", "fsck", "--cluster"); a.Code != 0 || a.Stdout != "All replicas are the same.\n" {
		t.Errorf("%s: mailraft fsck --cluster: exit code %d\n%s%s", n.Name, a.Code, a.Stdout, a.Stderr)
	}
}

// stateLog is for a state that a test has open itself.
type stateLog struct{ t *testing.T }

func (stateLog) Infof(string, ...any)                {}
func (l stateLog) Errorf(format string, args ...any) { l.t.Errorf(format, args...) }
func (l stateLog) Fatalf(format string, args ...any) { l.t.Fatalf(format, args...) }

// damageReplica changes the last octet of the largest record of a shard, of a node that does not run, and answers the shard's group.
func damageReplica(t *testing.T, n *node.Node) (group string) {
	t.Helper()
	var in string
	var record, which []byte
	states, err := filepath.Glob(filepath.Join(n.Data, "*", "shard-*", "state*"))
	if err != nil || len(states) == 0 {
		t.Fatal("no states: ", err)
	}
	each := func(dir string, do func(*pebble.DB)) {
		db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: stateLog{t}})
		if err != nil {
			t.Fatal(err)
		}
		do(db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range states {
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			continue
		}
		each(dir, func(db *pebble.DB) {
			it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'a'}})
			if err != nil {
				t.Fatal(err)
			}
			for ok := it.First(); ok; ok = it.Next() {
				if v := it.Value(); len(v) > len(record) {
					in, which, record = dir, append([]byte{}, it.Key()...), append([]byte{}, v...)
				}
			}
			if err := it.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	each(in, func(db *pebble.DB) {
		record[len(record)-1] ^= 1
		if err := db.Set(which, record, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	})
	return filepath.Base(filepath.Dir(in))
}
