package pop3

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// duplex is a connection from this machine whose client has said all that it will say.
type duplex struct {
	in  io.Reader
	out bytes.Buffer
}

func (d *duplex) Read(p []byte) (int, error)       { return d.in.Read(p) }
func (d *duplex) Write(p []byte) (int, error)      { return d.out.Write(p) }
func (d *duplex) Close() error                     { return nil }
func (d *duplex) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (d *duplex) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (d *duplex) SetDeadline(time.Time) error      { return nil }
func (d *duplex) SetReadDeadline(time.Time) error  { return nil }
func (d *duplex) SetWriteDeadline(time.Time) error { return nil }

var fuzzStates = []struct{ name, prefix string }{
	{"authorization", ""},
	{"after USER", "USER " + alice + "\r\n"},
	{"in AUTH", "AUTH PLAIN\r\n"},
	{"transaction", "USER " + alice + "\r\nPASS " + testPassword + "\r\n"},
	{"marked", "USER " + alice + "\r\nPASS " + testPassword + "\r\nDELE 1\r\n"},
}

// FuzzCommand gives arbitrary bytes to each command in each state, and one more session to see that all is in order again.
func FuzzCommand(f *testing.F) {
	var keywords []string
	for name := range commands {
		keywords = append(keywords, name+" ", strings.ToLower(name)+"\r\n")
	}
	keywords = append(keywords, "", "\x00", strings.Repeat("x", 300))
	for state := range fuzzStates {
		for _, k := range keywords {
			f.Add(uint8(state), []byte(k+"1\r\nNOOP\r\n"))
			f.Add(uint8(state), []byte(k+"1 0\r\n=\r\n\r\n"))
		}
	}
	d := threeMessages(f)
	srv := New(Config{
		Logger:       slog.New(slog.DiscardHandler),
		FailureDelay: time.Nanosecond,
		TLSConfig:    serverTLS(),
	}, &logins{homes: map[string]string{alice: d.home}})
	talk := func(text string) string {
		nc := &duplex{in: strings.NewReader(text)}
		c := newConn(nc, time.Minute)
		srv.handle(c, false)
		c.close()
		return nc.out.String()
	}
	var one sync.Mutex // the fuzzer runs one at a time in a process; say so
	f.Fuzz(func(t *testing.T, state uint8, input []byte) {
		one.Lock()
		defer one.Unlock()
		d.t = t
		prefix := fuzzStates[int(state)%len(fuzzStates)].prefix
		out := talk(prefix + string(input))
		if !strings.HasPrefix(out, "+OK ") {
			t.Errorf("greeting: %q", out)
		}
		if d.files() != 3 && !bytes.Contains(bytes.ToUpper(input), []byte("QUIT")) {
			t.Errorf("messages removed without QUIT: %q", input)
		}
		for i, m := range d.index.Messages { // what was rightly removed
			path := d.home + "/" + m.Name
			if _, err := os.Stat(path); err != nil {
				d.must(os.WriteFile(path, []byte([]string{"one\r\n", "two\r\n", "three\r\n"}[i]), 0o600))
			}
		}
		out = talk(fuzzStates[3].prefix + "STAT\r\nQUIT\r\n")
		if !strings.Contains(out, "+OK maildrop ready\r\n+OK 3 17\r\n+OK bye") {
			t.Errorf("next session: %q", out)
		}
	})
}
