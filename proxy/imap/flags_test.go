package imap

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var longAgo = time.Unix(1_000_000_000, 0)

func TestStore(t *testing.T) {
	w := newWorld(t)
	for n := range 3 {
		w.deliver("", testMessage(n+1), "")
	}
	c := w.selected("INBOX")
	c.gives(`STORE 1 +FLAGS (\Seen \Flagged)`, `* 1 FETCH (FLAGS (\Flagged \Seen \Recent))`)
	c.gives(`UID STORE 1 -FLAGS \Flagged`, `* 1 FETCH (UID 1 FLAGS (\Seen \Recent))`)
	c.gives(`STORE 1 FLAGS (\Answered $Forwarded)`, `* 1 FETCH (FLAGS ($Forwarded \Answered \Recent))`)
	if got := c.ok(`STORE 2:3 +FLAGS.SILENT (\Deleted)`); len(got) != 0 {
		t.Errorf("silent: %q", got)
	}
	names := strings.Join(w.names(""), "\n")
	if !strings.Contains(names, ":2,PR") || strings.Count(names, ":2,T") != 2 || strings.Contains(names, "new/") {
		t.Errorf("files:\n%s", names)
	}
	if got := c.ok(`STORE 9 +FLAGS \Seen`); len(got) != 0 {
		t.Errorf("no such message: %q", got)
	}
	c.gives(`STORE 1 +FLAGS (\Recent)`, `FLAGS ($Forwarded \Answered \Recent)`)
	c.fails(`STORE 1 +FLAGS (\Nonsense)`, "BAD")
	c.fails(`STORE 1 +X (\Seen)`, "BAD")
}

// Reading a message takes none of the flags away that it got meanwhile.
func TestMarkSeenKeepsFlags(t *testing.T) {
	w := newWorld(t)
	path := w.deliver("", testMessage(1), "R")
	w.selected("INBOX")
	s := w.onlySession()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Rename(path, path+"F"); err != nil { // written by somebody else behind the back of the view
		t.Fatal(err)
	}
	if err := s.markSeen(0); err != nil {
		t.Fatal(err)
	}
	if names := w.names(""); len(names) != 1 || !strings.HasSuffix(names[0], ":2,FRS") {
		t.Errorf("files: %v", names)
	}
}

// A flag that the client saw, and somebody has taken away since, is set again.
func TestStoreKnowsOfChanges(t *testing.T) {
	w := newWorld(t)
	path := w.deliver("", testMessage(1), "S")
	c := w.selected("INBOX")
	if err := os.Rename(path, strings.TrimSuffix(path, "S")); err != nil {
		t.Fatal(err)
	}
	w.onlySession().markStale()
	c.gives(`STORE 1 +FLAGS \Seen`, `FLAGS (\Seen)`)
	if names := w.names(""); len(names) != 1 || !strings.HasSuffix(names[0], ":2,S") {
		t.Errorf("files: %v", names)
	}
}

func TestKeywords(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "")
	c := w.selected("INBOX")
	c.gives(`STORE 1 +FLAGS (NonJunk $Label1)`, `FLAGS (NonJunk $Label1 \Recent)`)
	if got := mustReadFile(t, w.home+"/dovecot-keywords"); got != "0 NonJunk\n1 $Label1\n" {
		t.Errorf("file: %q", got)
	}
	if names := w.names(""); !strings.HasSuffix(names[0], ":2,ab") {
		t.Errorf("files: %q", names)
	}
	c.gives(`STORE 1 -FLAGS (nonjunk Unknown)`, `FLAGS ($Label1 \Recent)`)
	c.gives("SEARCH KEYWORD $label1", "* SEARCH 1")
	c.gives("SEARCH UNKEYWORD nothing", "* SEARCH 1")
	c.gives("SEARCH KEYWORD nothing", "* SEARCH")

	// Another session learns of them.
	c2 := w.login()
	c2.gives("SELECT INBOX", "FLAGS", "NonJunk $Label1")
	c.ok("STORE 1 +FLAGS (Later)")
	c2.gives("NOOP", `* 1 FETCH (UID 1 FLAGS ($Label1 Later))`)

	var many []string
	for n := range 30 {
		many = append(many, fmt.Sprintf("k%d", n))
	}
	c.fails("STORE 1 +FLAGS ("+strings.Join(many, " ")+")", "NO [LIMIT]")
	c.ok("STORE 1 +FLAGS (" + strings.Join(many[:23], " ") + ")")
	if got := c.ok("SELECT INBOX"); contains(got, `\*`) {
		t.Errorf("more keywords promised: %q", got)
	}

	// They go along when a message does, with whatever letters they have there.
	w.mkdir(".Other")
	if err := os.WriteFile(w.home+"/.Other/dovecot-keywords", []byte("0 Mine\n3 $Label1\nnonsense\n99 x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ok("STORE 1 FLAGS ($Label1 \\Seen)")
	c.ok("COPY 1 Other")
	if names := w.names(".Other"); len(names) != 1 || !strings.HasSuffix(names[0], ":2,Sd") {
		t.Errorf("copied: %q", names)
	}
}

// A keyword that came with new mail from another session can be searched for.
func TestSearchForNewKeyword(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "")
	c, other := w.selected("INBOX"), w.login()
	other.ok("APPEND INBOX (Fresh) {3+}\r\nabc")
	c.gives("NOOP", "* 2 EXISTS")
	c.gives("SEARCH NOT (NOT KEYWORD fresh)", "* SEARCH 2")
	other.ok("APPEND INBOX (Fresher) {3+}\r\nabc")
	c.gives("NOOP", "* 3 EXISTS")
	c.gives("SEARCH UNKEYWORD Fresher", "* SEARCH 1 2")
}

// Of a message's keywords, one that finds no letter where it goes does not cost it the others.
func TestCopyToFullKeywords(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "Sab")
	w.mkdir(".Other")
	var all strings.Builder
	for n := range 25 {
		fmt.Fprintf(&all, "%d k%d\n", n, n)
	}
	for path, text := range map[string]string{"/dovecot-keywords": "0 New\n1 $Label1\n", "/.Other/dovecot-keywords": all.String() + "25 $Label1\n"} {
		if err := writeFile(w.home+path, text); err != nil {
			t.Fatal(err)
		}
	}
	w.selected("INBOX").ok("COPY 1 Other")
	if names := w.names(".Other"); len(names) != 1 || !strings.HasSuffix(names[0], ":2,Sz") {
		t.Errorf("copied: %v", names)
	}
}

// Letters of other software survive our renames.
func TestForeignFlagLetters(t *testing.T) {
	w := newWorld(t)
	path := w.deliver("", testMessage(1), "S")
	if err := os.Rename(path, path+"XY"); err != nil {
		t.Fatal(err)
	}
	c := w.selected("INBOX")
	c.gives(`STORE 1 +FLAGS \Flagged`, `FLAGS (\Flagged \Seen)`)
	if names := w.names(""); !strings.HasSuffix(names[0], ":2,FSXY") {
		t.Errorf("files: %q", names)
	}
}

func TestReadOnly(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "T")
	c := w.login()
	c.gives("EXAMINE INBOX", "PERMANENTFLAGS ()")
	c.fails(`STORE 1 +FLAGS \Seen`, "NO [NOPERM]")
	c.fails("EXPUNGE", "NO [NOPERM]")
	c.fails("UID EXPUNGE 1", "NO [NOPERM]")
	w.mkdir(".Other")
	c.fails("MOVE 1 Other", "NO [NOPERM]")
	c.ok("FETCH 1 BODY[]")
	c.ok("CLOSE")
	if names := w.names(""); len(names) != 1 || !strings.HasSuffix(names[0], ":2,T") {
		t.Errorf("EXAMINE changed something: %q", names)
	}
	c.ok("SELECT INBOX")
	c.ok("UNSELECT")
	if len(w.names("")) != 1 {
		t.Error("UNSELECT expunged")
	}
	c.ok("SELECT INBOX")
	if got := c.ok("CLOSE"); len(got) != 0 || len(w.names("")) != 0 {
		t.Errorf("CLOSE: %q, left %q", got, w.names(""))
	}
}

// What is not UTF-8 in a message does not get into strings that have to be (RFC 6855, 3).
func TestEnabledUTF8IsValid(t *testing.T) {
	w := newWorld(t)
	w.deliver("", "From: caf\xe9 <caf\xe9@caf\xe9.example>\r\nTo: broken caf\xe9@x, \xff\r\nMessage-ID: <\xe9@x>\r\nIn-Reply-To: <\xe8@x>\r\n"+
		"Subject: caf\xe9\r\nContent-Type: multipart/m\xefxed; boundary=b; x=caf\xe9; caf\xe9=x; z*=utf-8''%FF\r\n\r\n--b\r\n"+
		"Content-Type: text/pl\xe4in; charset=caf\xe9\r\nContent-ID: caf\xe9\r\nContent-Description: caf\xe9\r\n"+
		"Content-Transfer-Encoding: caf\xe9\r\nContent-Disposition: caf\xe9; filename=caf\xe9; name*=utf-8''%E9\r\nContent-Language: caf\xe9\r\n"+
		"Content-Location: caf\xe9\r\nContent-MD5: caf\xe9\r\n\r\nx\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: caf\xe9@x\r\n\r\nx\r\n--b--\r\n", "S")
	c := w.login()
	c.ok("ENABLE UTF8=ACCEPT")
	c.ok("SELECT INBOX")
	got := strings.Join(c.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY)"), "")
	if !strings.Contains(got, "caf\uFFFD") || !utf8.ValidString(got) {
		t.Errorf("%q", got)
	}
}

func TestEnable(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "")
	c := w.login()
	c.gives("ENABLE CONDSTORE IMAP4rev2", "* ENABLED IMAP4rev2")
	c.gives("SELECT INBOX", "* LIST")
	c.gives("SEARCH ALL", "* ESEARCH (TAG ")
	c.fails("ENABLE UTF8=ACCEPT", "BAD") // RFC 5161, 3.1
}
