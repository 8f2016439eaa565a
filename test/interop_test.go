package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// What people do to the maildir with the tools of the shell shows in an IMAP session that is open, both when it asks (NOOP) and
// while it waits (IDLE).
func TestShellShowsInIMAP(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	home := t.TempDir()
	for id := range 4 {
		oneText(t, n, a, id)
	}
	for _, waits := range []bool{false, true} {
		t.Run(map[bool]string{false: "NOOP", true: "IDLE"}[waits], func(t *testing.T) {
			c := logIn(t, n, a)
			must(t, c, "SELECT INBOX")
			shows := func(want string, does func()) {
				t.Helper()
				if waits {
					showsInIdle(t, c, want, does)
				} else {
					does()
					showsInNoop(t, n, c, want)
				}
			}
			count := len(files(t, a.Home))

			// cp into a folder's cur: a message more.
			source := write(t, filepath.Join(home, "message"), string(message.Text(50, 3000)))
			copied := filepath.Join(a.Home, "cur", fmt.Sprintf("1764000000.copied%v.host:2,S", waits))
			shows(fmt.Sprintf(`\* %d EXISTS`, count+1), func() { run(t, home, "cp", source, copied) })

			// mv that changes flags: FETCH FLAGS.
			flagged := copied + "F"
			shows(fmt.Sprintf(`\* %d FETCH .*\\Flagged`, count+1), func() { run(t, home, "mv", copied, flagged) })

			// mv from one of new and cur to the other: the message stays, with the same UID.
			moved := delivered(t, a)
			there := map[string]string{"new": "cur", "cur": "new"}[filepath.Base(filepath.Dir(moved))]
			key, _, _ := strings.Cut(filepath.Base(moved), ":2,")
			before := uids(t, n, a)
			run(t, home, "mv", moved, filepath.Join(a.Home, there, key))
			if after := uids(t, n, a); after != before {
				t.Errorf("UIDs before mv to cur: %s, after: %s", before, after)
			}

			// ln: a second name is a second message.
			shows(fmt.Sprintf(`\* %d EXISTS`, count+2), func() {
				run(t, home, "ln", flagged, filepath.Join(a.Home, "cur", fmt.Sprintf("1764000000.linked%v.host:2,", waits)))
			})

			// rm: gone.
			shows(`\* \d+ EXPUNGE`, func() { run(t, home, "rm", flagged) })

			// mv into another folder: gone here, there there.
			run(t, home, "mkdir", "-p", a.Home+"/.Kept/cur", a.Home+"/.Kept/new", a.Home+"/.Kept/tmp")
			victim := delivered(t, a)
			shows(`\* \d+ EXPUNGE`, func() { run(t, home, "mv", victim, a.Home+"/.Kept/cur/") })
			other := logIn(t, n, a)
			if got := texts(must(t, other, "STATUS Kept (MESSAGES)")); !strings.Contains(got, "MESSAGES 1") {
				t.Errorf("after mv into Kept: %s", got)
			}
			run(t, home, "rm", "-r", a.Home+"/.Kept")
			if got := texts(must(t, other, `LIST "" *`)); strings.Contains(got, "Kept") {
				t.Errorf("after rm -r: %s", got)
			}

			// A delivery.
			now := len(files(t, a.Home))
			shows(fmt.Sprintf(`\* %d EXISTS`, now+1), func() { oneText(t, n, a, 60) })

			// And what IMAP does shows to the shell.
			must(t, c, "STORE 1:* +FLAGS (\\Seen)")
			for _, path := range files(t, a.Home) {
				if _, flags, _ := strings.Cut(filepath.Base(path), ":2,"); !strings.Contains(flags, "S") {
					t.Errorf("seen by IMAP: %s", filepath.Base(path))
				}
			}
			must(t, c, "STORE 1:2 +FLAGS (\\Deleted)")
			must(t, c, "EXPUNGE")
			if got := len(files(t, a.Home)); got != now+1-2 {
				t.Errorf("%d files after two were expunged of %d", got, now+1)
			}
		})
	}
	n.Fsck()
}

// delivered is a message that came by LMTP.
func delivered(t *testing.T, a node.Account) string {
	t.Helper()
	for _, path := range files(t, a.Home) {
		if strings.Contains(path, ",W=") {
			return path
		}
	}
	t.Fatal("nothing that was delivered is left")
	return ""
}

// showsInIdle has it done while the session idles, and awaits what the server tells.
func showsInIdle(t *testing.T, c *client.IMAP, want string, does func()) {
	t.Helper()
	tag, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	does()
	said, told := regexp.MustCompile(want), ""
	for !said.MatchString(told) {
		r, err := c.Response() // which fails when nothing comes for long
		if err != nil {
			t.Fatalf("IDLE told %q, want %s: %v", told, want, err)
		}
		told = r.Text
	}
	if _, err := c.End(tag); err != nil {
		t.Fatal(err)
	}
}

// showsInNoop asks until the server tells: that it does so at once is not promised, as the session hears of changes by itself.
func showsInNoop(t *testing.T, n *node.Node, c *client.IMAP, want string) {
	t.Helper()
	said := regexp.MustCompile(want)
	n.Eventually("NOOP tells "+want, func() bool {
		return said.MatchString(texts(must(t, c, "NOOP")))
	})
}

// uids are the UIDs of the INBOX, as a new session sees them.
func uids(t *testing.T, n *node.Node, a node.Account) string {
	t.Helper()
	c := logIn(t, n, a)
	must(t, c, "EXAMINE INBOX")
	found := texts(must(t, c, "UID SEARCH ALL"))
	if err := c.Logout(); err != nil {
		t.Error(err)
	}
	return found
}

// A message's number, and the validity of numbers, outlive restarts and crashes.
func TestUIDsStay(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	for id := range 10 {
		oneText(t, n, a, id)
	}
	state := func() string {
		c := logIn(t, n, a)
		defer c.Logout()
		return texts(must(t, c, "STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)")) + texts(must(t, c, "EXAMINE INBOX")) +
			texts(must(t, c, "UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"))
	}
	if err := os.Remove(files(t, a.Home)[3]); err != nil {
		t.Fatal(err)
	}
	before := state()
	n.Stop()
	n.Start()
	if after := state(); after != before {
		t.Errorf("before the restart\n%safter\n%s", before, after)
	}
	n.Kill()
	n.Start()
	if after := state(); after != before {
		t.Errorf("before the crash\n%safter\n%s", before, after)
	}
}
