package imap

import (
	"strings"
	"testing"
)

func TestThinnestWay(t *testing.T) {
	w := newWorld(t)
	for n := range 3 {
		w.deliver("", testMessage(n+1), "")
	}
	c := w.login()
	c.gives(`LIST "" "*"`, `* LIST (\HasNoChildren) "/" INBOX`)
	c.gives("SELECT INBOX", "* 3 EXISTS", "* 3 RECENT", "[UNSEEN 1]", "[UIDVALIDITY 1764000000]", "[UIDNEXT 4]",
		`* FLAGS (\Draft \Flagged $Forwarded \Answered \Seen \Deleted)`, `PERMANENTFLAGS (\Draft \Flagged $Forwarded \Answered \Seen \Deleted \*)`)
	text := testMessage(2)
	c.gives("FETCH 2 BODY.PEEK[]", text)
	c.gives("FETCH 2 (UID FLAGS RFC822.SIZE)", `* 2 FETCH (UID 2 FLAGS (\Recent) RFC822.SIZE `)
	c.gives("FETCH 2 BODY[]", `FLAGS (\Seen \Recent)`)
	if names := strings.Join(w.names(""), " "); strings.Count(names, ":2,S") != 1 || strings.Count(names, "new/") != 2 {
		t.Errorf("files after reading one: %s", names)
	}
	untagged := c.ok("LOGOUT")
	if !contains(untagged, "* BYE") {
		t.Errorf("no BYE: %q", untagged)
	}
	c.closed()
	<-w.logins.open[0].closed
}
