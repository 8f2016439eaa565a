package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// storm is many messages sent over many connections at once, to a node that goes down and comes back meanwhile. A client that did
// not get its 250 sends the message again, as mail servers do: a new attempt, with a number of its own.
type storm struct {
	t        *testing.T
	n        *node.Node
	accounts []node.Account
	seed     uint64
	messages int // to be sent
	clients  sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond // with address and acked
	address  string     // of SMTP; "": the node is down
	attempts []attempt
	next     int // message to be sent
	acked    int // attempts
}

// attempt is one try to send a message.
type attempt struct {
	number int  // of the message
	acked  bool // the client was told that it is stored
}

// newStorm is a storm of so many messages to some new accounts.
func newStorm(t *testing.T, n *node.Node, seed uint64, messages int) *storm {
	s := &storm{t: t, n: n, seed: seed, messages: messages, address: n.SMTP}
	s.changed = sync.NewCond(&s.mu)
	for i := range 6 {
		s.accounts = append(s.accounts, n.AddAccount(fmt.Sprintf("storm%d@example.org", i)))
	}
	return s
}

// begin lets clients send, half of them by LMTP.
func (s *storm) begin(clients int) {
	for c := range clients {
		s.clients.Go(func() {
			var link *client.SMTP
			for number, more := s.take(); more; number, more = s.take() {
				for done := false; !done; {
					link, done = s.try(link, number, c%2 == 0)
				}
			}
			if link != nil {
				link.Quit() // the server may be going down: nothing depends on it
			}
		})
	}
}

// take is the next message to be sent.
func (s *storm) take() (number int, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next - 1, s.next <= s.messages
}

// try makes one attempt to send a message, over a new connection if there is none. It returns the connection if it can be used
// again.
func (s *storm) try(link *client.SMTP, number int, lmtp bool) (*client.SMTP, bool) {
	if link == nil {
		var err error
		if address := s.awaitUp(); lmtp {
			link, err = client.DialLMTP(s.n.LMTPSocket) // the same at each start
		} else {
			link, err = client.DialSMTP(address)
		}
		if err != nil {
			return nil, false
		}
	}
	id := s.attempt(number)
	answers, _, err := link.Deliver(senderOf(id), s.text(id, number), s.recipient(number).Address)
	if err != nil || len(answers) != 1 || !answers[0].OK() {
		link.Close()
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[id].acked = true
	s.acked++
	s.changed.Broadcast()
	return link, true
}

func (s *storm) awaitUp() (address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.address == "" {
		s.changed.Wait()
	}
	return s.address
}

func (s *storm) attempt(number int) (id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, attempt{number: number})
	return len(s.attempts) - 1
}

func (s *storm) recipient(number int) node.Account { return s.accounts[number%len(s.accounts)] }

// text is what an attempt sends of a message. Most are small; some are so large that they are stored in pieces.
func (s *storm) text(id, number int) []byte {
	r := rand.New(rand.NewPCG(s.seed, uint64(number)))
	size := 500 + r.IntN(8000)
	if number%250 == 7 {
		size = 1<<20 + r.IntN(1<<20)
	}
	return append(fmt.Appendf(nil, "X-Attempt: %d\r\nX-Message: %d\r\n", id, number), message.Text(s.seed<<32|uint64(number), size)...)
}

// awaitAcks waits until so many attempts were acknowledged.
func (s *storm) awaitAcks(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.acked < min(n, s.messages) {
		s.changed.Wait()
	}
}

// down has the clients wait until fn has made the node serve again.
func (s *storm) down(fn func()) {
	s.t.Helper()
	s.mu.Lock()
	s.address = ""
	s.mu.Unlock()
	fn()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address = s.n.SMTP
	s.changed.Broadcast()
}

// end waits until all is sent, and compares what is there with what was acknowledged: that is there once and whole; what was not may
// be there, once and whole as well.
func (s *storm) end() {
	s.t.Helper()
	s.clients.Wait()
	there := map[int]bool{}
	for _, a := range s.accounts {
		s.inspect(a, there)
	}
	unasked := 0
	for id, a := range s.attempts {
		if a.acked && !there[id] {
			s.t.Errorf("attempt %d (message %d to %s) was acknowledged and is lost", id, a.number, s.recipient(a.number).Address)
		}
		if !a.acked && there[id] {
			unasked++
		}
	}
	s.t.Logf("%d messages acknowledged; %d attempts broke off, of which %d are there", s.acked, len(s.attempts)-s.acked, unasked)
	if s.acked != s.messages {
		s.t.Errorf("%d messages were acknowledged, %d sent", s.acked, s.messages)
	}
}

// inspect reads a mailbox, takes note of the attempts that are there, and looks whether each is whole and each name there once.
func (s *storm) inspect(a node.Account, there map[int]bool) {
	s.t.Helper()
	box := byIMAP(s.t, s.n, a, "INBOX") // which finds those that are there twice
	for id, got := range box.read {
		if id < 0 || id >= len(s.attempts) || s.recipient(s.attempts[id].number) != a {
			s.t.Errorf("%s: nobody sent what is there: %.200q", a.Address, got)
			continue
		}
		there[id] = true
		if want := s.text(id, s.attempts[id].number); !bytes.Equal(got, want) {
			s.t.Errorf("%s: attempt %d is not whole: %s", a.Address, id, difference(got, want))
		}
	}
	paths := files(s.t, a.Home)
	keys := map[string]bool{}
	for _, path := range paths {
		key, _, _ := strings.Cut(filepath.Base(path), ":2,")
		if keys[key] {
			s.t.Errorf("%s: two files are called %s", a.Address, key)
		}
		keys[key] = true
	}
	if len(paths) != len(box.read) {
		s.t.Errorf("%s: %d files, %d messages by IMAP", a.Address, len(paths), len(box.read))
	}
	if staged, err := os.ReadDir(filepath.Join(a.Home, "tmp")); err != nil || len(staged) > 0 {
		s.t.Errorf("%s: tmp has %d files, %v", a.Address, len(staged), err)
	}
}
