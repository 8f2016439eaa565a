package imap

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"mailraft/proxy/maildir"
)

const benchMessages = 10_000

// fill makes a folder of messages of 8 KiB and gives the server its index from memory, so that a benchmark measures this package
// and not the stand-in for the mount.
func (w *world) fill(n int) {
	w.t.Helper()
	text := testMessage(1)
	text += strings.Repeat("All work and no play makes Jack a dull boy, says the message.\r\n", (8192-len(text))/63+1)
	text = text[:8190] + "\r\n"
	for i := range n {
		name := fmt.Sprintf("%d.M%dP1Q%dR0.host,S=8192,W=8192:2,S", 1764000000+i, i, i)
		if err := os.WriteFile(w.home+"/cur/"+name, []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	x, err := w.keeper.read(w.home, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := x.AppendText(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server.readIndex = func(dir string, since uint64) (*maildir.Index, error) {
		if since > 0 {
			return &maildir.Index{UIDValidity: x.UIDValidity, UIDNext: x.UIDNext, HighestModSeq: x.HighestModSeq, Count: n, Since: since}, nil
		}
		return maildir.ParseIndex(bytes.NewReader(all))
	}
}

// ask sends a command and reads until its tagged answer, counting lines.
func ask(b *testing.B, conn net.Conn, r *bufio.Reader, command string) (lines int) {
	if _, err := io.WriteString(conn, "x "+command+"\r\n"); err != nil {
		b.Fatal(err)
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			b.Fatal(err)
		}
		if bytes.HasPrefix(line, []byte("x ")) {
			if !bytes.HasPrefix(line, []byte("x OK")) {
				b.Fatalf("%s: %s", command, line)
			}
			return lines
		}
		lines++
	}
}

func BenchmarkSelect(b *testing.B) {
	w := newWorld(b)
	w.fill(benchMessages)
	c := w.login()
	c.conn.SetDeadline(time.Time{})
	for b.Loop() {
		ask(b, c.conn, c.r, "SELECT INBOX")
	}
}

func BenchmarkFetchFlags(b *testing.B) {
	w := newWorld(b)
	w.fill(benchMessages)
	c := w.selected("INBOX")
	c.conn.SetDeadline(time.Time{})
	r := bufio.NewReaderSize(c.conn, 256<<10)
	for b.Loop() {
		if n := ask(b, c.conn, r, "FETCH 1:* (FLAGS)"); n != benchMessages {
			b.Fatalf("%d lines", n)
		}
	}
	b.ReportMetric(float64(benchMessages)*float64(b.N)/b.Elapsed().Seconds(), "items/s")
}

func BenchmarkFetchFlagsTLS(b *testing.B) {
	w := newWorld(b)
	w.fill(benchMessages)
	c := w.dialTLS()
	c.ok(`LOGIN ` + testUser + ` "` + testPassword + `"`)
	c.ok("SELECT INBOX")
	c.conn.SetDeadline(time.Time{})
	r := bufio.NewReaderSize(c.conn, 256<<10)
	for b.Loop() {
		ask(b, c.conn, r, "FETCH 1:* (FLAGS)")
	}
	b.ReportMetric(float64(benchMessages)*float64(b.N)/b.Elapsed().Seconds(), "items/s")
}

func BenchmarkBodyPeek(b *testing.B) {
	w := newWorld(b)
	w.fill(benchMessages)
	c := w.selected("INBOX")
	c.conn.SetDeadline(time.Time{})
	r := bufio.NewReaderSize(c.conn, 64<<10)
	for b.Loop() {
		ask(b, c.conn, r, fmt.Sprintf("FETCH %d BODY.PEEK[]", 1+rand.IntN(benchMessages)))
	}
	b.SetBytes(8192)
}

// BenchmarkOpenReadClose is the floor of BenchmarkBodyPeek: the same files without IMAP.
func BenchmarkOpenReadClose(b *testing.B) {
	w := newWorld(b)
	w.fill(benchMessages)
	x, err := w.server.readIndex(w.home, 0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := os.ReadFile(w.home + "/" + x.Messages[rand.IntN(benchMessages)].Name); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(8192)
}
