package test

import (
	"net"
	"strings"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// refusal is the answer to the recipient, or to the data, of a message that has to be refused.
func refusal(t *testing.T, dial func() (*client.SMTP, error), to string, raw []byte) client.Reply {
	t.Helper()
	s, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	answers, refused, err := s.Deliver(senderOf(1), raw, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	if r, ok := refused[to]; ok {
		return r
	}
	if len(answers) != 1 || answers[0].OK() {
		t.Fatalf("to %s: %q", to, answers)
	}
	return answers[0]
}

// Mail that cannot be delivered is refused in the words of the RFCs: 3463 has the codes.
func TestRefusals(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Flags("--max-message", "1M"), node.Expecting("message not stored"))
	n.AddAccount("alice@example.org")
	full := n.AddAccount("full@example.org", "--quota", "20K")
	few := n.AddAccount("few@example.org", "--quota-files", "1")
	text := message.Text(1, 12_000)
	send(t, n, few, 1, text)
	send(t, n, full, 1, text)

	smtp := func() (*client.SMTP, error) { return client.DialSMTP(n.SMTP) }
	lmtp := func() (*client.SMTP, error) { return client.DialLMTP(n.LMTP) }
	for _, c := range []struct{ what, to, want string }{
		{"unknown user", "nobody@example.org", "550 5.1.1"},
		{"unknown user with a detail", "nobody+x@example.org", "550 5.1.1"},
		{"relaying", "alice@elsewhere.example", "550 5.7.1"},
		{"relaying to a subdomain", "alice@sub.example.org", "550 5.7.1"},
		{"over quota with this message", full.Address, "452 4.2.2"},
		{"over the quota of files", few.Address, "452 4.2.2"},
	} {
		for by, dial := range map[string]func() (*client.SMTP, error){"SMTP": smtp, "LMTP": lmtp} {
			if got := refusal(t, dial, c.to, text); !got.Begins(c.want) {
				t.Errorf("%s by %s: %q, want %s", c.what, by, got, c.want)
			}
		}
	}
	if got := refusal(t, smtp, "alice@example.org", message.Text(2, 1<<20+100)); !got.Begins("552 5.3.4") {
		t.Errorf("too large: %q", got)
	}
	if got := len(files(t, full.Home)); got != 1 {
		t.Errorf("over quota: %d messages are there", got)
	}
	// Room again.
	n.Admin("account", "quota", full.Address, "1M")
	send(t, n, full, 2, text)
	// By IMAP as well.
	n.Admin("account", "quota", full.Address, "20K")
	c := logIn(t, n, full)
	if err := c.Append("INBOX", "", text); err == nil || !strings.Contains(err.Error(), "[OVERQUOTA]") {
		t.Errorf("APPEND over quota: %v", err)
	}
	n.Fsck()
}

// Each recipient gets one copy, sealed to it; a plus-detail and aliases lead where they should.
func TestRecipients(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Expecting("message not stored"))
	a, b := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.org")
	n.Admin("alias", "add", "both@example.org", a.Address, b.Address)
	n.Admin("alias", "add", "chain@example.org", "both@example.org")
	all := []message.Message{{Name: "several", Raw: message.Text(0, 3000)}, {Name: "plus", Raw: message.Text(1, 3000)}, {Name: "alias", Raw: message.Text(2, 3000)}, {Name: "chain", Raw: message.Text(3, 3000)}}
	for id, to := range [][]string{
		{a.Address, "nobody@example.org", b.Address},
		{"alice+detail@example.org", "BOB@Example.ORG"},
		{"both@example.org"},
		{"chain@example.org"},
	} {
		s, err := client.DialSMTP(n.SMTP)
		if err != nil {
			t.Fatal(err)
		}
		answers, refused, err := s.Deliver(senderOf(id), all[id].Raw, to...)
		if err != nil || len(answers) != 1 || !answers[0].OK() {
			t.Errorf("to %q: %q, %v", to, answers, err)
		}
		for r, answer := range refused {
			if r != "nobody@example.org" || !answer.Begins("550 5.1.1") {
				t.Errorf("to %q: %s is refused: %s", to, r, answer)
			}
		}
		if err := s.Quit(); err != nil {
			t.Fatal(err)
		}
	}
	byIMAP(t, n, a, "INBOX").mustHave(all)
	byIMAP(t, n, b, "INBOX").mustHave(all)
	// Of what one of them can read, the other can read nothing.
	n.Unlock(a)
	n.Lock(b)
	byMount(t, a).mustHave(all)
	listedNotRead(t, n, b)

	// LMTP answers for each.
	n.Admin("account", "quota", b.Address, "15K")
	s, err := client.DialLMTP(n.LMTP)
	if err != nil {
		t.Fatal(err)
	}
	answers, _, err := s.Deliver(senderOf(9), message.Text(9, 8000), a.Address, b.Address)
	if err != nil || len(answers) != 2 || !answers[0].OK() || !answers[1].Begins("452 4.2.2") {
		t.Errorf("to one with room and one without: %q, %v", answers, err)
	}
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
}

// Passwords are not taken in the clear from elsewhere than this machine itself.
func TestPlaintextLoginIsRefused(t *testing.T) {
	t.Parallel()
	address := net.JoinHostPort(ownAddress(t), "0")
	n := node.Start(t, node.Flags("--imap-listen", address, "--imap-listen-tls", address, "--pop3-listen", address, "--pop3-listen-tls", address))
	a := n.AddAccount("alice@example.org")

	i, err := client.DialIMAP(n.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if caps := texts(must(t, i, "CAPABILITY")); !strings.Contains(caps, "LOGINDISABLED") || strings.Contains(caps, "AUTH=") {
		t.Errorf("CAPABILITY without TLS: %s", caps)
	}
	if err := i.Login(a.Address, a.Password); err == nil || !strings.Contains(err.Error(), "PRIVACYREQUIRED") {
		t.Errorf("LOGIN without TLS: %v", err)
	}
	if _, err := i.Command("SELECT INBOX"); err == nil {
		t.Error("logged in without TLS")
	}
	p, err := client.DialPOP3(n.POP3, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Login(a.Address, a.Password); err == nil {
		t.Error("POP3 without TLS takes a password")
	}
	if n.IsUnlocked(a) {
		t.Error("a login that was refused unlocked the account")
	}
	secure, err := client.Trust(certificate(t, n), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	i, err = client.DialIMAP(n.IMAPS, secure)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Login(a.Address, a.Password); err != nil {
		t.Errorf("LOGIN with TLS: %v", err)
	}
	p, err = client.DialPOP3(n.POP3S, secure)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Login(a.Address, a.Password); err != nil {
		t.Errorf("POP3 login with TLS: %v", err)
	}
}

// ownAddress is an address of this machine that is not the loopback's.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	t.Fatal("this machine has no address but the loopback's: give it one (ip address add 192.0.2.1/32 dev lo)")
	return ""
}
