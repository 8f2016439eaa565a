package pop3

import (
	"strings"
	"testing"
)

func TestDialogue(t *testing.T) {
	d := newDrop(t)
	d.add("Subject: one\r\n\r\nfirst\r\n.\r\n..dots\r\n", true)
	d.add("Subject: two\n\nsecond\n.third", false)
	d.add("no header at all", false)
	h := serve(t, Config{}, d)
	c := h.dial()
	if greeting := c.line(); strings.ContainsAny(greeting, "<>") {
		t.Errorf("greeting %q offers APOP", greeting)
	}
	for _, step := range []struct{ command, want string }{
		{"STAT", "-ERR log in first"},
		{"PASS " + testPassword, "-ERR send USER first"},
		{"user " + alice, "+OK"},
		{"CAPA", "+OK"},
	} {
		c.do(step.command, step.want)
	}
	c.body()
	c.do("PASS "+testPassword, "-ERR send USER first") // RFC 1939, 7: immediately after USER
	c.do("USER "+alice, "+OK")
	c.do("PASS "+testPassword, "+OK")

	for _, step := range []struct{ command, want string }{
		{"STAT", "+OK 3 84"},
		{"LIST 1", "+OK 1 34"},
		{"list 2", "+OK 2 32"},
		{"LIST 3", "+OK 3 18"},
		{"LIST 0", "-ERR no such message"},
		{"LIST 4", "-ERR no such message"},
		{"LIST -1", "-ERR malformed number"},
		{"LIST 1 2", "-ERR wrong number of arguments"},
		{"UIDL 3", "+OK 3 1764000000.3"},
		{"UIDL x", "-ERR malformed number"},
		{"TOP 1", "-ERR wrong number of arguments"},
		{"TOP 1 x", "-ERR malformed number of lines"},
		{"TOP 9 1", "-ERR no such message"},
		{"RETR 99999999999", "-ERR malformed number"},
		{"USER " + alice, "-ERR already logged in"},
	} {
		c.do(step.command, step.want)
	}
	c.nc.Close()
}

func TestListings(t *testing.T) {
	d := newDrop(t)
	d.add("a\r\n", true)
	d.add("bb\n", false)
	d.add("ccc\r\n", true)
	c := serve(t, Config{}, d).login()
	for command, want := range map[string]string{
		"LIST":    "1 3\r\n2 4\r\n3 5\r\n",
		"UIDL":    "1 1764000000.1\r\n2 1764000000.2\r\n3 1764000000.3\r\n",
		"RETR 1":  "a\r\n",
		"RETR 2":  "bb\r\n",
		"TOP 3 0": "ccc\r\n",
	} {
		if got := c.multi(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	c.do("DELE 2", "+OK")
	c.do("STAT", "+OK 2 8")
	for command, want := range map[string]string{
		"LIST": "1 3\r\n3 5\r\n",
		"UIDL": "1 1764000000.1\r\n3 1764000000.3\r\n",
	} {
		if got := c.multi(command); got != want {
			t.Errorf("%s after DELE: %q, want %q", command, got, want)
		}
	}
	for _, command := range []string{"LIST 2", "UIDL 2", "RETR 2", "TOP 2 1", "DELE 2"} {
		c.do(command, "-ERR the message is deleted already")
	}
	c.do("RSET", "+OK")
	c.do("STAT", "+OK 3 12")
	c.do("NOOP", "+OK")
	c.do("QUIT", "+OK bye, 0 messages removed")
	c.expectEOF()
	if n := d.files(); n != 3 {
		t.Errorf("%d messages left, want 3", n)
	}
}

func TestEmptyMaildrop(t *testing.T) {
	c := serve(t, Config{}, newDrop(t)).login()
	c.do("STAT", "+OK 0 0")
	if got := c.multi("LIST") + c.multi("UIDL"); got != "" {
		t.Errorf("listings of nothing: %q", got)
	}
	c.do("LIST 1", "-ERR no such message")
	c.do("QUIT", "+OK")
}

func TestQuitBeforeLogin(t *testing.T) {
	c := serve(t, Config{}, newDrop(t)).dial()
	c.expect("+OK")
	c.do("QUIT", "+OK")
	c.expectEOF()
}

func TestTop(t *testing.T) {
	d := newDrop(t)
	d.add("A: 1\r\nB: 2\r\n\r\none\r\n.two\r\nthree\r\n", true)
	d.add("A: 1\nB: 2\n\none\n\nthree", false)
	c := serve(t, Config{}, d).login()
	for command, want := range map[string]string{
		"TOP 1 0":                    "A: 1\r\nB: 2\r\n\r\n",
		"TOP 1 1":                    "A: 1\r\nB: 2\r\n\r\none\r\n",
		"TOP 1 2":                    "A: 1\r\nB: 2\r\n\r\none\r\n.two\r\n",
		"TOP 1 99":                   "A: 1\r\nB: 2\r\n\r\none\r\n.two\r\nthree\r\n",
		"TOP 2 2":                    "A: 1\r\nB: 2\r\n\r\none\r\n\r\n",
		"TOP 2 99999999999999999999": "A: 1\r\nB: 2\r\n\r\none\r\n\r\nthree\r\n",
	} {
		if got := c.multi(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

func TestPipelining(t *testing.T) {
	d := newDrop(t)
	d.add("Subject: x\r\n\r\nbody\r\n", true)
	h := serve(t, Config{}, d)
	c := h.dial()
	c.send("USER " + alice + "\r\nPASS " + testPassword + "\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
	for range 3 {
		c.expect("+OK")
	}
	c.expect("+OK 1 20")
	c.expect("+OK 20 octets")
	if got := c.body(); got != "Subject: x\r\n\r\nbody\r\n" {
		t.Errorf("RETR gave %q", got)
	}
	c.expect("+OK message 1 deleted")
	c.expect("+OK bye, 1 messages removed")
	c.expectEOF()
	if n := d.files(); n != 0 {
		t.Errorf("%d messages left", n)
	}
}

func TestLongLines(t *testing.T) {
	d := newDrop(t)
	h := serve(t, Config{}, d)
	c := h.login()
	c.do("NOOP"+strings.Repeat(" ", 255-6), "+OK")
	for _, n := range []int{256, 300, 4095, 4096, 4097, 5000, 60000} {
		c.do(strings.Repeat("x", n-2), "-ERR line too long")
	}
	c.do("STAT", "+OK 0 0")
	c.send("QUIT") // no line end: no command
	c.nc.(interface{ CloseWrite() error }).CloseWrite()
	c.expectEOF()

	c = h.login()
	c.nc.Write([]byte(strings.Repeat("x", maxSkipped+2*maxSASLLine)))
	c.expectEOF()
}

func TestBadCommandsEnd(t *testing.T) {
	c := serve(t, Config{MaxBadCommands: 3}, newDrop(t)).dial()
	c.expect("+OK")
	c.do("GET / HTTP/1.1", "-ERR unknown command")
	c.do("", "-ERR unknown command")
	c.do("\x00\xff QUIT", "-ERR unknown command")
	c.expectEOF()
}
