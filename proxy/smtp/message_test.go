package smtp

import (
	"fmt"
	"strings"
	"testing"
)

// What comes behind DATA on the wire, and what is stored of it.
var dataCases = map[string]struct{ wire, stored string }{
	"empty":                    {".\r\n", ""},
	"one line":                 {"a\r\n.\r\n", "a\r\n"},
	"stuffed":                  {"..\r\n...\r\n..a\r\n.\r\n", ".\r\n..\r\n.a\r\n"},
	"dot not stuffed":          {".a\r\n.\r\n", "a\r\n"},
	"bare LF":                  {"a\nb\n\nc\r\n.\r\n", "a\r\nb\r\n\r\nc\r\n"},
	"bare CR":                  {"a\rb\r\r\n\r\r\r\n.\r\n", "a\rb\r\r\n\r\r\r\n"},
	"CR behind leading dot":    {"..\rx\r\n.\rx\r\n.\r\n", ".\rx\r\n\rx\r\n"},
	"dot behind CR CR LF":      {"a\r\r\n..b\r\n.\r\n", "a\r\r\n.b\r\n"},
	"end behind CR CR LF":      {"a\r\r\n.\r\n", "a\r\r\n"},
	"NUL and 8 bit":            {"\x00\xff\x80\r\n.\r\n", "\x00\xff\x80\r\n"},
	"LF . LF":                  {"a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
	"LF . CR LF":               {"a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
	"CR LF . LF":               {"a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n"},
	"CR LF . CR":               {"a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n"},
	"CR LF . CR CR LF":         {"a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\r\nb\r\n"},
	"CR . CR":                  {"a\r.\rb\r\n.\r\n", "a\r.\rb\r\n"},
	"LF CR . CR LF":            {"a\n\r.\r\nb\r\n.\r\n", "a\r\n\r.\r\nb\r\n"},
	"LF .. stays":              {"a\n..\nb\r\n.\r\n", "a\r\n..\r\nb\r\n"},
	"smuggled commands":        {"a\n.\nMAIL FROM:<x@example.com>\nRCPT TO:<alice@example.org>\nDATA\nb\r\n.\r\n", "a\r\n.\r\nMAIL FROM:<x@example.com>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nb\r\n"},
	"line of 100,000":          {strings.Repeat("x", 100_000) + "\r\n.\r\n", strings.Repeat("x", 100_000) + "\r\n"},
	"dots over several chunks": {strings.Repeat("..\r\n", 100_000) + ".\r\n", strings.Repeat(".\r\n", 100_000)},
	"LFs over several chunks":  {strings.Repeat("\n", 300_001) + "\r\n.\r\n", strings.Repeat("\r\n", 300_002)},
}

// The bytes of DATA, sent in one piece and one by one.
func TestData(t *testing.T) {
	for name, c := range dataCases {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, "alice@example.org")
			_, address := run(t, Config{}, h)
			for _, step := range []int{len(c.wire), 1} {
				if step == 1 && len(c.wire) > 1000 {
					continue
				}
				cl := dial(t, address)
				cl.envelope("alice@example.org")
				cl.dialogue("C: DATA\nS: 354 ")
				for wire := c.wire; wire != ""; wire = wire[step:] {
					cl.send(wire[:step])
				}
				cl.dialogue("S: 250 2.0.0\nC: NOOP\nS: 250 2.0.0")
			}
			want := []string{c.stored, c.stored}
			if len(c.wire) > 1000 {
				want = want[1:]
			}
			h.wantBodies(t, "alice@example.org", want...)
		})
	}
}

// BDAT has no dots to unstuff and no end to find, and may cut anywhere.
func TestBdat(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	_, address := run(t, Config{}, h)
	c := dial(t, address)
	c.envelope("alice@example.org")
	c.send("BDAT 4\r\na\r\n.BDAT 4\r\n\r\n\n\rBDAT 0\r\nBDAT 1\r\n\nNOOP\r\nBDAT 3 LAST\r\n\x00b\nNOOP\r\n")
	c.expect("250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.0.0 Ok", "250 2.0.0 Delivered", "250 2.0.0 Ok")
	h.wantBodies(t, "alice@example.org", "a\r\n.\r\n\r\n\r\n\x00b\r\n")

	c.dialogue("C: MAIL FROM:<a@example.com>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250\nC: BDAT 0 LAST\nS: 250 2.0.0 Delivered")
	long := strings.Repeat("x", 400_000)
	c.dialogue("C: MAIL FROM:<a@example.com>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250")
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(long), long))
	c.expect("250 2.0.0 Delivered")
	h.wantBodies(t, "alice@example.org", "", "a\r\n.\r\n\r\n\r\n\x00b\r\n", long)
}

func TestBdatOutOfOrder(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	_, address := run(t, Config{MaxMessageBytes: 10, MaxBadCommands: 100}, h)
	c := dial(t, address)
	c.expect("220 ")
	// The octets of a refused chunk are not commands.
	c.send("BDAT 6\r\nQUIT\r\nNOOP\r\n")
	c.expect("503 5.5.1", "250 2.0.0")
	c.dialogue("C: EHLO client.example\nS: 250-\nC: MAIL FROM:<a@example.com>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250")
	c.send("BDAT 2\r\na\n")
	c.expect("250 2.0.0")
	c.dialogue("C: DATA\nS: 503 5.5.1\nC: MAIL FROM:<>\nS: 503 5.5.1\nC: RCPT TO:<alice@example.org>\nS: 503 5.5.1\nC: RSET\nS: 250")
	h.wantBodies(t, "alice@example.org")

	// Too large in all.
	c.dialogue("C: MAIL FROM:<a@example.com>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250")
	c.send("BDAT 6\r\n123456BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
	c.expect("250 2.0.0", "552 5.3.4", "503 5.5.1", "250 2.0.0")
	h.wantBodies(t, "alice@example.org")

	for _, bad := range []string{"BDAT", "BDAT x", "BDAT -1 LAST", "BDAT +1", "BDAT 99999999999999999999"} {
		c := dial(t, address)
		c.expect("220 ")
		c.send(bad + "\r\nNOOP\r\n")
		c.expect("501 5.5.4")
		c.expectEnd()
	}
	c.send("BDAT 6 FIRST\r\nQUIT\r\nNOOP\r\n")
	c.expect("501 5.5.4", "250 2.0.0")
}

// A client that sends a chunk larger than all that is taken hears of it, when it has sent it.
func TestBdatTooLarge(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	_, address := run(t, Config{MaxMessageBytes: 1000}, h)
	c := dial(t, address)
	c.envelope("alice@example.org")
	for _, mode := range []string{" LAST", ""} {
		c.send("BDAT 5000000" + mode + "\r\n" + strings.Repeat("NOOP\r\n", 833_333) + "\r\nNOOP\r\n")
		c.expect("552 5.3.4", "250 2.0.0")
		c.dialogue("C: MAIL FROM:<a@example.com>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250")
	}
	c.send("BDAT 3 LAST\r\nabc")
	c.expect("250 2.0.0 Delivered")
	h.wantBodies(t, "alice@example.org", "abc")
}

// A message that breaks off is not delivered, and its remains are not commands.
func TestBrokenOff(t *testing.T) {
	for name, wire := range map[string]string{
		"DATA":             "DATA\r\nfirst\r\nQUIT\r\n",
		"DATA, large":      "DATA\r\n" + strings.Repeat("0123456789abcd\r\n", 20_000),
		"DATA, before end": "DATA\r\nfirst\r\n.",
		"DATA, CR":         "DATA\r\nfirst\r\n.\r",
		"DATA, nothing":    "DATA\r\n",
		"BDAT":             "BDAT 6 LAST\r\nQUIT\r",
		"BDAT, one of two": "BDAT 6\r\nQUIT\r\n",
		"BDAT, large":      "BDAT 400000 LAST\r\n" + strings.Repeat("x", 399_999),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, "alice@example.org")
			s, address := run(t, Config{}, h)
			c := dial(t, address)
			c.envelope("alice@example.org")
			c.send(wire)
			if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(wire, "DATA") {
				c.expect("354 ")
			} else if !strings.Contains(wire, "LAST") {
				c.expect("250 2.0.0 Chunk")
			}
			c.expectEnd()
			s.Shutdown(t.Context()) // so that the connection has ended
			h.wantBodies(t, "alice@example.org")
		})
	}
}

func TestSizeLimit(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	const limit = 200_000
	_, address := run(t, Config{MaxMessageBytes: limit}, h)
	fits := strings.Repeat("x", limit-2) + "\r\n"
	c := dial(t, address)
	c.envelope("alice@example.org")
	c.dialogue("C: DATA\nS: 354")
	c.send("x" + fits + ".\r\n")
	c.expect("552 5.3.4")
	h.wantBodies(t, "alice@example.org")

	c.dialogue("C: MAIL FROM:<a@example.com> SIZE=200001\nS: 552 5.3.4")
	c.dialogue("C: MAIL FROM:<a@example.com> SIZE=200000\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250\nC: DATA\nS: 354")
	c.send(fits + ".\r\n")
	c.expect("250 2.0.0")
	h.wantBodies(t, "alice@example.org", fits)
}

func TestLoop(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	_, address := run(t, Config{}, h)
	c := dial(t, address)
	c.envelope("alice@example.org")
	hop := "rEcEiVeD: from a\r\n\tReceived: folded\r\n"
	inBody := "\r\n" + strings.Repeat("Received: quoted\r\n", 200)
	c.dialogue("C: DATA\nS: 354")
	c.send(strings.Repeat(hop, 101) + "\r\n.\r\n")
	c.expect("554 5.4.6")
	c.dialogue("C: MAIL FROM:<a@example.com>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250\nC: DATA\nS: 354")
	text := strings.Repeat(hop, 100) + inBody
	c.send(text + ".\r\n")
	c.expect("250 2.0.0")
	h.wantBodies(t, "alice@example.org", text)
}
