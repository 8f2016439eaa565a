package smtp

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
	"golang.org/x/sys/unix"

	"mailraft/proxy"
	"mailraft/proxy/maildir"
)

const letter = "Subject: hello\r\n\r\nHello.\r\n"

// send sends a letter by the client library and returns its error.
func send(t testing.TB, address string, from string, opts *gosmtp.MailOptions, to ...string) error {
	t.Helper()
	c, err := gosmtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Mail(from, opts); err != nil {
		return err
	}
	for _, r := range to {
		if err := c.Rcpt(r, nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(letter)); err != nil {
		return err
	}
	return w.Close()
}

func TestTraceLines(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	_, address := run(t, Config{}, h)
	if err := send(t, address, "se.n..der@example.com", nil, "alice+x@example.org"); err != nil {
		t.Fatal(err)
	}
	got := h.messages(t, "alice@example.org", "")
	want := regexp.MustCompile(`^Return-Path: <"se.n..der"@example.com>\r\nDelivered-To: alice@example.org\r\n` +
		`Received: from localhost \(\[127\.0\.0\.1\]\)\r\n\tby mx.example.org with ESMTP id [0-9a-f]{16}\r\n` +
		`\tfor <alice\+x@example.org>;\r\n\t(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n` +
		regexp.QuoteMeta(letter) + "$")
	if len(got) != 1 || !want.MatchString(got[0]) {
		t.Errorf("%q", got)
	}
}

// What stands behind "with" (RFC 3848; RFC 6531, 4.3).
func TestProtocolName(t *testing.T) {
	for _, c := range []struct {
		lmtp, extended, utf8, encrypted, authenticated bool
		want                                           string
	}{
		{false, false, false, false, false, "SMTP"},
		{false, true, false, false, false, "ESMTP"},
		{false, true, false, true, false, "ESMTPS"},
		{false, true, true, false, false, "UTF8SMTP"},
		{false, true, true, true, false, "UTF8SMTPS"},
		{false, true, false, false, true, "ESMTPA"},
		{false, true, false, true, true, "ESMTPSA"},
		{false, true, true, true, true, "UTF8SMTPSA"},
		{false, false, false, true, true, "SMTP"},
		{true, true, false, false, false, "LMTP"},
		{true, true, false, true, false, "LMTPS"},
		{true, true, true, false, false, "UTF8LMTP"},
		{true, true, true, true, false, "UTF8LMTPS"},
	} {
		if got := protocolName(c.lmtp, c.extended, c.utf8, c.encrypted, c.authenticated); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// Trace lines too long for the headroom are written all the same.
func TestLongTraceLines(t *testing.T) {
	home := newHouse(t, "a").home("a")
	long := bytes.Repeat([]byte("X: y\r\n"), headroom)
	c := &copyFor{home: home, trace: long}
	transfer := newTransfer([]*copyFor{c}, true, 1<<20)
	transfer.write([]byte(letter))
	if refusal := transfer.finish(); refusal != nil || c.err != nil {
		t.Fatal(refusal, c.err)
	}
	paths, _ := filepath.Glob(home + "/new/*")
	if text, err := os.ReadFile(paths[0]); err != nil || string(text) != string(long)+letter {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestUTF8Address(t *testing.T) {
	h := newHouse(t, "ünïcode@example.org")
	_, address := run(t, Config{}, h)
	if err := send(t, address, "jürgen@müller.example", &gosmtp.MailOptions{UTF8: true}, "ünïcode@example.org"); err != nil {
		t.Fatal(err)
	}
	got := h.messages(t, "ünïcode@example.org", "")
	if len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: <jürgen@müller.example>\r\n") || !strings.Contains(got[0], " with UTF8SMTP id ") {
		t.Errorf("%q", got)
	}
}

func TestPlusAddress(t *testing.T) {
	h := newHouse(t, "alice@example.org", "bob@example.org")
	h.aliases["both@example.org"] = []string{"alice@example.org", "bob@example.org"}
	for _, folder := range []string{".lists", ".lists.go"} {
		for _, a := range []string{"alice@example.org", "bob@example.org"} {
			if err := maildir.CreateFolder(h.home(a), folder); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, address := run(t, Config{}, h)
	for _, to := range []string{"alice+lists@example.org", "alice+lists.go@example.org", "alice+none@example.org",
		"alice+@example.org", "alice+../bob@example.org", "alice+/../../bob@example.org", "both+lists@example.org"} {
		if err := send(t, address, "a@example.com", nil, to); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	for folder, want := range map[string]int{".lists": 1, ".lists.go": 1, "": 5} {
		if got := h.bodies(t, "alice@example.org", folder); len(got) != want {
			t.Errorf("folder %q: %q", folder, got)
		}
	}
	h.wantBodies(t, "bob@example.org", letter)
}

// A folder that goes between RCPT and DATA does not take the message with it.
func TestFolderRemoved(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	home := h.home("alice@example.org")
	if err := maildir.CreateFolder(home, ".lists"); err != nil {
		t.Fatal(err)
	}
	_, address := run(t, Config{}, h)
	c := dial(t, address)
	c.envelope("alice+lists@example.org")
	if err := maildir.DeleteFolder(home, ".lists"); err != nil {
		t.Fatal(err)
	}
	c.dialogue("C: DATA\nS: 354\nC: a\nC: .\nS: 250 2.0.0")
	h.wantBodies(t, "alice@example.org", "a\r\n")
}

// Every mailbox gets one copy, with its own trace lines and without a word about the others.
func TestSeveralRecipients(t *testing.T) {
	h := newHouse(t, "alice@example.org", "bob@example.org", "carol@example.org", "dan@example.org")
	h.aliases["team@example.org"] = []string{"alice@example.org", "bob@example.org", "carol@example.org"}
	_, address := run(t, Config{}, h)
	large := strings.Repeat("0123456789abcd\r\n", 30_000)
	for _, text := range []string{"small\r\n", large} {
		c := dial(t, address)
		c.envelope("alice@example.org", "team@example.org", "alice@example.org", "bob+x@example.org")
		c.dialogue("C: DATA\nS: 354")
		c.send(text + ".\r\n")
		c.expect("250 2.0.0")
	}
	for account, recipient := range map[string]string{
		"alice@example.org": "alice@example.org", "bob@example.org": "team@example.org", "carol@example.org": "team@example.org",
	} {
		h.wantBodies(t, account, large, "small\r\n")
		for _, text := range h.messages(t, account, "") {
			if !strings.Contains(text, "\r\nDelivered-To: "+account+"\r\n") || !strings.Contains(text, "\r\n\tfor <"+recipient+">;\r\n") {
				t.Errorf("%s: %.400q", account, text)
			}
		}
	}
	h.wantBodies(t, "dan@example.org")
}

// SMTP: a mailbox that cannot be written keeps all copies back; one that cannot be linked is told by the reply.
func TestOneMailboxFails(t *testing.T) {
	for _, missing := range []string{"tmp", "new"} {
		for _, text := range []string{"small\r\n", strings.Repeat("0123456789abcd\r\n", 30_000)} {
			h := newHouse(t, "alice@example.org", "bob@example.org", "carol@example.org")
			if err := os.Remove(filepath.Join(h.home("bob@example.org"), missing)); err != nil {
				t.Fatal(err)
			}
			_, address := run(t, Config{}, h)
			c := dial(t, address)
			c.envelope("alice@example.org", "bob@example.org", "carol@example.org")
			c.dialogue("C: DATA\nS: 354")
			c.send(text + ".\r\n")
			c.expect("451 4.3.0")
			c.dialogue("C: NOOP\nS: 250 2.0.0")
			var want []string
			if missing == "new" {
				want = []string{text}
			}
			h.wantBodies(t, "alice@example.org", want...)
			h.wantBodies(t, "carol@example.org", want...)
		}
	}
}

func TestStoreReply(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.EDQUOT: "452 4.2.2 ", unix.ENOSPC: "452 4.3.1 ", unix.EFBIG: "552 5.3.4 ",
		unix.EIO: "451 4.3.0 ", unix.ETIMEDOUT: "451 4.3.0 ", unix.ENOENT: "451 4.3.0 ", unix.EACCES: "451 4.3.0 ",
	} {
		got := storeReply(fmt.Errorf("delivery: %w", &os.LinkError{Op: "link", Err: errno})).append(nil)
		if !bytes.HasPrefix(got, []byte(want)) {
			t.Errorf("%v: %s", errno, got)
		}
	}
	if got := lookUpReply(fmt.Errorf("grpc: %w", proxy.ErrOverQuota)); got != replyOverQuota {
		t.Errorf("%v", got)
	}
}

// The addresses that are looked up: as they were given, without quoting.
func TestLookUpAddress(t *testing.T) {
	h := newHouse(t)
	_, address := run(t, Config{}, h)
	c := dial(t, address)
	c.envelope()
	for _, to := range []string{`Alice+A.b@Example.ORG`, `"alice"@example.org`, `"a\"b\\c d"@example.org`, `"a@b"@example.org`, `Postmaster`} {
		c.send("RCPT TO:<" + to + ">\r\n")
		c.expect("550 5.")
	}
	want := []string{`Alice+A.b@Example.ORG`, `alice@example.org`, `a"b\c d@example.org`, `a@b@example.org`, `Postmaster@mx.example.org`, `Postmaster`}
	if !slices.Equal(h.lookUp, want) {
		t.Errorf("%q", h.lookUp)
	}
}
