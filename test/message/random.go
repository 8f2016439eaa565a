package message

import (
	"slices"
	"strings"
)

// fragments are what random messages are put together from, beside words.
var fragments = []string{
	"\r\n", "\r\n", "\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "\r\n.\r\n", "\n.\n", ".", "\x00", "\xff", "å", "\t", " ", ":", ";", "\"", "--b\r\n", "--b--\r\n",
	"Subject: ", "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: text/plain\r\n", "Content-Type: message/rfc822\r\n\r\n",
	"Content-Transfer-Encoding: base64\r\n", "=?utf-8?q?", "?=", "From ", "MIME-Version: 1.0\r\n", "<a@example.org>", "(", ")",
}

// random is fragments in any order, or a well-formed message that was damaged.
func (g generator) random() []byte {
	if g.IntN(2) == 0 {
		return g.damaged()
	}
	var b strings.Builder
	for range 1 + g.IntN(200) {
		if g.IntN(3) == 0 {
			b.WriteString(g.line(1 + g.IntN(40)))
		} else {
			b.WriteString(fragments[g.IntN(len(fragments))])
		}
	}
	return []byte(b.String())
}

// damaged is a well-formed message of which parts were removed, doubled, or overwritten.
func (g generator) damaged() []byte {
	b := []byte(g.mime("damaged") + g.multipart("mixed", g.part("text/plain", g.text(500)), g.multipart("alternative", g.part("text/html", g.text(200))), g.attachment(1000)))
	for range 1 + g.IntN(10) {
		from := g.IntN(len(b))
		to := min(len(b), from+g.IntN(100))
		switch g.IntN(3) {
		case 0:
			b = slices.Delete(b, from, to)
		case 1:
			b = slices.Insert(b, g.IntN(len(b)), slices.Clone(b[from:to])...)
		case 2:
			copy(b[from:to], g.octets(to-from))
		}
		if len(b) == 0 {
			break
		}
	}
	return b
}
