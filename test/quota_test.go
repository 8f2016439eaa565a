package test

import (
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// A mailbox without room for a message keeps it from nobody twice: as long as one reply refuses it, no copy is left behind, however
// often it is sent again.
func TestOneFullMailbox(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Expecting("message not stored"))
	a, b := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.org")
	full := n.AddAccount("full@example.org", "--quota", "20K")
	n.Admin("alias", "add", "all@example.org", a.Address, b.Address, full.Address)
	text := message.Text(1, 12_000)
	send(t, n, full, 1, text) // RCPT finds room, the message does not

	attempt := func(dial func() (*client.SMTP, error), want []string, to ...string) {
		t.Helper()
		s, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		answers, refused, err := s.Deliver(senderOf(2), text, to...)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Quit(); err != nil {
			t.Fatal(err)
		}
		for _, r := range refused {
			answers = append(answers, r)
		}
		if len(answers) != len(want) {
			t.Fatalf("to %q: %q, want %q", to, answers, want)
		}
		for i := range want {
			if !answers[i].Begins(want[i]) {
				t.Errorf("to %q: %q, want %s", to, answers[i], want[i])
			}
		}
	}
	smtp := func() (*client.SMTP, error) { return client.DialSMTP(n.SMTP) }
	lmtp := func() (*client.SMTP, error) { return client.DialLMTP(n.LMTP) }
	for range 2 {
		attempt(smtp, []string{"452 4.2.2"}, a.Address, full.Address)
		attempt(smtp, []string{"452 4.2.2"}, full.Address, b.Address)
		attempt(smtp, []string{"452 4.2.2"}, "all@example.org")
		attempt(lmtp, []string{"452 4.2.2"}, "all@example.org")
	}
	for _, who := range []node.Account{a, b} {
		if got := len(files(t, who.Home)); got != 0 {
			t.Errorf("%s has %d copies of a message that was refused", who.Address, got)
		}
	}
	// A recipient of its own has its copy, and one only.
	attempt(lmtp, []string{"452 4.2.2", "250"}, "all@example.org", a.Address)
	if got := len(files(t, a.Home)); got != 1 {
		t.Errorf("%d copies", got)
	}
	if got := len(files(t, b.Home)); got != 0 {
		t.Errorf("%d copies", got)
	}
	n.Fsck()
}
