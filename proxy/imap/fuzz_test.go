package imap

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"mailraft/proxy/maildir"
)

// states are the ways into each state of a connection. RFC 9051, 3.
var states = []string{
	"", // not authenticated
	"L LOGIN " + testUser + ` "` + testPassword + "\"\r\n",
	"L LOGIN " + testUser + ` "` + testPassword + "\"\r\nS SELECT INBOX\r\n",
	"L LOGIN " + testUser + ` "` + testPassword + "\"\r\nS EXAMINE INBOX\r\n",
	"L LOGIN " + testUser + ` "` + testPassword + "\"\r\nS SELECT INBOX\r\nI IDLE\r\n",
	"L LOGIN " + testUser + ` "` + testPassword + "\"\r\nE ENABLE IMAP4rev2\r\nS SELECT INBOX\r\n",
	"A AUTHENTICATE PLAIN\r\n",
}

var commandSeeds = []string{
	"a NOOP\r\n", "a CAPABILITY\r\nb LOGOUT\r\n", "a LOGIN {3}\r\nabc {3}\r\nabc\r\n", "a AUTHENTICATE PLAIN =\r\n", "DONE\r\n",
	"a LIST (SUBSCRIBED) \"\" (% *) RETURN (STATUS (MESSAGES))\r\n", "a LSUB \"\" *\r\n", "a STATUS INBOX (MESSAGES SIZE)\r\n",
	"a CREATE x/y\r\nb RENAME x z\r\nc DELETE z/y\r\n", "a SUBSCRIBE x\r\n", "a APPEND INBOX (\\Seen x) {5+}\r\nhello\r\n",
	"a APPEND INBOX {5}\r\nhello {5}\r\n", "a FETCH 1:* (FLAGS UID BODY.PEEK[1.2.HEADER.FIELDS (A)]<0.5> BODYSTRUCTURE ENVELOPE)\r\n",
	"a UID FETCH *:1 (BINARY[1]<1.2> BINARY.SIZE[] RFC822.TEXT BODY[MIME])\r\n", "a STORE 1 +FLAGS.SILENT (\\Deleted k)\r\nb EXPUNGE\r\n",
	"a SEARCH RETURN (SAVE MIN) CHARSET UTF-8 OR (NOT SUBJECT {1+}\r\nx) BODY \"y\" SMALLER 5\r\nb FETCH $ FLAGS\r\n",
	"a UID SEARCH 1:5,* UNKEYWORD x SENTON 1-Jan-2000\r\n", "a COPY 1:* INBOX\r\nb UID MOVE 1 INBOX\r\n", "a CLOSE\r\n", "a UNSELECT\r\n",
	"a IDLE\r\nDONE\r\n", "a ENABLE UTF8=ACCEPT\r\n", "a ID NIL\r\n", "a NAMESPACE\r\n", "\x00\xff{1+}\r\n", "a FETCH {9999999999}\r\n", "a X {5000+}\r\n",
}

// FuzzCommands sends arbitrary bytes in each state: the server must answer or close, never panic, never hang.
func FuzzCommands(f *testing.F) {
	for state := range states {
		for _, seed := range commandSeeds {
			f.Add(uint8(state), []byte(seed))
		}
	}
	w := newWorld(f, func(c *Config) {
		c.TransferTimeout = 2 * time.Second
		c.IdleTimeout = 2 * time.Second
		c.MaxFailedLogins = 1000
	})
	f.Fuzz(func(t *testing.T, state uint8, input []byte) {
		if entries, err := os.ReadDir(w.home + "/cur"); err != nil || len(entries) > 20 { // COPY 1:* INBOX doubles it
			os.RemoveAll(w.home)
			if err := os.MkdirAll(w.home, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := maildir.CreateFolder(w.home, ""); err != nil {
				t.Fatal(err)
			}
		}
		name := fmt.Sprintf("%s/cur/1764000000.M1P1Q%dR0.host:2,", w.home, state)
		if err := writeFile(name, nested); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(15 * time.Second))
		go func() {
			io.WriteString(conn, states[int(state)%len(states)])
			conn.Write(input)
			conn.(*net.TCPConn).CloseWrite()
		}()
		answers, err := io.ReadAll(conn)
		if err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("hangs after %q", answers)
		}
		if log := w.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "unexpected failure") {
			t.Fatal(log)
		}
		for _, line := range bytes.Split(answers, []byte("\r\n")) {
			if bytes.Contains(line, []byte("SERVERBUG")) {
				t.Fatalf("%q", line)
			}
		}
	})
}

// hostile are messages that break parsers.
func hostile() []string {
	var deep strings.Builder
	for n := range 3000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", n, n)
	}
	return []string{
		"", "\r\n", "\r\n\r\n", "x", "no header at all\r\nin this one\r\n", ":\r\n", ": x\r\n\r\n", " folded first\r\n\r\n",
		"Subject: \x00\r\n\r\n\x00\x00", "Subject: a\rb\r\n\r\nbare\rCR\r\n", "Subject: \xff\xfe\r\nFrom: \xff <\xff@\xff>\r\n\r\n\xff",
		deep.String(), strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 3000),
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 3000),
		"Content-Type: multipart/mixed\r\n\r\n", "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n", "Content-Type: multipart/\r\n\r\n",
		"Content-Type: /\r\n\r\n", "Content-Type: message/rfc822", "Content-Type: text/plain; charset=\"\x00\"\r\n\r\nx",
		"Content-Type: text/plain; charset=nonsense\r\n\r\nx", "Content-Transfer-Encoding: nonsense\r\n\r\nx",
		"Content-Transfer-Encoding: base64\r\n\r\n====A===", "Content-Transfer-Encoding: quoted-printable\r\n\r\n=\r\n==ZZ=",
		"From: " + strings.Repeat("a@b,", 20000) + "\r\n\r\n", "From: " + strings.Repeat("(", 20000) + "\r\n\r\n",
		"From: " + strings.Repeat("<", 20000) + "\r\n\r\n", "Subject: " + strings.Repeat("=?utf-8?q?x?= ", 20000) + "\r\n\r\n",
		"Message-ID: <\r\n\r\n", "Message-ID: " + strings.Repeat("<a@b>", 5000) + "\r\n\r\n", "In-Reply-To: ((((\r\n\r\n", "Date: never\r\n\r\n",
		"Content-Disposition: ;;=;\r\nContent-Language: ,,,\r\nContent-ID: \"\\\r\n\r\n", strings.Repeat("x", 100_000), strings.Repeat("\n", 50_000),
		strings.Repeat("Received: x\r\n", 20_000) + "\r\nbody",
	}
}

// Every hostile message can be asked for everything, and the connection stays in step.
func TestHostileMessages(t *testing.T) {
	w := newWorld(t)
	messages := hostile()
	for i, text := range messages {
		name := fmt.Sprintf("%s/cur/%d.M%dP1Q%dR0.host:2,", w.home, 1764000000+i, i, i)
		if err := writeFile(name, text); err != nil {
			t.Fatal(err)
		}
	}
	c := w.selected("INBOX")
	for i, text := range messages {
		want := strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
		c.gives(fmt.Sprintf("FETCH %d (RFC822.SIZE BODY.PEEK[])", i+1), fmt.Sprintf("RFC822.SIZE %d BODY[] {%d}\r\n%s)", len(want), len(want), want))
		for _, item := range []string{
			"ENVELOPE", "BODYSTRUCTURE", "BODY", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[1.1.1.1.1.1]",
			"BODY.PEEK[999999999]", "BODY.PEEK[HEADER.FIELDS (From)]", "BODY.PEEK[1.HEADER]", "BINARY.SIZE[1]", "BODY.PEEK[]<1.1>", "BODY.PEEK[0]",
		} {
			got, answer := c.do(fmt.Sprintf("FETCH %d %s", i+1, item))
			if !strings.HasPrefix(answer, "OK") && !strings.HasPrefix(answer, "NO [UNKNOWN-CTE]") || len(got) > 1 {
				t.Errorf("message %d, %s: %s", i+1, item, answer)
			}
		}
	}
	c.gives("SEARCH OR (TEXT nothing-like-it) (OR SUBJECT x SENTSINCE 1-Jan-2000)", "* SEARCH")
	c.ok("SEARCH BODY x")
	c.ok("FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
}
