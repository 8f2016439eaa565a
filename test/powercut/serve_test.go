package powercut

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

const (
	serveAccounts = 4
	serveCuts     = 8
)

// TestServe cuts the power under the whole program while mail comes in by SMTP. What was answered 250 is there afterwards, once
// and whole, and fsck finds nothing.
func TestServe(t *testing.T) {
	d := start(t)
	r := rand.New(rand.NewPCG(9, 0))
	n := node.New(t)
	n.Data = filepath.Join(d.Path, "data")
	n.Start()
	var accounts []node.Account
	for i := range serveAccounts {
		accounts = append(accounts, n.AddAccount(fmt.Sprintf("u%d@example.org", i)))
	}
	taken := map[uint64]int{} // message to account
	for cut := range serveCuts {
		s := startMail(n.SMTP, accounts, uint64(cut)<<32)
		s.await(1 + r.IntN(200))
		if cut%2 == 0 {
			must(t, d.Lose())
		} else {
			must(t, d.Tear(r.Uint64()))
		}
		must(t, syscall.Kill(n.PID(), syscall.SIGKILL))
		must(t, d.Restore()) // what hangs in the disk can die now
		n.AwaitEnd()
		for id, a := range s.end() {
			taken[id] = a
		}
		n.Start()
		for i, a := range accounts {
			n.Unlock(a)
			lookFor(t, a, i, taken)
		}
		n.Fsck()
		if t.Failed() {
			t.Fatalf("after cut %d", cut)
		}
	}
	n.Stop()
	t.Logf("%d messages over %d cuts", len(taken), serveCuts)
}

// mailStorm delivers by SMTP over some connections until they break.
type mailStorm struct {
	mu    sync.Mutex
	more  *sync.Cond
	taken map[uint64]int
	live  int
}

func startMail(address string, accounts []node.Account, first uint64) *mailStorm {
	const connections = 4
	s := &mailStorm{taken: map[uint64]int{}, live: connections}
	s.more = sync.NewCond(&s.mu)
	for c := range uint64(connections) {
		go func() {
			defer func() {
				s.mu.Lock()
				s.live--
				s.more.Broadcast()
				s.mu.Unlock()
			}()
			smtp, err := client.DialSMTP(address)
			if err != nil {
				return
			}
			defer smtp.Close()
			for i := first + c; ; i += connections {
				to := int(i % uint64(len(accounts)))
				answers, _, err := smtp.Deliver("storm@example.net", stormText(i), accounts[to].Address)
				if err != nil {
					return
				}
				if answers[0].OK() {
					s.mu.Lock()
					s.taken[i] = to
					s.more.Broadcast()
					s.mu.Unlock()
				}
			}
		}()
	}
	return s
}

// await waits until so many messages were taken, or nobody sends any more.
func (s *mailStorm) await(count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.taken) < count && s.live > 0 {
		s.more.Wait()
	}
}

// end waits until all connections have broken, and answers which messages were taken.
func (s *mailStorm) end() map[uint64]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.live > 0 {
		s.more.Wait()
	}
	return s.taken
}

func stormText(i uint64) []byte { return message.Text(i, 500+int(i%37)*1000) }

// lookFor reads all mail of an account: each message taken has to be there once, and whatever is there has to be whole.
func lookFor(t *testing.T, a node.Account, account int, taken map[uint64]int) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(a.Home, "new"))
	must(t, err)
	found := map[string]int{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(a.Home, "new", e.Name()))
		must(t, err)
		found[body(b)]++
	}
	for i, to := range taken {
		if to != account {
			continue
		}
		b := body(stormText(i))
		if found[b] != 1 {
			t.Errorf("%s: message %d is there %d times", a.Address, i, found[b])
		}
		delete(found, b)
	}
	for b, times := range found { // taken as well, but the answer did not arrive
		subject, _, _ := strings.Cut(b, "\r\n")
		if times != 1 || !strings.HasSuffix(b, "\r\n") {
			t.Errorf("%s: %q is there %d times, %d octets", a.Address, subject, times, len(b))
		}
	}
}

// body is what follows the header, which the server adds to.
func body(b []byte) string {
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return body
}
