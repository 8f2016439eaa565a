package raftstore

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/raftstore/tree"
)

// BenchmarkReplicatedDelivery delivers messages of 8 KiB to one shard of one node and of three, at the shard's leader and at another node.
// All nodes are in this process, on one disk.
func BenchmarkReplicatedDelivery(b *testing.B) {
	content := make([]byte, 8<<10)
	rand.NewChaCha8([32]byte{1}).Read(content) // sealed, so it looks random
	for _, nodes := range []int{1, 3} {
		members := newCluster(b, nodes)
		for _, m := range members {
			m.cfg.Logger = slog.New(slog.DiscardHandler)
		}
		a := tree.Account(addAccount(b, members[0].Store, "alice@example.org").Number)
		sh, err := members[0].Shard(a)
		if err != nil {
			b.Fatal(err)
		}
		settle(b, members)
		leader := slices.IndexFunc(members, func(m *member) bool { return m.Shards()[sh.id-1].local().group.Leads() })
		for where, at := range map[string]*member{"leader": members[leader], "follower": members[(leader+1)%nodes]} {
			if nodes == 1 && where == "follower" {
				continue
			}
			for _, writers := range []int{1, 16} {
				b.Run(fmt.Sprintf("nodes=%d/at=%s/writers=%d", nodes, where, writers), func(b *testing.B) {
					p := at.NewProposer()
					took := make([]time.Duration, b.N)
					start, used, wrote := time.Now(), cpu(), written(b)
					var wg sync.WaitGroup
					for w := range writers {
						wg.Go(func() {
							for i := w; i < b.N; i += writers {
								begun := time.Now()
								if err := deliver(b.Context(), p, a, fmt.Sprint(start.UnixNano(), ".", i), content); err != nil {
									b.Error(err)
								}
								took[i] = time.Since(begun)
							}
						})
					}
					wg.Wait()
					b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "deliveries/s")
					b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "cpu-us/op")
					b.ReportMetric((written(b)-wrote)/float64(b.N), "written-B/op")
					slices.Sort(took)
					b.ReportMetric(float64(took[len(took)/10].Microseconds()), "p10-us")
					b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
				})
			}
		}
	}
}

// written is the octets that this process has had written to disk (proc_pid_io(5)).
func written(b *testing.B) (octets float64) {
	io, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(io)) {
		fmt.Sscanf(line, "write_bytes: %g", &octets)
	}
	return octets
}
