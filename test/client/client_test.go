package client

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

func TestStuffed(t *testing.T) {
	for raw, want := range map[string]string{
		"":                     ".\r\n",
		".":                    "..\r\n.\r\n",
		".\r\n.\r\n":           "..\r\n..\r\n.\r\n",
		"a":                    "a\r\n.\r\n",
		"a\n":                  "a\r\n.\r\n",
		"a\n.\nb\r\n":          "a\n.\nb\r\n.\r\n",
		"a\r\n.\r\n..b\r\nc\r": "a\r\n..\r\n...b\r\nc\r\r\n.\r\n",
	} {
		if got := string(Stuffed([]byte(raw))); got != want {
			t.Errorf("Stuffed(%q) = %q, want %q", raw, got, want)
		}
	}
}

// hear is a connection on which a server said all of that.
func hear(t *testing.T, said string) *conn {
	t.Helper()
	c, s := net.Pipe()
	t.Cleanup(func() { c.Close(); s.Close() })
	go s.Write([]byte(said)) // ends with the pipe at the latest
	return &conn{c, bufio.NewReaderSize(c, 64<<10)}
}

func TestMulti(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for said, want := range map[string]string{
		".\r\n":                                     "",
		"a\r\n..\r\n...b\r\n.\r\n":                  "a\r\n.\r\n..b\r\n",
		"a\n.\n.\r\n" + "b\r\n.\r\n":                "a\n.\n.\r\nb\r\n",
		long + "\r\n.." + long + "\r\n.\r\n":        long + "\r\n." + long + "\r\n",
		strings.Repeat("x", 64<<10) + "\r\n.\r\n":   strings.Repeat("x", 64<<10) + "\r\n",
		strings.Repeat("x", 64<<10-1) + "\r\n.\r\n": strings.Repeat("x", 64<<10-1) + "\r\n",
	} {
		p := &POP3{hear(t, "+OK\r\n"+said)}
		got, err := p.multi()
		if err != nil || string(got) != want {
			t.Errorf("%.40q: %.40q, %v", said, got, err)
		}
	}
}

func TestResponse(t *testing.T) {
	i := &IMAP{conn: hear(t, "* 1 FETCH (BODY[] {5}\r\na\r\n{9 X ~{1}\r\n\x00 UID 7)\r\n* 2 EXISTS\r\n")}
	r, err := i.Response()
	if err != nil || r.Text != "* 1 FETCH (BODY[] {5} X {1} UID 7)" || len(r.Literals) != 2 || string(r.Literals[0]) != "a\r\n{9" || string(r.Literals[1]) != "\x00" {
		t.Errorf("%q, %v", r, err)
	}
	if r, err := i.Response(); err != nil || r.Text != "* 2 EXISTS" {
		t.Errorf("%q, %v", r, err)
	}
}
