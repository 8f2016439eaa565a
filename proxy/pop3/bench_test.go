package pop3

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"mailraft/proxy/maildir"
)

// tenThousand is a maildrop of 10,000 messages, of which only the first one's file is there.
func tenThousand(b *testing.B) *drop {
	d := newDrop(b)
	d.add(strings.Repeat("Some line of text, as long as they are.\r\n", 500), true)
	for uid := uint32(2); uid <= 10_000; uid++ {
		d.index.Messages = append(d.index.Messages, maildir.Message{
			UID: uid, ModSeq: 1, Size: 5120, Date: time.Unix(1764000000, 0),
			Name: fmt.Sprintf("cur/1764000000.M%dP1Q1R0123456789abcdef.host.example.org,S=5120,W=5120:2,S", uid),
		})
	}
	d.index.UIDNext = 10_001
	d.writeIndex()
	return d
}

// skipBody reads to the final dot.
func (c *client) skipBody(b *testing.B) {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			b.Fatal(err)
		}
		if string(line) == ".\r\n" {
			return
		}
	}
}

// BenchmarkUIDL is UIDL of 10,000 messages.
func BenchmarkUIDL(b *testing.B) {
	c := serve(b, Config{}, tenThousand(b)).login()
	for b.Loop() {
		c.do("UIDL", "+OK")
		c.skipBody(b)
	}
}

// BenchmarkSession is a client that looks whether there is news among 10,000 messages: login, UIDL, QUIT.
func BenchmarkSession(b *testing.B) {
	h := serve(b, Config{}, tenThousand(b))
	for b.Loop() {
		c := h.login()
		c.do("UIDL", "+OK")
		c.skipBody(b)
		c.do("QUIT", "+OK")
		c.nc.Close()
	}
}

// BenchmarkRETR is RETR of 20 KiB.
func BenchmarkRETR(b *testing.B) {
	d := tenThousand(b)
	c := serve(b, Config{}, d).login()
	b.SetBytes(d.index.Messages[0].Size)
	for b.Loop() {
		c.do("RETR 1", "+OK")
		c.skipBody(b)
	}
}

// BenchmarkDotStuffing is the part of RETR that touches each byte.
func BenchmarkDotStuffing(b *testing.B) {
	text := bytes.Repeat([]byte("Some line of text, as long as they are.\r\n"), 1500)
	w := bufio.NewWriter(io.Discard)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		out := dotWriter{w: w}
		out.write(text)
		out.close()
	}
}
