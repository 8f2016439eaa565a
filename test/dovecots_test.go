package test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// TestTwoDovecots has two Dovecots serve one account, each beside its own node and with indexes of its own: what is done through one is in the
// other's next listing, and what both do at once is all there.
func TestTwoDovecots(t *testing.T) {
	t.Parallel()
	servers := []*dovecot{newDovecot(t), newDovecot(t)}
	nodes := node.Cluster(t, 2, node.Flags(servers[0].nodeFlags()...))
	a := nodes[0].AddAccount("alice@cluster.example")
	var sessions []*client.IMAP
	for i, d := range servers {
		d.beside(nodes[i])
		d.start()
		c := d.imap(a)
		must(t, c, "SELECT INBOX")
		sessions = append(sessions, c)
	}
	for _, n := range nodes {
		if !n.IsUnlocked(a) {
			t.Errorf("the login at its Dovecot has not unlocked the account on node %s", n.Name)
		}
	}

	t.Run("deliveries", func(t *testing.T) {
		for i := range 6 {
			by, other := servers[i%2], 1-i%2
			address := []string{by.lmtp, by.node.LMTP}[i/2%2] // Dovecot's, and Mailraft's
			c, err := client.DialLMTP(address)
			if err != nil {
				t.Fatal(err)
			}
			if err := sendBy(c, message.Text(uint64(i), 2000), a.Address); err != nil {
				t.Fatal(err)
			}
			c.Quit()
			if said := texts(must(t, sessions[other], "NOOP")); !strings.Contains(said, fmt.Sprintf("* %d EXISTS", i+1)) {
				t.Errorf("NOOP after delivery %d to %s: %q", i, address, said)
			}
			if count := servers[other].count(a); count != i+1 {
				t.Errorf("POP3 has %d messages after delivery %d to %s", count, i, address)
			}
			must(t, sessions[1-other], "NOOP")
		}
		sameInboxes(t, sessions)
	})
	t.Run("flags", func(t *testing.T) {
		for i, flag := range []string{`\Seen`, `\Flagged`, "work", "$Label1", "private", `\Answered`} {
			must(t, sessions[i%2], "STORE %d +FLAGS (%s)", i+1, flag)
			must(t, sessions[1-i%2], "NOOP")
			if said := texts(must(t, sessions[1-i%2], "FETCH %d FLAGS", i+1)); !strings.Contains(said, flag) {
				t.Errorf("%s of message %d, set by the other: %q", flag, i+1, said)
			}
		}
		sameInboxes(t, sessions)
	})
	t.Run("expunges", func(t *testing.T) {
		for i := range 2 {
			must(t, sessions[i], "STORE 1 +FLAGS (\\Deleted)")
			must(t, sessions[i], "EXPUNGE")
			if said := texts(must(t, sessions[1-i], "NOOP")); !strings.Contains(said, "* 1 EXPUNGE") {
				t.Errorf("NOOP after the other has expunged: %q", said)
			}
			if count := servers[1-i].count(a); count != 5-i {
				t.Errorf("POP3 has %d messages", count)
			}
		}
		sameInboxes(t, sessions)
	})
	t.Run("folders", func(t *testing.T) {
		must(t, sessions[0], "CREATE Kept")
		must(t, sessions[0], "SUBSCRIBE Kept")
		must(t, sessions[0], "COPY 1:4 Kept")
		must(t, sessions[1], "UNSUBSCRIBE INBOX")
		for _, c := range sessions {
			if said := texts(must(t, c, `LSUB "" *`)); strings.Count(said, "\n") != 1 || !strings.Contains(said, "Kept") {
				t.Errorf("subscribed to: %q", said)
			}
			if said := texts(must(t, c, "STATUS Kept (MESSAGES UIDNEXT)")); !strings.Contains(said, "MESSAGES 4 UIDNEXT 5") {
				t.Error(said)
			}
		}
	})
	t.Run("both at once", func(t *testing.T) {
		const each = 20
		var group sync.WaitGroup
		for i, c := range sessions {
			group.Go(func() {
				for k := range each {
					if err := c.Append("INBOX", "", authored("x@elsewhere.example", fmt.Sprintf("s%dm%d.", i, k))); err != nil {
						t.Error(err)
						return
					}
					for _, command := range []string{"NOOP", `STORE * +FLAGS (\Seen)`, fmt.Sprintf(`UID SEARCH SUBJECT "s%dm%d."`, i, k)} {
						r, err := c.Command("%s", command)
						if err != nil {
							t.Errorf("%s: %v", command, err)
							return
						}
						if found := searched.FindStringSubmatch(texts(r)); found != nil {
							if _, err := c.Command(`UID STORE %s +FLAGS (\Flagged busy%d)`, found[1], i); err != nil {
								t.Error(err)
								return
							}
						}
					}
				}
			})
		}
		group.Wait()
		all := ""
		nodes[0].Eventually("both have the same", func() bool { // two seconds later: docs/dovecot.md
			all = inbox(t, sessions[0])
			return all == inbox(t, sessions[1])
		})
		for i := range sessions {
			for k := range each {
				lines := regexp.MustCompile(fmt.Sprintf(`(?m)^.*Subject: s%dm%d\..*$`, i, k)).FindAllString(all, -1)
				if len(lines) != 1 || !strings.Contains(lines[0], `\Flagged`) || !strings.Contains(lines[0], fmt.Sprint("busy", i)) {
					t.Errorf("message %d of server %d: %q", k, i, lines)
				}
			}
		}
		for i, d := range servers {
			home := homeOn(nodes[i], a.Address)
			if got := len(files(t, home)); got != 4+2*each {
				t.Errorf("%d files on node %d", got, i)
			}
			if left, err := filepath.Glob(home + "/tmp/*"); err != nil || len(left) > 0 {
				t.Errorf("left in tmp/ on node %d: %q, %v", i, left, err)
			}
			if count := d.count(a); count != 4+2*each {
				t.Errorf("POP3 has %d messages on node %d", count, i)
			}
		}
	})
	for _, c := range sessions {
		if err := c.Logout(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range nodes {
		n.Fsck()
	}
}

// searched matches the answer to a search that has found one message.
var searched = regexp.MustCompile(`(?m)^\* SEARCH (\d+)$`)

// imap is a session of a Dovecot.
func (d *dovecot) imap(a node.Account) *client.IMAP {
	d.t.Helper()
	c, err := client.DialIMAP(d.imaps, d.trust)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	if err := c.Login(a.Address, a.Password); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// count is how many messages a new session by POP3 has.
func (d *dovecot) count(a node.Account) (count int) {
	d.t.Helper()
	c, err := client.DialPOP3(d.pop3s, d.trust)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Quit()
	if err := c.Login(a.Address, a.Password); err != nil {
		d.t.Fatal(err)
	}
	stat, err := c.Command("STAT")
	if err == nil {
		_, err = fmt.Sscanf(stat, "+OK %d", &count)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return count
}

// sameInboxes compares what sessions have of the INBOX.
func sameInboxes(t *testing.T, sessions []*client.IMAP) {
	t.Helper()
	if one, other := inbox(t, sessions[0]), inbox(t, sessions[1]); one != other {
		t.Errorf("one has\n%s\nthe other\n%s", one, other)
	}
}

// inbox tells what a session has of the INBOX: its UIDVALIDITY, and of each message UID, flags and subject.
func inbox(t *testing.T, c *client.IMAP) string {
	t.Helper()
	must(t, c, "NOOP")
	var lines []string
	for _, r := range must(t, c, "FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])") {
		if m := described.FindStringSubmatch(r.Text); m != nil && len(r.Literals) == 1 {
			flags := strings.Fields(strings.ReplaceAll(m[2], `\Recent`, "")) // which is one session's alone
			lines = append(lines, fmt.Sprint(m[1], flags, " ", strings.TrimSpace(string(r.Literals[0]))))
		}
	}
	return texts(must(t, c, "STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)")) + strings.Join(lines, "\n")
}

// described matches the answer to a FETCH of UID, flags and the subject.
var described = regexp.MustCompile(`^\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)`)
