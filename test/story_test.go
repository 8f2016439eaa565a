package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// everything is all generated messages and all of the corpus, when there is one.
func everything(t *testing.T) []message.Message {
	t.Helper()
	corpus, err := message.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	return append(message.Generated(200), corpus...)
}

// The envelope's sender is what a message is known by, as it may have no header of its own: the server puts it in Return-Path.
func senderOf(id int) string { return fmt.Sprintf("m%d@sender.example", id) }

var trace = regexp.MustCompile(`^Return-Path: <(?:m(\d+)@sender\.example|[^>]*)>\r\n` +
	`Delivered-To: [^\r\n]+\r\n` +
	`Received: from [^\r\n]+\r\n\tby localhost with [A-Z0-9]+ id [^\r\n]+(?:\r\n\t\(TLS[^\r\n]*\))?\r\n\tfor <[^\r\n]+>;\r\n\t[^\r\n]+\r\n`)

// identify parts what came back into the number that its sender had, -1 if none, and what lies below the trace lines.
func identify(stored []byte) (id int, below []byte, err error) {
	m := trace.FindSubmatch(stored)
	if m == nil {
		return 0, nil, fmt.Errorf("no trace lines in front of %.300q", stored)
	}
	id = -1
	if len(m[1]) > 0 {
		if _, err := fmt.Sscan(string(m[1]), &id); err != nil {
			return 0, nil, err
		}
	}
	return id, stored[len(m[0]):], nil
}

// deliver sends messages to one account over some connections at once, from senders with the messages' numbers.
func deliver(t *testing.T, dial func() (*client.SMTP, error), connections int, all []message.Message, to string) {
	t.Helper()
	var group sync.WaitGroup
	for c := range connections {
		group.Go(func() {
			s, err := dial()
			if err != nil {
				t.Error(err)
				return
			}
			for id := c; id < len(all); id += connections {
				answers, refused, err := s.Deliver(senderOf(id), all[id].Raw, to)
				if err != nil {
					t.Errorf("%s: %v", all[id].Name, err)
					s.Close()
					return
				}
				if len(refused) > 0 || len(answers) != 1 || !answers[0].OK() {
					t.Errorf("%s: %q, refused: %q", all[id].Name, answers, refused)
				}
			}
			if err := s.Quit(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// mailbox is what was read of a mailbox, by senders' numbers.
type mailbox struct {
	t    *testing.T
	by   string // by which way it was read
	read map[int][]byte
}

func newMailbox(t *testing.T, by string) *mailbox { return &mailbox{t, by, map[int][]byte{}} }

// take takes a message as it is stored.
func (m *mailbox) take(stored []byte) {
	id, below, err := identify(stored)
	if err != nil {
		m.t.Errorf("%s: %v", m.by, err)
		return
	}
	if _, twice := m.read[id]; twice {
		m.t.Errorf("%s: message %d is there twice", m.by, id)
	}
	m.read[id] = below
}

// mustHave compares with what was sent: all of it, and nothing else.
func (m *mailbox) mustHave(all []message.Message) {
	m.t.Helper()
	for id, sent := range all {
		got, ok := m.read[id]
		want := message.Canonical(sent.Raw)
		switch {
		case !ok:
			m.t.Errorf("%s: %q did not come back", m.by, sent.Name)
		case !bytes.Equal(got, want):
			m.t.Errorf("%s: %q came back changed: %s", m.by, sent.Name, difference(got, want))
		}
	}
	if len(m.read) > len(all) {
		m.t.Errorf("%s: %d messages, %d were sent", m.by, len(m.read), len(all))
	}
}

// difference tells where two messages part.
func difference(got, want []byte) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	from := max(0, at-20)
	return fmt.Sprintf("%d octets, not %d; from octet %d on %.60q, not %.60q", len(got), len(want), from, got[from:], want[from:])
}

// logIn logs in to IMAP.
func logIn(t *testing.T, n *node.Node, a node.Account) *client.IMAP {
	t.Helper()
	c, err := client.DialIMAP(n.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(a.Address, a.Password); err != nil {
		t.Fatal(err)
	}
	return c
}

// logInPOP3 logs in to POP3.
func logInPOP3(t *testing.T, n *node.Node, a node.Account) *client.POP3 {
	t.Helper()
	c, err := client.DialPOP3(n.POP3, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(a.Address, a.Password); err != nil {
		t.Fatal(err)
	}
	return c
}

// must runs an IMAP command that has to succeed.
func must(t *testing.T, c *client.IMAP, format string, args ...any) []client.Response {
	t.Helper()
	all, err := c.Command(format, args...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var sizeItem = regexp.MustCompile(`RFC822\.SIZE (\d+)`)

// byIMAP reads all messages of a folder.
func byIMAP(t *testing.T, n *node.Node, a node.Account, folder string) *mailbox {
	t.Helper()
	box := newMailbox(t, "IMAP")
	c := logIn(t, n, a)
	must(t, c, "EXAMINE %s", folder)
	for r, err := range c.Stream("UID FETCH 1:* (UID RFC822.SIZE BODY.PEEK[])") {
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Literals) != 1 {
			continue
		}
		if size := sizeItem.FindStringSubmatch(r.Text); size == nil || size[1] != fmt.Sprint(len(r.Literals[0])) {
			t.Errorf("IMAP: RFC822.SIZE of a message of %d octets: %s", len(r.Literals[0]), r.Text)
		}
		box.take(r.Literals[0])
	}
	if err := c.Logout(); err != nil {
		t.Error(err)
	}
	return box
}

// byPOP3 reads all messages of the INBOX.
func byPOP3(t *testing.T, n *node.Node, a node.Account) *mailbox {
	t.Helper()
	box := newMailbox(t, "POP3")
	p := logInPOP3(t, n, a)
	stat, err := p.Command("STAT")
	if err != nil {
		t.Fatal(err)
	}
	var count, told, size int
	if _, err := fmt.Sscanf(stat, "+OK %d %d", &count, &told); err != nil {
		t.Fatalf("%s: %v", stat, err)
	}
	err = p.RetrieveAll(count, func(_ int, m []byte) {
		size += len(m)
		box.take(m)
	})
	if err != nil {
		t.Fatal(err)
	}
	if told != size {
		t.Errorf("POP3: %s, but it is %d octets", stat, size)
	}
	if err := p.Quit(); err != nil {
		t.Error(err)
	}
	return box
}

// files are the paths of a folder's messages on the mount.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var all []string
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(folder, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, filepath.Join(folder, sub, e.Name()))
		}
	}
	return all
}

// byMount reads all messages of an unlocked account's INBOX.
func byMount(t *testing.T, a node.Account) *mailbox {
	t.Helper()
	box := newMailbox(t, "mount")
	for _, path := range files(t, a.Home) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if fi, err := os.Stat(path); err != nil || fi.Size() != int64(len(b)) {
			t.Errorf("%s: %d octets, stat tells %v, %v", path, len(b), fi.Size(), err)
		}
		box.take(b)
	}
	return box
}

// oneText delivers a plain message and returns it.
func oneText(t *testing.T, n *node.Node, a node.Account, id int) []byte {
	t.Helper()
	raw := message.Text(uint64(id), 2000)
	send(t, n, a, id, raw)
	return raw
}

// send delivers one message.
func send(t *testing.T, n *node.Node, a node.Account, id int, raw []byte) {
	t.Helper()
	s, err := client.DialLMTP(n.LMTP)
	if err != nil {
		t.Fatal(err)
	}
	answers, _, err := s.Deliver(senderOf(id), raw, a.Address)
	if err != nil || len(answers) != 1 || !answers[0].OK() {
		t.Fatalf("%q, %v", answers, err)
	}
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
}

// texts joins responses for error messages and searches.
func texts(all []client.Response) string {
	var b strings.Builder
	for _, r := range all {
		b.WriteString(r.Text + "\n")
	}
	return b.String()
}
