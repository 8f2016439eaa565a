package smtp

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// scriptedConn is a connection whose client says all it has to say, step bytes at a time, and then closes.
type scriptedConn struct {
	script []byte
	step   int
	out    bytes.Buffer
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	if len(c.script) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.script[:min(c.step, len(c.script))])
	c.script = c.script[n:]
	return n, nil
}

func (c *scriptedConn) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c *scriptedConn) Close() error                { return nil }
func (c *scriptedConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25}
}
func (c *scriptedConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
}
func (c *scriptedConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptedConn) SetWriteDeadline(time.Time) error { return nil }

var (
	replyLines = regexp.MustCompile(`^([2-5]\d\d[ -][^\r\n]*\r\n)+$`)
	replyID    = regexp.MustCompile(`Delivered as [0-9a-f]{16}`)
)

// hold serves one scripted connection and returns the replies, without their ids.
func hold(t *testing.T, s *Server, script []byte, step int) string {
	conn := &scriptedConn{script: script, step: step}
	newConn(s, conn).serve(false)
	out := conn.out.String()
	if !replyLines.MatchString(out) {
		t.Fatalf("replies %q", out)
	}
	return replyID.ReplaceAllString(out, "Delivered")
}

// take removes the messages of an account and returns them.
func take(t *testing.T, h *house, account string) []string {
	texts := h.messages(t, account, "")
	paths, err := filepath.Glob(h.home(account) + "/new/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

// What the server is, for the fuzzer.
const (
	asMX = uint8(iota)
	asLMTP
	asMSA
	modes
)

// FuzzSession: whatever a client sends, and however it is cut into packets, the replies are well-formed and the same, every
// positive reply to a message is one message in the mailbox, and nothing else is written anywhere.
func FuzzSession(f *testing.F) {
	const envelope = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n"
	for _, c := range dataCases {
		if len(c.wire) < 1000 {
			f.Add([]byte(envelope+"DATA\r\n"+c.wire+"QUIT\r\n"), uint8(3), asMX)
			f.Add([]byte(strings.Replace(envelope, "EHLO", "LHLO", 1)+"DATA\r\n"+c.wire+"NOOP\r\n"), uint8(3), asLMTP)
		}
	}
	f.Add([]byte(envelope+"BDAT 3\r\na\r\nBDAT 2 LAST\r\n\r\nRSET\r\n"), uint8(2), asMX)
	f.Add([]byte("LHLO a\r\nMAIL FROM:<b@example.com> SIZE=5 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<\"a\"+../x@example.org>\r\nBDAT 0 LAST\r\n"), uint8(1), asLMTP)
	f.Add([]byte("HELO [IPv6:::1]\r\nMAIL FROM:<@b:\"\\\"\"@c>\r\nVRFY x\r\nHELP\r\n\r\nSTARTTLS\r\n"), uint8(1), asMX)

	const message = "MAIL FROM:<a@example.org> AUTH=<>\r\nRCPT TO:<a@example.org>\r\nBDAT 25 LAST\r\nFrom: <a@example.org>\r\n\r\nQUIT\r\n"
	word, user := plain("", "a@example.org", testPassword), encoded("a@example.org")
	f.Add([]byte("EHLO a\r\nAUTH PLAIN "+word+"\r\n"+message), uint8(1), asMSA)
	f.Add([]byte("EHLO a\r\n"+message+"AUTH PLAIN\r\n*\r\nAUTH LOGIN "+user+"\r\n"+encoded(testPassword)+"\r\nAUTH PLAIN =\r\n"), uint8(7), asMSA)
	f.Add([]byte("EHLO a\r\nauth login\r\n"+user+"\r\n\r\nAUTH PLAIN\r\n"+strings.Repeat("A", 13000)+"\r\nAUTH PLAIN "+word+"\nMAIL\r\n"), uint8(200), asMSA)

	dir := f.TempDir()
	h := &house{dir: dir, aliases: map[string][]string{"a@example.org": {"a@example.org"}}}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(dir, "a@example.org", sub), 0o700); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, script []byte, step uint8, mode uint8) {
		logger := slog.New(slog.NewTextHandler(panicLog{t}, nil))
		cfg, lmtp := Config{}, mode%modes == asLMTP
		if mode%modes == asMSA {
			cfg = quick(&logins{})
		}
		cfg.LMTP, cfg.AllowPlaintextAuth, cfg.Hostname, cfg.Logger, cfg.MaxMessageBytes = lmtp, true, "mx", logger, 5000
		s := New(cfg, h)
		whole := hold(t, s, script, len(script)+1)
		first := take(t, h, "a@example.org")
		pieces := hold(t, s, script, int(step)+1)
		second := take(t, h, "a@example.org")
		if whole != pieces {
			t.Errorf("replies %q, cut into pieces %q", whole, pieces)
		}
		if len(first) != len(second) || !lmtp && len(first) != strings.Count(whole, "Delivered") {
			t.Errorf("%d and %d messages behind %q", len(first), len(second), whole)
		}
		for _, text := range append(first, second...) {
			withoutTrace(t, text)
		}
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				t.Errorf("%s was written", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

var ownOfA = regexp.MustCompile(`(?s)^a(\+.*)?@example\.org$`)

// FuzzSubmitted: whatever is submitted, what is delivered has an author, as another parser sees it, and all authors are the account's.
func FuzzSubmitted(f *testing.F) {
	for _, header := range []string{"From: a@example.org\r\n", "From: b@example.org\r\nFrom : a@example.org\r\n", "From: \"x\" <a@example.org>, we: a@example.org;\r\n",
		"Sender: a@example.org\nFrom: a@example.org, b@example.org\r\n", "from: =?x?q?a?= <b@example.org> (a@example.org)\r\nX\r\n", "\r\nFrom: a@example.org\r\n"} {
		f.Add(header + "\r\nbody\r\n")
	}
	h := &house{dir: f.TempDir(), aliases: map[string][]string{"a@example.org": {"a@example.org"}, "b@example.org": {"b@example.org"}}}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(h.dir, "b@example.org", sub), 0o700); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg := quick(&logins{})
		cfg.Hostname, cfg.AllowPlaintextAuth, cfg.Logger = "mx", true, slog.New(slog.NewTextHandler(panicLog{t}, nil))
		script := fmt.Sprintf("EHLO a\r\nAUTH PLAIN %s\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT %d LAST\r\n%s",
			plain("", "a@example.org", testPassword), len(text), text)
		replies := hold(t, New(cfg, h), []byte(script), len(script))
		got := take(t, h, "b@example.org")
		if len(got) != strings.Count(replies, "Delivered") {
			t.Fatalf("%d messages behind %q", len(got), replies)
		}
		for _, stored := range got {
			m, err := netmail.ReadMessage(strings.NewReader(stored))
			if err != nil {
				continue // a field without a name
			}
			authors, err := addressParser.ParseList(m.Header.Get("From"))
			if err != nil || len(m.Header["From"]) != 1 || len(authors) == 0 {
				t.Errorf("%q was delivered", stored)
			}
			for _, a := range authors {
				if !ownOfA.MatchString(a.Address) && len(m.Header["Sender"]) != 1 {
					t.Errorf("%q was delivered as that of %s", stored, a.Address)
				}
			}
		}
	})
}
