package imap

import (
	"fmt"
	"strings"
	"testing"
)

// Nothing that a client sends may get commands and literals mixed up: after each of these, the connection is in step.
func TestFraming(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct{ name, send, want string }{
		{"no command", "\r\n", "* BAD"},
		{"only a tag", "a\r\n", "a BAD"},
		{"strange tag", "+a NOOP\r\n", "* BAD"},
		{"strange name", "a N(OP\r\n", "a BAD"},
		{"unknown command", "a XYZZY\r\n", "a BAD"},
		{"UID alone", "a UID\r\n", "a BAD"},
		{"UID and a space", "a UID \r\n", "a BAD"},
		{"UID with nonsense", "a UID NOOP\r\n", "a BAD"},
		{"NUL", "a NOOP \x00\r\n", "a BAD"},
		{"bare CR", "a NOOP\rb LOGOUT\r\n", "a BAD"},
		{"open quote", "a CREATE \"x\r\n", "a BAD"},
		{"open quote and a literal", "a CREATE \"x {10+}\r\nb LOGOUT\r\n\r\n", "a BAD"},
		{"escaped quotes", "a STATUS \"x\\\"\\\\\" (MESSAGES)\r\n", "a NO [NONEXISTENT]"},
		{"bare LF is a line's end", "a NOOP\n", "a OK"},
		{"arguments that are none", "a NOOP x\r\n", "a BAD"},
		{"long line", "a LIST \"\" " + strings.Repeat("x", 60_000) + "\r\n", "a BAD [LIMIT]"},
		{"long line with a literal", "a LIST \"\" " + strings.Repeat("x", 60_000) + " {5+}\r\n1 X\r\n b\r\n", "a BAD [LIMIT]"},
		{"much longer", "a " + strings.Repeat("x ", 200_000) + "\r\n", "a BAD"},
		{"large sync literal", "a CREATE {5000}\r\n", "a NO [TOOBIG]"},
		{"large non-sync literal", "a CREATE {5000+}\r\n" + strings.Repeat("b LOGOUT\r\n", 500) + "\r\n", "a NO [TOOBIG]"},
		{"refused with more behind", "a LIST {5000+}\r\n" + strings.Repeat("x", 5000) + " {9+}\r\nb LOGOUT\n\r\n", "a NO [TOOBIG]"},
		{"literal of a bad command", "a XYZZY {10+}\r\nb LOGOUT\r\n\r\n", "a BAD"},
		{"size without end", "a CREATE {99999999999999999999}\r\n", "a BAD"},
		{"space behind a literal's size", "a CREATE {3+} \r\n", "a BAD"},
		{"no size", "a CREATE {abc}\r\n", "a BAD"},
		{"a second literal of a bad command", "a SEARCH SUBJECT {1+}\r\nx XYZZY {10+}\r\nb LOGOUT\r\n\r\n", "a BAD"},
		{"literals that are right", "a SEARCH SUBJECT {1+}\r\nx BODY {10+}\r\n\"b\\LOGOUT\"\r\n", "a OK"},
		{"literal in brackets", "a FETCH 1 BODY[{3+}\r\nabc]\r\n", "a BAD"},
		{"a command in a literal", "a SEARCH BODY {10+}\r\nb LOGOUT\r\n\r\n", "a BAD"},
		{"NUL in a literal", "a CREATE {3+}\r\na\x00b {8+}\r\nb LOGOUT\r\n", "a BAD"},
		{"a command behind a bad name", "a STATUS {3+}\r\nR&Db LOGOUT\r\n", "a BAD"},
		{"bad name", "a SELECT {3+}\r\nR&D\r\n", "a BAD"},
		{"literal that gets too long in quotes", "a SEARCH" + strings.Repeat(" SUBJECT {4090+}\r\n"+strings.Repeat("\"", 4090), 6) + "\r\n", "a BAD [LIMIT]"},
		{"literal where none may be", "a NOOP {8+}\r\nb LOGOUT\r\n", "a BAD"},
		{"upload to nowhere", "a APPEND Nowhere {10+}\r\nb LOGOUT\r\n\r\n", "a NO [TRYCREATE]"},
		{"upload with bad flags", "a APPEND INBOX (\\) {10+}\r\nb LOGOUT\r\n\r\n", "a BAD"},
		{"upload with bad date", "a APPEND INBOX \"x\" {10+}\r\nb LOGOUT\r\n\r\n", "a BAD"},
		{"upload too large", "a APPEND INBOX {60000000}\r\n", "a NO [TOOBIG]"},
		{"empty upload", "a APPEND INBOX {0+}\r\n\r\n", "a NO"},
		{"bad sequence set", "a FETCH 0 FLAGS\r\n", "a BAD"},
		{"bad UID set", "a UID FETCH 1:x FLAGS\r\n", "a BAD"},
		{"FETCH of nothing", "a FETCH 1 ()\r\n", "a OK"},
		{"bad search", "a SEARCH XYZZY\r\n", "a BAD"},
		{"deep search", "a SEARCH " + strings.Repeat("NOT ", 10_000) + "ALL\r\n", "a NO [LIMIT]"},
		{"deep parentheses", "a SEARCH " + strings.Repeat("(", 20_000) + "\r\n", "a BAD"},
		{"rewritten to more than fits", "a SEARCH" + strings.Repeat(" SMALLER 9", 4900) + "\r\n", "a BAD [LIMIT]"},
		{"DONE without IDLE", "DONE\r\n", "DONE BAD"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			c := w.selected("INBOX")
			c.send(test.send)
			for {
				line := c.line()
				if strings.HasPrefix(line, "* ") && !strings.HasPrefix(test.want, "* ") {
					continue
				}
				if !strings.HasPrefix(line, test.want) {
					t.Fatalf("got %q", line)
				}
				break
			}
			c.ok("NOOP")
		})
	}
}

// A message with more behind it is not stored, nor is one whose end never comes.
func TestUploadCutOff(t *testing.T) {
	w := newWorld(t)
	for _, malformed := range []string{
		"a APPEND INBOX {10+}\r\n0123456789 {10+}\r\n0123456789\r\n",
		"a APPEND INBOX {5+}\r\nhello)\r\n",
		"a APPEND INBOX UTF8 (~{5+}\r\nhello\r\n",
		"a APPEND INBOX UTF8 (~{5+}\r\nhello))\r\n",
	} {
		c := w.login()
		c.send(malformed)
		c.want("a BAD")
		c.want("* BYE")
		c.closed()
	}
	c := w.login()
	c.send("a APPEND INBOX {10+}\r\n01234")
	c.conn.Close()
	c = w.login()
	c.gives("STATUS INBOX (MESSAGES)", "MESSAGES 0")
	if tmp := w.names(""); len(tmp) > 0 {
		t.Errorf("left behind: %v", tmp)
	}
}

func TestPipelining(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "")
	c := w.login()
	var all strings.Builder
	all.WriteString("s SELECT INBOX\r\n")
	for n := range 100 {
		fmt.Fprintf(&all, "n%d UID FETCH 1 (FLAGS)\r\n", n)
	}
	message := testMessage(2)
	fmt.Fprintf(&all, "p APPEND INBOX {%d+}\r\n%s\r\ne NOOP\r\n", len(message), message)
	c.send(all.String())
	c.until("s")
	for n := range 100 {
		if got, answer := c.until(fmt.Sprintf("n%d", n)); len(got) != 1 || !strings.HasPrefix(answer, "OK") {
			t.Fatalf("%q %q", got, answer)
		}
	}
	if got, answer := c.until("p"); !contains(got, "* 2 EXISTS") || !strings.HasPrefix(answer, "OK [APPENDUID ") {
		t.Errorf("%q %q", got, answer)
	}
	c.until("e")
}

func TestTooManyBadCommands(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxBadCommands = 3 })
	c := w.login()
	for range 4 {
		c.fails("XYZZY", "BAD")
	}
	c.want("* BYE")
	c.closed()
}
