package test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-maildir"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// The mount is a maildir to a library that knows nothing of it: what it does shows in IMAP, and what IMAP does shows to it.
func TestGoMaildir(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	home := maildir.Dir(a.Home)
	sent := oneText(t, n, a, 1)
	n.Unlock(a)

	// Delivered by the library as well: both are new, and move to cur/ when they are looked at.
	raw := message.Text(2, 5000)
	d, err := maildir.NewDelivery(a.Home)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	before := uids(t, n, a)
	if count, err := home.UnseenCount(); err != nil || count != 2 {
		t.Errorf("%d messages in new/, %v", count, err)
	}
	unseen, err := home.Unseen()
	if err != nil || len(unseen) != 2 {
		t.Fatal(unseen, err)
	}
	if after := uids(t, n, a); after != before {
		t.Errorf("UIDs before the move to cur/: %s, after: %s", before, after)
	}
	c := logIn(t, n, a)
	must(t, c, "SELECT INBOX")

	// Flags, from either side.
	for _, m := range unseen {
		if err := m.SetFlags([]maildir.Flag{maildir.FlagSeen, maildir.FlagFlagged}); err != nil {
			t.Fatal(err)
		}
	}
	for number := range unseen {
		showsFlags(t, n, c, number+1, `\Flagged \Seen`)
	}
	must(t, c, `STORE 1 +FLAGS (\Answered keyword)`)
	m, err := home.MessageByKey(unseen[0].Key())
	if err != nil {
		t.Fatal(err)
	}
	other, err := home.MessageByKey(unseen[1].Key())
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(other.Flags(), maildir.FlagReplied) { // the library lists in no order
		m, other = other, m
	}
	if got := string(m.Flags()); got != "FRSa" {
		t.Errorf("flags of the message that IMAP marked: %q", got)
	}
	if got := string(other.Flags()); got != "FS" {
		t.Errorf("flags of the other: %q", got)
	}
	if stored := octetsOf(t, m); !bytes.HasSuffix(stored, sent) {
		t.Errorf("what came by LMTP is read as %d octets, %d were sent", len(stored), len(sent))
	}
	if !bytes.Equal(octetsOf(t, other), raw) {
		t.Error("what the library delivered is read otherwise")
	}

	// Into a folder of IMAP's, by both ways, and away.
	must(t, c, "CREATE Kept")
	kept := maildir.Dir(a.Home + "/.Kept")
	copied, err := other.CopyTo(kept)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(octetsOf(t, copied), raw) {
		t.Error("the copy is read otherwise")
	}
	if err := m.MoveTo(kept); err != nil {
		t.Fatal(err)
	}
	if got := texts(must(t, c, "STATUS Kept (MESSAGES UIDNEXT)")); !strings.Contains(got, "MESSAGES 2 UIDNEXT 3") {
		t.Errorf("after a copy and a move: %s", got)
	}
	if err := other.Remove(); err != nil {
		t.Fatal(err)
	}
	n.Eventually("INBOX is empty", func() bool { return strings.Contains(texts(must(t, c, "STATUS INBOX (MESSAGES)")), "MESSAGES 0") })
	if all, err := kept.Messages(); err != nil || len(all) != 2 {
		t.Errorf("%d messages in the folder, %v", len(all), err)
	}
	n.Fsck()
}

// showsFlags awaits that IMAP tells of a message's flags.
func showsFlags(t *testing.T, n *node.Node, c *client.IMAP, number int, flags string) {
	t.Helper()
	want := fmt.Sprintf("* %d FETCH (FLAGS (%s))", number, flags)
	n.Eventually(want, func() bool { return strings.Contains(texts(must(t, c, "FETCH %d (FLAGS)", number)), want) })
}

func octetsOf(t *testing.T, m *maildir.Message) []byte {
	t.Helper()
	r, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
