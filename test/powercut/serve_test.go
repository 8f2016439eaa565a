package powercut

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

const (
	serveAccounts = 4
	serveCuts     = 20
	serveMessages = 10_000 // to be acknowledged in all, about
)

// TestServe cuts the power under the whole program while mail comes in by SMTP and LMTP. What was answered 250 is there after each
// cut, once and whole; what was not may be there, once and whole as well; and fsck finds nothing.
func TestServe(t *testing.T) {
	t.Parallel()
	d := start(t)
	r := rand.New(rand.NewPCG(9, 0))
	n := node.New(t)
	n.Data = filepath.Join(d.Path, "data")
	n.Start()
	var accounts []node.Account
	for i := range serveAccounts {
		accounts = append(accounts, n.AddAccount(fmt.Sprintf("u%d@example.org", i)))
	}
	taken := map[uint64]bool{} // messages that were acknowledged
	sent := sums{}
	for cut := range serveCuts {
		s := startMail(n, accounts, uint64(cut)<<32)
		s.await(1 + r.IntN(2*serveMessages/serveCuts))
		if cut%2 == 0 {
			must(t, d.Lose())
		} else {
			must(t, d.Tear(r.Uint64()))
		}
		must(t, syscall.Kill(n.PID(), syscall.SIGKILL))
		must(t, d.Restore()) // what hangs in the disk can die now
		n.AwaitEnd()
		maps.Copy(taken, s.end())
		n.Start()
		for i, a := range accounts {
			n.Unlock(a)
			lookFor(t, a, i, taken, sent)
		}
		n.Fsck()
		if t.Failed() {
			t.Fatalf("after cut %d", cut)
		}
	}
	n.Stop()
	t.Logf("%d messages acknowledged over %d cuts", len(taken), serveCuts)
}

// mailStorm delivers over some connections until they break, half of them of SMTP, half of LMTP.
type mailStorm struct {
	mu    sync.Mutex
	more  *sync.Cond
	taken map[uint64]bool
	live  int
}

func startMail(n *node.Node, accounts []node.Account, first uint64) *mailStorm {
	const connections = 8
	s := &mailStorm{taken: map[uint64]bool{}, live: connections}
	s.more = sync.NewCond(&s.mu)
	for c := range uint64(connections) {
		go func() {
			defer func() {
				s.mu.Lock()
				s.live--
				s.more.Broadcast()
				s.mu.Unlock()
			}()
			dial, address := client.DialSMTP, n.SMTP
			if c%2 == 0 {
				dial, address = client.DialLMTP, n.LMTPSocket
			}
			link, err := dial(address)
			if err != nil {
				return
			}
			defer link.Close()
			for id := first + c; ; id += connections {
				answers, _, err := link.Deliver("storm@example.net", stormText(id), accounts[recipient(id)].Address)
				if err != nil {
					return
				}
				if answers[0].OK() {
					s.mu.Lock()
					s.taken[id] = true
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
func (s *mailStorm) end() map[uint64]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.live > 0 {
		s.more.Wait()
	}
	return s.taken
}

// recipient is the number of the account that a message goes to.
func recipient(id uint64) int { return int(id / 8 % serveAccounts) }

const stormHeader = "X-Storm: "

func stormText(id uint64) []byte {
	return append(fmt.Appendf(nil, "%s%d\r\n", stormHeader, id), message.Text(id, 500+int(id%37)*1000)...)
}

// sums are the SHA-256 of what was sent: each text takes longer to make than to read.
type sums map[uint64][sha256.Size]byte

func (s sums) of(id uint64) [sha256.Size]byte {
	sum, ok := s[id]
	if !ok {
		sum = sha256.Sum256(stormText(id))
		s[id] = sum
	}
	return sum
}

// lookFor reads all mail of an account: each message taken has to be there once, and whatever is there has to be whole.
func lookFor(t *testing.T, a node.Account, account int, taken map[uint64]bool, sent sums) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(a.Home, "new"))
	must(t, err)
	found := map[uint64]int{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(a.Home, "new", e.Name()))
		must(t, err)
		at := max(0, bytes.Index(b, []byte(stormHeader))) // the server's trace lines come before
		var id uint64
		if _, err := fmt.Sscanf(string(b[at:min(at+40, len(b))]), stormHeader+"%d", &id); err != nil || sha256.Sum256(b[at:]) != sent.of(id) {
			t.Errorf("%s: %s has %d octets that nobody sent: %.80q", a.Address, e.Name(), len(b), b)
			continue
		}
		if found[id]++; found[id] > 1 || recipient(id) != account {
			t.Errorf("%s: message %x is there %d times", a.Address, id, found[id])
		}
	}
	for id := range taken {
		if recipient(id) == account && found[id] == 0 {
			t.Errorf("%s: message %x was acknowledged and is lost", a.Address, id)
		}
	}
}
