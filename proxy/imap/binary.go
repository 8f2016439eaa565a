package imap

import (
	"encoding/base64"
	"io"
	"mime/quotedprintable"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/imap/mimetree"
)

// binary decodes the transfer encoding of a part (RFC 9051, 6.4.5: BINARY). A part that does not exist is empty.
func (c *content) binary(path []int) (io.Reader, error) {
	if len(path) == 0 {
		return c.section(0, c.size), nil
	}
	root, err := c.parts()
	if err != nil {
		return nil, err
	}
	part := root.Find(path)
	if part == nil {
		return c.section(0, 0), nil
	}
	return c.decoded(part)
}

// decoded reads a part's body with its transfer encoding decoded (RFC 2045, 6). What is malformed ends it early.
func (c *content) decoded(part *mimetree.Part) (io.Reader, error) {
	body := c.section(part.Body, part.End)
	switch part.Encoding() {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, &base64Reader{r: body}), nil
	case "quoted-printable":
		return quotedprintable.NewReader(body), nil
	case "7bit", "8bit", "binary":
		return body, nil
	}
	return nil, no(imap.ResponseCodeUnknownCTE, "Unknown transfer encoding")
}

// base64Reader drops what is not base64 (RFC 2045, 6.8).
type base64Reader struct{ r io.Reader }

func (b *base64Reader) Read(p []byte) (int, error) {
	for {
		n, err := b.r.Read(p)
		kept := 0
		for _, ch := range p[:n] {
			if ch >= 'A' && ch <= 'Z' || ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9' || ch == '+' || ch == '/' || ch == '=' {
				p[kept] = ch
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}

// count reads r to its end; malformed encodings end there too.
func count(r io.Reader) int64 {
	buf := largeBuffers.Get().(*[64 << 10]byte)
	defer largeBuffers.Put(buf)
	n, _ := io.CopyBuffer(onlyWriter{io.Discard}, r, buf[:])
	return n
}
