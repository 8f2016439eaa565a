package pop3

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"mailraft/proxy/maildir"
)

// mailBytes are texts rich in what matters on the wire.
var mailBytes = rapid.Custom(func(t *rapid.T) string {
	pieces := rapid.SliceOf(rapid.OneOf(
		rapid.SampledFrom([]string{".", "..", "\n", "\r\n", "\r", "\r\n.\r\n", "\n.\n", "\x00", "\r\n\r\n", "\n\n", "a", "From x", "\xff"}),
		rapid.String(),
	)).Draw(t, "pieces")
	return strings.Join(pieces, "")
})

// lines is a text as it is to be sent: with CRLF line ends, also at its end.
func lines(text string) string {
	text = crlf(text)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\r\n"
	}
	return text
}

// topOf is TOP in the plainest way.
func topOf(text string, count int) string {
	var b strings.Builder
	inBody := false
	for line := range strings.Lines(lines(text)) {
		if inBody {
			if count == 0 {
				break
			}
			count--
		} else if line == "\r\n" {
			inBody = true
		}
		b.WriteString(line)
	}
	return b.String()
}

// What goes over a real connection un-stuffs to the message with CRLF line ends.
func TestRetrieveProperty(t *testing.T) {
	d := newDrop(t)
	h := serve(t, Config{}, d)
	rapid.Check(t, func(rt *rapid.T) {
		text := mailBytes.Draw(rt, "message")
		count := rapid.IntRange(0, 5).Draw(rt, "lines")
		d.add(text, rapid.Bool().Draw(rt, "own"))
		c := h.login()
		number := len(d.index.Messages)
		if got, want := c.multi(fmt.Sprintf("RETR %d", number)), lines(text); got != want {
			rt.Errorf("RETR of %q: %q, want %q", text, got, want)
		}
		if got, want := c.multi(fmt.Sprintf("TOP %d %d", number, count)), topOf(text, count); got != want {
			rt.Errorf("TOP %d of %q: %q, want %q", count, text, got, want)
		}
		c.do(fmt.Sprintf("LIST %d", number), fmt.Sprintf("+OK %d %d", number, len(lines(text))))
		c.do(fmt.Sprintf("DELE %d", number), "+OK")
		c.do("QUIT", "+OK bye, 1")
		c.expectEOF()
		c.nc.Close()
		d.index.Messages = nil
		d.writeIndex()
	})
}

// However the message comes from the disk, in whatever pieces, the same goes out.
func TestPiecesProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := mailBytes.Draw(rt, "message")
		count := rapid.IntRange(0, 5).Draw(rt, "lines")
		for name, pieces := range map[string]func(io.Reader) io.Reader{
			"single bytes":  iotest.OneByteReader,
			"halves":        iotest.HalfReader,
			"data with EOF": iotest.DataErrReader,
		} {
			r := maildir.CRLFReader(pieces(strings.NewReader(text)))
			if got, want := stuffed(&topReader{r: r, left: count}), stuffed(strings.NewReader(topOf(text, count))); got != want {
				rt.Errorf("TOP %d of %q in %s: %q, want %q", count, text, name, got, want)
			}
			r = maildir.CRLFReader(pieces(strings.NewReader(text)))
			want := strings.ReplaceAll("\n"+lines(text), "\n.", "\n..")[1:] + ".\r\n"
			if got := stuffed(r); got != want {
				rt.Errorf("%q in %s: %q, want %q", text, name, got, want)
			}
		}
	})
}

// stuffed is what a dotWriter makes of r.
func stuffed(r io.Reader) string {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	out := dotWriter{w: w}
	buf := make([]byte, 7)
	for {
		n, err := r.Read(buf)
		out.write(buf[:n])
		if err != nil {
			break
		}
	}
	out.close()
	w.Flush()
	return b.String()
}

// A message larger than all buffers, with lines longer than any.
func TestLargeMessage(t *testing.T) {
	d := newDrop(t)
	text := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 300_000)+"\r\n.\r\n", 10)
	d.add(text, true)
	c := serve(t, Config{}, d).login()
	if got := c.multi("RETR 1"); got != text {
		t.Errorf("RETR gave %d octets, want %d", len(got), len(text))
	}
	c.do("QUIT", "+OK")
}
