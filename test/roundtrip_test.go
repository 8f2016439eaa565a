package test

import (
	"strings"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// Every message that is sent by SMTP or by LMTP comes back byte for byte, by IMAP, by POP3, and from the mount.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	roundTrip(t, node.Start(t), everything(t))
}

func roundTrip(t *testing.T, n *node.Node, all []message.Message) {
	for name, dial := range map[string]func() (*client.SMTP, error){
		"SMTP":      func() (*client.SMTP, error) { return client.DialSMTP(n.SMTP) },
		"LMTP":      func() (*client.SMTP, error) { return client.DialLMTP(n.LMTP) },
		"LMTP.unix": func() (*client.SMTP, error) { return client.DialLMTP(n.LMTPSocket) },
	} {
		if name == "LMTP.unix" {
			all = message.Generated(0)
		}
		t.Run(name, func(t *testing.T) {
			a := n.AddAccount(strings.ToLower(name) + "@example.org")
			deliver(t, dial, 4, all, a.Address)
			byIMAP(t, n, a, "INBOX").mustHave(all)
			byPOP3(t, n, a).mustHave(all)
			n.Unlock(a)
			byMount(t, a).mustHave(all)
			structures(t, n, a, len(all))
			n.Lock(a)
		})
	}
	n.Fsck()
	n.Stop()
	n.Start()
	n.Fsck()
}

// structures has the server take all messages apart: whatever they are, each gets an answer.
func structures(t *testing.T, n *node.Node, a node.Account, count int) {
	t.Helper()
	c := logIn(t, n, a)
	must(t, c, "EXAMINE INBOX")
	got := 0
	for _, err := range c.Stream("UID FETCH 1:* (FLAGS INTERNALDATE ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[1.MIME])") {
		if err != nil {
			t.Fatal(err)
		}
		got++
	}
	if got < count {
		t.Errorf("%d of %d structures", got, count)
	}
	if err := c.Logout(); err != nil {
		t.Error(err)
	}
}
