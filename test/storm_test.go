package test

import (
	"bytes"
	"fmt"
	"maps"
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
	found    map[string]int // paths that look has read, and whose attempt each has

	mu       sync.Mutex
	changed  *sync.Cond     // with what follows
	at       node.Addresses // of the node
	isUp     bool
	trying   int // attempts under way
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
	s := &storm{t: t, n: n, seed: seed, messages: messages, found: map[string]int{}, at: n.Addresses, isUp: true}
	s.changed = sync.NewCond(&s.mu)
	for i := range 4 {
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
	at := s.enter()
	defer s.leave()
	if link == nil {
		var err error
		if lmtp {
			link, err = client.DialLMTP(at.LMTPSocket)
		} else {
			link, err = client.DialSMTP(at.SMTP)
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

// enter waits until the node is up, and has it waited for when it goes down.
func (s *storm) enter() node.Addresses {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.isUp {
		s.changed.Wait()
	}
	s.trying++
	return s.at
}

func (s *storm) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trying--
	s.changed.Broadcast()
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

// awaitMore waits until so many more attempts were acknowledged.
func (s *storm) awaitMore(n int) {
	s.mu.Lock()
	n += s.acked
	s.mu.Unlock()
	s.awaitAcks(n)
}

// down has the node brought down by end, and starts it again when all clients have noticed. They wait then until it is up.
func (s *storm) down(end func()) {
	s.t.Helper()
	s.mu.Lock()
	s.isUp = false
	s.mu.Unlock()
	end()
	s.mu.Lock()
	for s.trying > 0 {
		s.changed.Wait()
	}
	s.mu.Unlock()
	s.n.Start()
}

// up lets the clients go on, with a node that is up again.
func (s *storm) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.isUp = s.n.Addresses, true
	s.changed.Broadcast()
}

// look looks through the mailboxes on the mount, while nobody sends and nobody else renames: what it has found before is there, what is
// new is whole, and all that was acknowledged is among it.
func (s *storm) look() {
	s.t.Helper()
	missing := maps.Clone(s.found)
	there := map[int]bool{}
	for _, a := range s.accounts {
		s.n.Unlock(a)
		for _, path := range files(s.t, a.Home) {
			id, known := s.found[path]
			if !known {
				id = s.read(a, path)
				s.found[path] = id
			}
			delete(missing, path)
			if there[id] {
				s.t.Errorf("attempt %d is there twice, once as %s", id, path)
			}
			there[id] = true
		}
	}
	for path, id := range missing {
		s.t.Errorf("%s of attempt %d was there, and is lost", path, id)
	}
	for id, a := range s.attempts {
		if a.acked && !there[id] {
			s.t.Errorf("attempt %d (message %d to %s) was acknowledged and is lost", id, a.number, s.recipient(a.number).Address)
		}
	}
}

// read reads a message on the mount, and returns the attempt that sent it.
func (s *storm) read(a node.Account, path string) int {
	s.t.Helper()
	stored, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	id, below, err := identify(stored)
	if err != nil {
		s.t.Fatal(err)
	}
	s.compare(a, id, below)
	return id
}

// end waits until all is sent, and looks through all mailboxes, by IMAP.
func (s *storm) end() {
	s.t.Helper()
	s.clients.Wait()
	there := 0
	for _, a := range s.accounts {
		there += s.inspect(a)
	}
	s.t.Logf("%d messages acknowledged; %d attempts broke off, of which %d are there", s.acked, len(s.attempts)-s.acked, there-s.acked)
	if s.acked != s.messages {
		s.t.Errorf("%d messages were acknowledged, %d sent", s.acked, s.messages)
	}
}

// inspect compares a mailbox with what was sent to it, while nobody sends: what was acknowledged is there once and whole; what was not
// may be there, once and whole as well; and no name is there twice. It returns how many messages there are.
func (s *storm) inspect(a node.Account) int {
	s.t.Helper()
	box := byIMAP(s.t, s.n, a, "INBOX") // which finds those that are there twice
	for id, got := range box.read {
		s.compare(a, id, got)
	}
	for id, attempt := range s.attempts {
		if attempt.acked && s.recipient(attempt.number) == a && box.read[id] == nil {
			s.t.Errorf("attempt %d (message %d to %s) was acknowledged and is lost", id, attempt.number, a.Address)
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
	return len(box.read)
}

// compare compares what was read of a mailbox with the attempt that sent it.
func (s *storm) compare(a node.Account, id int, got []byte) {
	s.t.Helper()
	s.mu.Lock()
	number := -1
	if id >= 0 && id < len(s.attempts) {
		number = s.attempts[id].number
	}
	s.mu.Unlock()
	if number < 0 || s.recipient(number) != a {
		s.t.Errorf("%s: nobody sent what is there: %.200q", a.Address, got)
		return
	}
	if want := s.text(id, number); !bytes.Equal(got, want) {
		s.t.Errorf("%s: attempt %d is not whole: %s", a.Address, id, difference(got, want))
	}
}
