package raftstore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

var (
	benchAccounts = flag.Int("accounts", 20_000, "BenchmarkDirectory: accounts in the directory")
	benchShards   = flag.Int("shards", 4, "BenchmarkDirectory, BenchmarkIdleShards: mail shards of the store")
	benchSeconds  = flag.Float64("seconds", 3, "BenchmarkDirectory, BenchmarkIdleShards: how long each rate is measured")
)

// benchPhase has the test program be a process that a benchmark measures, and may kill.
const benchPhase = "MAILRAFT_BENCH_PHASE"

func TestMain(m *testing.M) {
	flag.Parse()
	if phase := os.Getenv(benchPhase); phase != "" {
		if err := runPhase(phase, flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// figures are what a phase has measured, by the benchmark's units.
type figures map[string]float64

func runPhase(phase, dir string) error {
	ctx := context.Background()
	start := time.Now()
	s, err := Open(ctx, Config{
		Dir: dir, NodeID: "n1", Shards: *benchShards, UID: 5000, GID: 5000, MinFree: 1,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	f := figures{"open-s": time.Since(start).Seconds()}
	heap, resident := memory()
	f["open-heap-MiB"], f["open-RSS-MiB"] = heap/(1<<20), resident/(1<<20)
	switch phase {
	case "open":
	case "fill":
		err = fillDirectory(ctx, s, *benchAccounts)
		f["fill-s"] = time.Since(start).Seconds()
	case "look up":
		err = measureLookups(s, *benchAccounts, f)
	case "change": // most of what may be in the log and not yet on disk as state
		err = changeAccounts(ctx, s, min(*benchAccounts, 20_000))
	case "idle":
		before := cpu()
		time.Sleep(time.Duration(*benchSeconds * float64(time.Second)))
		f["idle-cpu-%"] = (cpu() - before).Seconds() / *benchSeconds * 100
		_, resident = memory()
		f["idle-RSS-MiB"] = resident / (1 << 20)
	}
	if err == nil && phase != "change" {
		closing := time.Now()
		err = s.Close()
		f["close-s"] = time.Since(closing).Seconds()
	}
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		return err
	}
	bufio.NewReader(os.Stdin).ReadByte() // until it is killed, or told to end
	return nil
}

// benchProcess runs a phase in a process of its own; with kill, kill -9 ends it.
func benchProcess(b *testing.B, phase, dir string, kill bool) figures {
	b.Helper()
	cmd := exec.Command(os.Args[0], fmt.Sprint("-accounts=", *benchAccounts), fmt.Sprint("-shards=", *benchShards),
		fmt.Sprint("-seconds=", *benchSeconds), dir)
	cmd.Env = append(os.Environ(), benchPhase+"="+phase)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	f := figures{}
	err = json.NewDecoder(out).Decode(&f)
	if kill {
		cmd.Process.Kill()
	}
	in.Close()
	if werr := cmd.Wait(); err != nil || werr != nil && !kill {
		b.Fatalf("%s: %v", phase, errors.Join(err, werr))
	}
	return f
}

// BenchmarkDirectory fills the directory of a store with -accounts accounts as "account add" makes them, and measures what they take, how
// fast they are found and how long the store takes to open:
//
//	go test ./raftstore -run '^$' -bench '^BenchmarkDirectory$' -benchtime 1x -timeout 1h -accounts 260000
//
// The accounts have no trees in their shards: that is mail's cost. TMPDIR says which disk.
func BenchmarkDirectory(b *testing.B) {
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "data")
		empty := benchProcess(b, "open", dir, false)
		f := benchProcess(b, "fill", dir, false)
		b.ReportMetric(float64(*benchAccounts)/f["fill-s"], "filled/s")
		n := float64(*benchAccounts)
		b.ReportMetric(folderSize(b, filepath.Join(dir, directoryGroup, "state-*"))/n, "state-B/account")
		b.ReportMetric(folderSize(b, filepath.Join(dir, directoryGroup, "wal"))/(1<<20), "log-MiB")
		f = benchProcess(b, "look up", dir, false)
		b.ReportMetric((f["open-heap-MiB"]-empty["open-heap-MiB"])*(1<<20)/n, "heap-B/account")
		b.ReportMetric(empty["open-s"], "open-empty-s")
		b.ReportMetric(empty["open-RSS-MiB"], "empty-RSS-MiB")
		for unit, v := range f {
			b.ReportMetric(v, unit)
		}
		benchProcess(b, "change", dir, true)
		f = benchProcess(b, "open", dir, false)
		b.ReportMetric(f["open-s"], "open-killed-s")
	}
	b.ReportMetric(0, "ns/op") // of no meaning
}

// BenchmarkIdleShards measures a store of -shards shards that nobody uses:
//
//	go test ./raftstore -run '^$' -bench '^BenchmarkIdleShards$' -benchtime 1x -shards 64 -seconds 20
func BenchmarkIdleShards(b *testing.B) {
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "data")
		f := benchProcess(b, "open", dir, false)
		b.ReportMetric(f["open-s"], "make-s")
		f = benchProcess(b, "idle", dir, false)
		for unit, v := range f {
			b.ReportMetric(v, unit)
		}
		b.ReportMetric(folderSize(b, dir)/(1<<20), "disk-MiB")
	}
	b.ReportMetric(0, "ns/op")
}

const benchDomain = "example.org"

// benchAddress is that of account i, from 0.
func benchAddress(i int) string { return fmt.Sprintf("firstname.lastname%08d@%s", i, benchDomain) }

// benchRecord is an account of the size that "account add" makes one with a hybrid key and a password (docs/format.md, a key slot): its
// recipient has 1959 characters, of which each is worth 5 bits, and its slot's record 155 octets.
func benchRecord(i int, random *rand.ChaCha8) *raftpb.Account {
	const bech32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	recipient, slot := make([]byte, 1959), make([]byte, 155)
	random.Read(recipient)
	random.Read(slot)
	for i := range recipient {
		recipient[i] = bech32[recipient[i]%32]
	}
	copy(recipient, "age1pq1")
	local, domain, _ := strings.Cut(benchAddress(i), "@")
	return &raftpb.Account{
		LocalPart: local, Domain: domain, Shard: uint32(i%*benchShards + 1), Recipient: string(recipient),
		Slots: []*raftpb.Slot{{Id: 1, Kind: "password", Record: slot}}, QuotaBytes: 1 << 30,
	}
}

// fillDirectory adds accounts as AddAccounts does, many in a command: first being made, then active.
func fillDirectory(ctx context.Context, s *Store, n int) error {
	d := s.Directory()
	if err := d.AddDomain(ctx, benchDomain); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{1})
	const lot = 500
	for i := 0; i < n; i += lot {
		var list []*raftpb.Account
		making := &raftpb.AddAccounts{}
		for j := i; j < min(i+lot, n); j++ {
			a := benchRecord(j, random)
			list = append(list, a)
			making.Accounts = append(making.Accounts, &raftpb.Account{LocalPart: a.LocalPart, Domain: a.Domain, Shard: a.Shard, QuotaBytes: a.QuotaBytes})
		}
		first, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_AddAccounts{AddAccounts: making}})
		if err != nil {
			return err
		}
		for j, a := range list {
			made, err := d.Account(tree.Account(int(first) + j))
			if err != nil {
				return err
			}
			a.Number, a.Version, a.Created, a.State = made.Number, made.Version, made.Created, raftpb.AccountState_ACCOUNT_STATE_ACTIVE
		}
		if _, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_UpdateAccounts{UpdateAccounts: &raftpb.UpdateAccounts{Accounts: list}}}); err != nil {
			return err
		}
	}
	return nil
}

// changeAccounts puts the first n accounts' records once more.
func changeAccounts(ctx context.Context, s *Store, n int) error {
	d := s.Directory()
	const lot = 500
	for i := 0; i < n; i += lot {
		var list []*raftpb.Account
		for j := i; j < min(i+lot, n); j++ {
			a, err := d.Account(tree.Account(j + 1))
			if err != nil {
				return err
			}
			a.QuotaBytes++
			list = append(list, a)
		}
		if _, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_UpdateAccounts{UpdateAccounts: &raftpb.UpdateAccounts{Accounts: list}}}); err != nil {
			return err
		}
	}
	return nil
}

// measureLookups resolves addresses at random, and then finds every account's shard, as deliveries to all of them do.
func measureLookups(s *Store, n int, f figures) error {
	d := s.Directory()
	hit := func(i int) error { _, _, err := d.Resolve(benchAddress(i)); return err }
	miss := func(i int) error {
		if _, _, err := d.Resolve("x" + benchAddress(i)); !errors.Is(err, ErrNoSuchAccount) {
			return fmt.Errorf("an address that is not there: %v", err)
		}
		return nil
	}
	for _, m := range []struct {
		what    string
		workers int
		fn      func(int) error
	}{{"hit1", 1, hit}, {"hit2", 2, hit}, {"miss1", 1, miss}, {"miss2", 2, miss}} {
		took, err := atRandom(m.workers, n, m.fn)
		if err != nil {
			return err
		}
		f[m.what+"/s"] = float64(len(took)) / *benchSeconds
		f[m.what+"-p99-us"] = float64(took[len(took)*99/100].Nanoseconds()) / 1e3
	}
	before, resident := memory()
	f["looked-up-RSS-MiB"] = resident / (1 << 20)
	for i := range n {
		if _, err := s.Shard(tree.Account(i + 1)); err != nil {
			return err
		}
	}
	after, _ := memory()
	f["shard-known-B/account"] = (after - before) / float64(n)
	return nil
}

// atRandom calls fn with numbers below n for a while, and answers how long each call took, the shortest first.
func atRandom(workers, n int, fn func(int) error) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	var errs []error
	var wg sync.WaitGroup
	end := time.Now().Add(time.Duration(*benchSeconds * float64(time.Second)))
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			var took []time.Duration
			var err error
			for at := time.Now(); err == nil && at.Before(end); {
				err = fn(random.IntN(n))
				now := time.Now()
				took = append(took, now.Sub(at))
				at = now
			}
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, took...), append(errs, err)
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all, errors.Join(errs...)
}

// memory is what is in use after a collection, in octets: of Go's heap, and resident in the process, files mapped apart.
func memory() (heap, resident float64) {
	runtime.GC()
	runtime.GC() // what the first found finalizers of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(v)[0])
			resident = float64(kib) * 1024
		}
	}
	return float64(m.HeapAlloc), resident
}

// cpu is what the process has used of the processors.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// folderSize is the octets that files below the folders take on disk.
func folderSize(b *testing.B, pattern string) (octets float64) {
	b.Helper()
	dirs, err := filepath.Glob(pattern)
	if err != nil || len(dirs) == 0 {
		b.Fatalf("%s: %v", pattern, err)
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			fi, err := e.Info()
			if err == nil {
				octets += float64(fi.Sys().(*syscall.Stat_t).Blocks) * 512
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return octets
}
