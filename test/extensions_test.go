package test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// An address in other letters than ASCII (RFC 6531) takes mail however it is written, and its owner logs in with any of these forms.
func TestInternationalAddress(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("grün@bücher.example")
	a.Home = filepath.Join(n.Mount, "xn--bcher-kva.example", "grün")
	s, err := client.DialSMTP(n.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	says := func(want, format string, args ...any) {
		t.Helper()
		if r, err := s.Command(format, args...); err != nil || !r.Begins(want) {
			t.Errorf(format+": %q, %v", append(args, r, err)...)
		}
	}
	const raw = "Subject: Grüße\r\n\r\nWie geht's?\r\n"
	for id, to := range []string{"grün@bücher.example", "GRU\u0308N@BU\u0308CHER.example", "grün@xn--bcher-kva.example"} {
		says("250 2.1.0", "MAIL FROM:<m%d@sender.example> BODY=8BITMIME SMTPUTF8", id)
		says("250 2.1.5", "RCPT TO:<%s>", to)
		says("550 5.1.1", "RCPT TO:<gelb@bücher.example>")
		says("550 5.7.1", "RCPT TO:<grün@tücher.example>")
		if r, err := s.Command("DATA"); err != nil || r.Code() != "354" {
			t.Fatalf("DATA: %q, %v", r, err)
		}
		says("250 2.0.0", "%s.", raw)
	}
	says("250 2.1.0", "MAIL FROM:<>")
	says("553 5.6.7", "RCPT TO:<grün@xn--bcher-kva.example>")
	says("553 5.6.7", "RCPT TO:<alice@bücher.example>")
	says("221 2.0.0", "QUIT")

	sent := []message.Message{{Name: "composed", Raw: []byte(raw)}, {Name: "decomposed", Raw: []byte(raw)}, {Name: "A-label", Raw: []byte(raw)}}
	byIMAP(t, n, a, "INBOX").mustHave(sent)
	decomposed := a
	decomposed.Address = "Gru\u0308n@Bu\u0308cher.example"
	byPOP3(t, n, decomposed).mustHave(sent)
	n.Unlock(a)
	byMount(t, a).mustHave(sent)
	n.Fsck()
}

// A message that comes in chunks (RFC 3030), cut anywhere and with commands pipelined behind, comes back byte for byte.
func TestChunks(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	large := make([]byte, 3<<20)
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	large = bytes.ReplaceAll(large, []byte("\n"), []byte("\r\n"))
	all := []message.Message{
		{Name: "looks like commands", Raw: []byte("Subject: 0\r\n\r\nQUIT\r\n.\r\n.\r\nBDAT 0 LAST\r\n")},
		{Name: "binary", Raw: append([]byte("Subject: 1\r\n\r\n"), append(large, "\r\n"...)...)},
		{Name: "empty", Raw: nil},
		{Name: "only a header", Raw: []byte("Subject: 3\r\n")},
	}
	for name, dial := range map[string]func() (*client.SMTP, error){
		"smtp": func() (*client.SMTP, error) { return client.DialSMTP(n.SMTP) },
		"lmtp": func() (*client.SMTP, error) { return client.DialLMTP(n.LMTP) },
	} {
		a := n.AddAccount(name + "@example.org")
		s, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for id, m := range all {
			var b bytes.Buffer
			fmt.Fprintf(&b, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\n", senderOf(id), a.Address)
			replies := []string{"250 2.1.0", "250 2.1.5"}
			rest := m.Raw
			for _, size := range []int{1, 0, 10, 3, 70_000} {
				size = min(size, len(rest))
				fmt.Fprintf(&b, "BDAT %d\r\n%s", size, rest[:size])
				rest = rest[size:]
				replies = append(replies, "250 2.0.0")
			}
			fmt.Fprintf(&b, "BDAT %d LAST\r\n%sNOOP\r\n", len(rest), rest)
			replies = append(replies, "250 2.0.0", "250 2.0.0")
			if err := s.Send(b.Bytes()); err != nil {
				t.Fatal(err)
			}
			for _, want := range replies {
				if r, err := s.Reply(); err != nil || !r.Begins(want) {
					t.Fatalf("%s: %q, %v, want %s", m.Name, r, err, want)
				}
			}
		}
		byIMAP(t, n, a, "INBOX").mustHave(all)
		byPOP3(t, n, a).mustHave(all)
		n.Unlock(a)
		byMount(t, a).mustHave(all)
		n.Lock(a)
	}
	n.Fsck()
}
