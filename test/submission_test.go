package test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailraft/test/client"
	"mailraft/test/node"
)

// authored is a message with a sender, whole but for its trace lines.
func authored(by, subject string) []byte {
	return fmt.Appendf(nil, "From: %s\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@client.example>\r\nSubject: %s\r\n\r\nA line.\r\n", by, subject, subject)
}

// received are the messages of an INBOX as they are stored, trace lines and all, in the order of their coming.
func received(t *testing.T, n *node.Node, a node.Account) []string {
	t.Helper()
	c := logIn(t, n, a)
	defer c.Logout()
	must(t, c, "EXAMINE INBOX")
	var all []string
	for r, err := range c.Stream("UID FETCH 1:* (UID BODY.PEEK[])") {
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Literals) == 1 {
			all = append(all, string(r.Literals[0]))
		}
	}
	return all
}

// submits logs in on a connection and submits a message, and returns the answer that decides.
func submits(t *testing.T, s *client.SMTP, a node.Account, raw []byte, to string) client.Reply {
	t.Helper()
	if r, err := s.Login(a.Address, a.Password); err != nil || !r.Begins("235 2.7.0") {
		t.Fatalf("login: %q, %v", r, err)
	}
	return again(t, s, a.Address, raw, to)
}

// again submits one more message.
func again(t *testing.T, s *client.SMTP, from string, raw []byte, to string) client.Reply {
	t.Helper()
	answers, refused, err := s.Deliver(from, raw, to)
	if err != nil || len(answers) != 1 {
		t.Fatalf("%q, %q, %v", answers, refused, err)
	}
	if r, ok := refused[to]; ok && !strings.HasPrefix(string(r), "503") { // else MAIL was refused
		return r
	}
	return answers[0]
}

// Users send to each other by the submission ports, as themselves and nobody else.
func TestSubmission(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a, b := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.org")
	n.Admin("alias", "add", "sales@example.org", a.Address)
	secure, err := client.Trust(certificate(t, n), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	dialers := map[string]func() (*client.SMTP, error){
		"STARTTLS": func() (*client.SMTP, error) {
			s, err := client.DialSMTP(n.Submission)
			if err != nil {
				return nil, err
			}
			return s, s.StartTLS(secure)
		},
		"implicit TLS": func() (*client.SMTP, error) { return client.DialSMTPS(n.Submissions, secure) },
	}
	for how, dial := range dialers {
		s, err := dial()
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if !strings.Contains(s.Caps, "250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\n") {
			t.Errorf("%s: %s", how, s.Caps)
		}
		if r := again(t, s, a.Address, authored(a.Address, "early"), b.Address); !r.Begins("530 5.7.0") {
			t.Errorf("%s: before the login: %s", how, r)
		}
		if r, err := s.Login(a.Address, "wrong"); err != nil || !r.Begins("535 5.7.8") {
			t.Errorf("%s: a wrong password: %q, %v", how, r, err)
		}
		if r := submits(t, s, a, authored("Alice <alice@example.org>", "own"), b.Address); !r.Begins("250 2.0.0") {
			t.Errorf("%s: %s", how, r)
		}
		if !n.IsUnlocked(a) {
			t.Errorf("%s: alice is not unlocked while she is connected", how)
		}
		for _, c := range []struct {
			from   string
			author string
			to     string
			want   string
		}{
			{"alice+detail@example.org", "sales@example.org", "bob+detail@example.org", "250 2.0.0"},
			{"Sales@Example.ORG", "ALICE@example.org", "bob@example.org", "250 2.0.0"},
			{a.Address, b.Address, b.Address, "550 5.7.1"},
			{b.Address, a.Address, b.Address, "550 5.7.1"},
			{"alice@elsewhere.example", a.Address, b.Address, "550 5.7.1"},
			{a.Address, a.Address, "somebody@elsewhere.example", "550 5.7.1"},
			{a.Address, a.Address, "nobody@example.org", "550 5.1.1"},
		} {
			if r := again(t, s, c.from, authored(c.author, "more"), c.to); !r.Begins(c.want) {
				t.Errorf("%s: from %s, by %s, to %s: %s", how, c.from, c.author, c.to, r)
			}
		}
		if err := s.Quit(); err != nil {
			t.Error(err)
		}
	}
	got := received(t, n, b)
	if len(got) != 3*len(dialers) {
		t.Fatalf("%d messages: %q", len(got), got)
	}
	trace := regexp.MustCompile(`^Return-Path: <[^>]+>\r\nDelivered-To: bob@example.org\r\nReceived: from client.example \(\[127\.\d+\.\d+\.\d+\]\)\r\n\tby localhost with ESMTPSA id `)
	for _, text := range got {
		if !trace.MatchString(text) {
			t.Errorf("%.300q", text)
		}
	}

	// Without room, one can still write; locked out, one cannot.
	n.Admin("account", "quota", a.Address, "1K")
	s, err := dialers["implicit TLS"]()
	if err != nil {
		t.Fatal(err)
	}
	send(t, n, a, 1, authored("x@elsewhere.example", strings.Repeat("long", 50)))
	if r := submits(t, s, a, authored(a.Address, "full"), b.Address); !r.Begins("250 2.0.0") {
		t.Errorf("over quota: %s", r)
	}
	n.Lock(a)
	if r, err := s.Reply(); err != nil || !r.Begins("421 4.7.0") {
		t.Errorf("the account was locked: %q, %v", r, err)
	}
	s.Close()
	n.Fsck()
}

// The programs that people send with.
func TestSubmissionClients(t *testing.T) {
	t.Parallel()
	swaks, msmtp, curl := tool(t, "swaks", "swaks"), tool(t, "msmtp", "msmtp"), tool(t, "curl", "curl")
	n := node.Start(t)
	a, b := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.org")
	home := t.TempDir()
	var subjects []string
	text := func(by string) (subject, file string) {
		subject = fmt.Sprintf("Message-%d", len(subjects))
		return subject, write(t, filepath.Join(home, subject), fmt.Sprintf("From: %s\nTo: %s\nSubject: %s\n\nText.\n", by, b.Address, subject))
	}
	for _, mechanism := range []string{"PLAIN", "LOGIN"} { // on the loopback, without TLS
		subject, file := text(a.Address)
		command := []string{swaks, "--server", n.Submission, "--from", a.Address, "--to", b.Address, "--data", "@" + file, "--auth", mechanism, "--auth-user", a.Address}
		run(t, home, append(command, "--auth-password", a.Password)...)
		subjects = append(subjects, subject)
		if out, _, err := tryRun(t, home, append(command, "--auth-password", "wrong")...); err == nil || !bytes.Contains(out, []byte("535 5.7.8")) {
			t.Errorf("swaks, %s, wrong password: %v\n%s", mechanism, err, out)
		}
	}
	for _, how := range []struct{ address, settings string }{{n.Submission, "tls_starttls on"}, {n.Submissions, "tls_starttls off"}} {
		for _, mechanism := range []string{"plain", "login"} {
			host, port := hostPort(how.address)
			config := write(t, filepath.Join(home, "msmtprc"), fmt.Sprintf("account default\nhost %s\nport %s\ntls on\n%s\ntls_trust_file %s\ntls_host_override localhost\nauth %s\nuser %s\npassword %q\nfrom %s\n",
				host, port, how.settings, certificate(t, n), mechanism, a.Address, a.Password, a.Address))
			subject, file := text(a.Address)
			run(t, home, "sh", "-c", fmt.Sprintf("'%s' -C '%s' '%s' < '%s'", msmtp, config, b.Address, file))
			subjects = append(subjects, subject)
			_, spoofed := text(b.Address)
			if _, said, err := tryRun(t, home, "sh", "-c", fmt.Sprintf("'%s' -C '%s' '%s' < '%s'", msmtp, config, b.Address, spoofed)); err == nil || !bytes.Contains(said, []byte("is not an address of the account")) {
				t.Errorf("msmtp, as bob: %v\n%s", err, said)
			}
		}
	}
	netrc := write(t, filepath.Join(home, "netrc"), fmt.Sprintf("machine localhost login %s password %q\n", a.Address, a.Password))
	for _, url := range []string{"smtp://" + n.Submission, "smtps://" + n.Submissions} {
		subject, file := text(a.Address)
		run(t, home, curl, "--silent", "--show-error", "--max-time", "60", "--ssl-reqd", "--netrc-file", netrc, "--cacert", certificate(t, n), "--crlf",
			"--mail-from", a.Address, "--mail-rcpt", b.Address, "--upload-file", file, strings.Replace(url, "127.0.0.1", "localhost", 1)+"/client.example")
		subjects = append(subjects, subject)
	}
	got := received(t, n, b)
	if len(got) != len(subjects) {
		t.Fatalf("%d messages, want %d", len(got), len(subjects))
	}
	for i, subject := range subjects {
		for _, part := range []string{"Subject: " + subject + "\r\n", "\r\nDate: ", "\r\nMessage-ID: <", "\r\nFrom: " + a.Address} {
			if strings.Count(strings.ToLower(got[i]), strings.ToLower(part)) != 1 {
				t.Errorf("%s: not one %q in %q", subject, part, got[i])
			}
		}
	}
}
