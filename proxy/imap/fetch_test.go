package imap

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"mailraft/proxy/maildir"
)

const nested = "From: \"Bob, B.\" <bob@example.net>\r\nTo: alice@example.org\r\nSubject: =?iso-8859-1?q?caf=E9?=\r\n" +
	"Date: Tue, 03 Jan 2006 15:04:05 +0000\r\nMessage-ID: <n@example.net>\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=\"outer\"\r\n\r\n" +
	"preamble\r\n--outer\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"Gr=FC=DFe\r\n--outer\r\nContent-Type: message/rfc822\r\n\r\n" +
	"From: carol@example.com\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n" +
	"--inner\r\n\r\nplain text\r\n--inner\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n--inner--\r\n" +
	"--outer\r\nContent-Type: application/octet-stream; name=x.bin\r\nContent-Transfer-Encoding: base64\r\n" +
	"Content-Disposition: attachment; filename=x.bin\r\n\r\nAAEC\r\nAwQ=\r\n--outer--\r\nepilogue\r\n"

func TestFetchSections(t *testing.T) {
	w := newWorld(t)
	w.deliver("", nested, "S")
	c := w.selected("INBOX")
	body := func(item, want string) {
		t.Helper()
		c.gives("FETCH 1 BODY.PEEK["+item+"]", fmt.Sprintf("* 1 FETCH (BODY[%s] {%d}\r\n%s)", item, len(want), want))
	}
	body("", nested)
	header, text, _ := strings.Cut(nested, "\r\n\r\n")
	body("HEADER", header+"\r\n\r\n")
	body("TEXT", text)
	body("1", "Gr=FC=DFe")
	body("1.MIME", "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	body("2.HEADER", "From: carol@example.com\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n")
	body("2.1", "plain text")
	body("2.2", "<b>html</b>")
	body("2.2.MIME", "Content-Type: text/html\r\n\r\n")
	body("2.TEXT", "--inner\r\n\r\nplain text\r\n--inner\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n--inner--")
	body("3", "AAEC\r\nAwQ=")
	body("4", "")
	body("1.1", "")
	body("2.3", "")
	c.gives(`FETCH 1 BODY.PEEK[HEADER.FIELDS (subject "DATE" X-None)]`,
		"Subject: =?iso-8859-1?q?caf=E9?=\r\nDate: Tue, 03 Jan 2006 15:04:05 +0000\r\n\r\n)")
	c.gives(`FETCH 1 BODY.PEEK[2.HEADER.FIELDS.NOT (From)]`, "\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n)")
	c.gives("FETCH 1 BODY.PEEK[]<5.10>", "BODY[]<5> {10}\r\n"+nested[5:15])
	c.gives("FETCH 1 BODY.PEEK[]<99999.10>", "BODY[]<99999> {0}\r\n")
	c.gives("FETCH 1 BODY.PEEK[TEXT]<0.4>", "BODY[TEXT]<0> {4}\r\nprea")
	c.gives("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.7>", "{7}\r\nSubject")
	c.gives("FETCH 1 BINARY.PEEK[3]", "BINARY[3] ~{5}\r\n\x00\x01\x02\x03\x04")
	c.gives("FETCH 1 BINARY.SIZE[3]", "BINARY.SIZE[3] 5")
	c.gives("FETCH 1 BINARY.PEEK[1]<2.3>", "{3}\r\n\xfc\xdfe")
	c.gives("FETCH 1 RFC822.HEADER", "RFC822.HEADER {")
	c.gives("FETCH 1 (RFC822.SIZE ENVELOPE)", fmt.Sprintf("RFC822.SIZE %d ENVELOPE (", len(nested)))
	c.gives("FETCH 1 ENVELOPE", `"Tue, 03 Jan 2006 15:04:05 +0000" "=?utf-8?q?caf=C3=A9?=" (("Bob, B." NIL "bob" "example.net"))`)
	c.gives("FETCH 1 BODYSTRUCTURE",
		`(("text" "plain" ("charset" "iso-8859-1") NIL NIL "quoted-printable" 9 0 NIL NIL NIL NIL)`+
			`("message" "rfc822" NIL NIL NIL "7bit" `)
	c.gives("FETCH 1 BODY", `("application" "octet-stream" ("name" "x.bin") NIL NIL "base64" 10) "mixed")`)
	c.gives("FETCH 1 FULL", "ENVELOPE")
	c.gives("FETCH 1 INTERNALDATE", `INTERNALDATE "`)
}

func TestFetchPlainMessage(t *testing.T) {
	w := newWorld(t)
	text := testMessage(7)
	w.deliver("", text, "")
	c := w.login()
	c.ok("EXAMINE INBOX")
	header, body, _ := strings.Cut(text, "\r\n\r\n")
	c.gives("FETCH 1 (BODY[1] BODY[1.MIME] BODY[TEXT])", body)
	c.gives("FETCH 1 BODY[1.MIME]", header)
	c.gives("FETCH 1 BODYSTRUCTURE", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 20 1 NIL NIL NIL NIL)`)
	if names := w.names(""); !strings.HasPrefix(names[0], "new/") {
		t.Errorf("EXAMINE marked it as seen: %q", names)
	}
}

// Files of other software may have bare LFs, and no sizes in their names.
func TestFetchBareLF(t *testing.T) {
	w := newWorld(t)
	lf := strings.ReplaceAll(nested, "\r\n", "\n")
	for n, text := range []string{lf, strings.Repeat("x", 300_000) + "\n" + lf} {
		if err := os.WriteFile(fmt.Sprintf("%s/cur/17640000%02d.foreign.host:2,S", w.home, n), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.deliver("", lf, "S") // its name tells both sizes
	c := w.selected("INBOX")
	large := strings.Repeat("x", 300_000) + "\r\n" + nested
	c.gives("FETCH 1:* RFC822.SIZE", fmt.Sprint("SIZE ", len(nested)), fmt.Sprint("SIZE ", len(large)), fmt.Sprint("SIZE ", len(nested)))
	c.gives("FETCH 1:* BODY.PEEK[]", nested, large, nested)
	c.gives("FETCH 2 BODY.PEEK[]<299999.6>", "{6}\r\nx\r\nFro")
	c.gives("FETCH 1,3 BODY.PEEK[2.1]", "{10}\r\nplain text", "{10}\r\nplain text")
}

// STATUS SIZE is not below the sum of RFC822.SIZE, whoever wrote the messages.
func TestStatusSize(t *testing.T) {
	w := newWorld(t)
	w.deliver("", "a\nb\n", "S") // its name tells W=6
	for _, name := range []string{"foreign", "foreign,S=9"} {
		if err := writeFile(w.home+"/cur/"+name+":2,T", "\n\n\na\n"); err != nil {
			t.Fatal(err)
		}
	}
	c := w.selected("INBOX")
	c.gives("FETCH 1:* RFC822.SIZE", "SIZE", "SIZE", "SIZE")
	got := strings.Join(c.ok("STATUS INBOX (SIZE DELETED-STORAGE)"), " ")
	var size, deleted int
	if _, err := fmt.Sscanf(got, "* STATUS INBOX (SIZE %d DELETED-STORAGE %d)", &size, &deleted); err != nil || size < 6+9+9 || deleted < 9+9 {
		t.Errorf("STATUS: %s, %v", got, err)
	}
}

func TestFetchLarge(t *testing.T) {
	w := newWorld(t)
	large := testMessage(1) + strings.Repeat("0123456789abcdef\r\n", 200_000)
	w.deliver("", large, "S")
	c := w.selected("INBOX")
	c.gives("FETCH 1 BODY.PEEK[]", large)
	c.gives("FETCH 1 BODY.PEEK[TEXT]", "message 1.\r\n0123456789abcdef")
	c.gives("FETCH 1 BODY.PEEK[]<3000000.20>", "{20}\r\n"+large[3000000:3000020])
	c.gives("FETCH 1 BODY.PEEK[HEADER]", "Subject: number 1")
	c.gives("FETCH 1 BODYSTRUCTURE", `"7bit" 3600020 200001`)
}

func TestNumberSets(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		w.deliver("", testMessage(n+1), "S")
	}
	c := w.selected("INBOX")
	c.ok("STORE 2,4 +FLAGS.SILENT \\Deleted")
	c.ok("EXPUNGE") // UIDs 1 3 5
	for set, want := range map[string]int{
		"1": 1, "1:3": 3, "*": 1, "1:*": 3, "3:1": 3, "2:*": 2, "*:2": 2, "9": 0, "9:*": 1, "1,1,1": 1, "1,3,2": 3, "*,1": 2, "*,1:*": 3,
	} {
		if got := c.ok("FETCH " + set + " UID"); len(got) != want {
			t.Errorf("FETCH %s: %q", set, got)
		}
	}
	for set, want := range map[string]int{
		"1": 1, "2": 0, "1:5": 3, "*": 1, "2:4": 1, "6:*": 1, "100:*": 1, "4:*": 1, "*:4": 1, "5:1": 3, "4294967295": 0, "1:4294967295": 3,
	} {
		if got := c.ok("UID FETCH " + set + " FLAGS"); len(got) != want {
			t.Errorf("UID FETCH %s: %q", set, got)
		}
	}
}

// Somebody renames or removes the file between our look at the index and our reading it.
func TestFetchRenamedUnderUs(t *testing.T) {
	w := newWorld(t)
	one := w.deliver("", testMessage(1), "")
	two := w.deliver("", testMessage(2), "")
	c := w.selected("INBOX")
	if err := os.Rename(one, strings.Replace(one, "/new/", "/cur/", 1)+":2,F"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(two); err != nil {
		t.Fatal(err)
	}
	c.gives("FETCH 1 BODY.PEEK[]", testMessage(1), `FLAGS (\Flagged \Recent)`)
	c.fails("FETCH 2 BODY.PEEK[]", "NO [EXPUNGEISSUED]")
	c.fails("FETCH 1:2 BODY.PEEK[]", "NO [EXPUNGEISSUED]")
	c.gives("UID FETCH 2 BODY.PEEK[]", "* 2 EXPUNGE") // a UID promised nothing
	c.ok("STORE 1 +FLAGS \\Seen")
}

// A message whose name lies about its size must not shift what follows on the wire.
func TestLyingSizes(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"1764000000.a.host,S=5,W=5:2,S", "1764000001.b.host,S=500,W=501:2,S", "1764000002.c.host,W=99999999:2,S"} {
		if err := os.WriteFile(w.home+"/cur/"+name, []byte(testMessage(1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := w.selected("INBOX")
	c.gives("FETCH 1:* BODY.PEEK[]", testMessage(1), testMessage(1), testMessage(1))
	c.ok("NOOP")
}

// Text of messages must never be taken for the library's own answers.
func TestAnswersInMessages(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxBadCommands = 3 })
	lines := "Subject: x\r\n\r\n"
	for n := range 400 {
		lines += fmt.Sprintf("t%d BAD x\r\n+ idling\r\nt%d NO [SERVERBUG] Internal server error\r\n", n%40, n%40)
	}
	var texts []string
	for n := range 30 {
		texts = append(texts, lines[:4080+n])
		w.deliver("", texts[n], "S")
	}
	texts = append(texts, lines)
	w.deliver("", lines, "S")
	c := w.selected("INBOX")
	for n, text := range texts {
		c.gives(fmt.Sprintf("FETCH %d BODY.PEEK[]", n+1), text)
	}
	c.ok("NOOP")
}

func TestErrors(t *testing.T) {
	s := &session{log: newWorld(t).server.cfg.Logger, ctx: t.Context()}
	for err, want := range map[error]string{
		&os.PathError{Err: syscall.ENOKEY}:       "NO [UNAVAILABLE]",
		&os.PathError{Err: syscall.EDQUOT}:       "NO [OVERQUOTA]",
		&os.LinkError{Err: syscall.EIO}:          "NO [UNAVAILABLE]",
		&os.PathError{Err: syscall.ENOSPC}:       "NO [UNAVAILABLE]",
		&os.PathError{Err: syscall.ETIMEDOUT}:    "NO [UNAVAILABLE]",
		&os.PathError{Err: syscall.EACCES}:       "NO [NOPERM]",
		&os.PathError{Err: syscall.ENOENT}:       "NO [NONEXISTENT]",
		&os.PathError{Err: syscall.EEXIST}:       "NO [ALREADYEXISTS]",
		maildir.ErrFolderName:                    "NO [CANNOT]",
		&os.PathError{Err: syscall.EXDEV}:        "NO [SERVERBUG]",
		no("LIMIT", "as it is"):                  "NO [LIMIT]",
		maildir.ErrIndex:                         "NO [SERVERBUG]",
		&os.PathError{Err: syscall.ENOTEMPTY}:    "NO [INUSE]",
		&os.PathError{Err: syscall.ENAMETOOLONG}: "NO [CANNOT]",
	} {
		if got := s.failed("test", err).Error(); !strings.HasPrefix(got, "imap: "+want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}
