package powercut

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const cuts = 12

// TestStore cuts the power under a whole store, every file of its real size.
func TestStore(t *testing.T) { survives(t, "store", 400) }

// TestGroup cuts it under one group whose segments are filled, states flushed and logs truncated many times.
func TestGroup(t *testing.T) { survives(t, "group", 500) }

// survives runs the storm and cuts the power after some of its acknowledgements, up to most a round; half of the cuts lose all
// that was not synced, half tear it. After each, all that ever was acknowledged has to be there.
func survives(t *testing.T, kind string, most int) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			d := start(t)
			var acked []string
			for round := range cuts / 2 {
				s := startStorm(t, d, kind, round, acked)
				for range 1 + r.IntN(most) {
					line, err := s.line()
					if err != nil {
						t.Fatalf("round %d: the storm ended by itself: %v\n%s", round, err, s.wait())
					}
					acked = append(acked, line)
				}
				if round%2 == 0 {
					must(t, d.Lose())
				} else {
					must(t, d.Tear(r.Uint64()))
				}
				acked = append(acked, s.kill(t, d)...)
			}
			startStorm(t, d, kind, -1, acked).end(t)
			t.Logf("%d messages acknowledged over %d cuts", len(acked), cuts/2)
		})
	}
}

// TestFirstStart cuts the power, or kills the program, at some of the syncs of its first start. The next start has to make of it what
// the first would have, and that has to last. A seed draws the syncs, one from each part of the start; MAILRAFT_TEST_SEED does it
// again, and MAILRAFT_TEST_CUTS=all takes every sync.
func TestFirstStart(t *testing.T) {
	const parts = 8
	d := start(t)
	startStorm(t, d, "store", -1, nil).end(t)
	all, err := d.Syncs()
	must(t, err)
	all -= 3 // the last few vary
	if all < 2*parts {
		t.Fatalf("a whole start takes %d syncs", all)
	}
	seed := rand.Uint64()
	if s := os.Getenv("MAILRAFT_TEST_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		must(t, err)
	}
	t.Logf("MAILRAFT_TEST_SEED=%d, %d syncs", seed, all)
	for i, when := range []When{LoseAt, TearAt, HangAt} {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		var syncs []int
		for part := range parts {
			from, to := part*all/parts, (part+1)*all/parts
			syncs = append(syncs, 1+from+r.IntN(to-from))
		}
		if os.Getenv("MAILRAFT_TEST_CUTS") == "all" {
			syncs = nil
			for n := range all {
				syncs = append(syncs, 1+n)
			}
		}
		t.Run(string(when), func(t *testing.T) {
			t.Parallel()
			for _, n := range syncs {
				t.Run(fmt.Sprint(n), func(t *testing.T) { cutFirstStart(t, when, n) })
			}
		})
	}
}

func cutFirstStart(t *testing.T, when When, n int) {
	d := start(t)
	must(t, d.AtSync(when, n))
	s := launchStorm(t, d, "store", -1, nil)
	must(t, d.Await())
	s.kill(t, d)
	s = startStorm(t, d, "store", 0, nil)
	line, err := s.line()
	must(t, err)
	must(t, d.Lose())
	acked := append(s.kill(t, d), line)
	startStorm(t, d, "store", -1, acked).end(t)
}

// stormProcess is a running storm.
type stormProcess struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	errors strings.Builder
}

// startStorm starts the storm on the disk and waits until it has found all that was acknowledged.
func startStorm(t *testing.T, d *Drive, kind string, round int, acked []string) *stormProcess {
	t.Helper()
	s := launchStorm(t, d, kind, round, acked)
	line, err := s.line()
	if want := fmt.Sprint("checked ", len(acked)); err != nil || line != want {
		t.Fatalf("round %d: %q, %v, want %q\n%s", round, line, err, want, s.wait())
	}
	return s
}

// launchStorm starts the storm and does not wait.
func launchStorm(t *testing.T, d *Drive, kind string, round int, acked []string) *stormProcess {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	s := &stormProcess{cmd: exec.Command(exe)}
	s.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", stormAsked, kind, d.Path, round))
	s.cmd.Stdin = strings.NewReader(strings.Join(acked, "\n") + "\n\n")
	s.cmd.Stderr = &s.errors
	out, err := s.cmd.StdoutPipe()
	must(t, err)
	s.out = bufio.NewReader(out)
	must(t, s.cmd.Start())
	return s
}

func (s *stormProcess) line() (string, error) {
	line, err := s.out.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// end waits for a process that ends by itself.
func (s *stormProcess) end(t *testing.T) {
	t.Helper()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("closing: %v\n%s", err, s.errors.String())
	}
}

// wait ends the process and answers what it had to complain about.
func (s *stormProcess) wait() string {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	return s.errors.String()
}

// kill ends the process after a cut, brings the disk up again, and answers what the process had acknowledged since it was last
// asked. It is dead only when the disk has given up the calls that it hung in.
func (s *stormProcess) kill(t *testing.T, d *Drive) []string {
	t.Helper()
	must(t, s.cmd.Process.Kill())
	must(t, d.Restore())
	rest, err := io.ReadAll(s.out)
	must(t, err)
	s.cmd.Wait()
	var lines []string
	for line := range strings.Lines(string(rest)) {
		if strings.HasSuffix(line, "\n") { // a line cut short was not said
			lines = append(lines, line[:len(line)-1])
		}
	}
	return lines
}
