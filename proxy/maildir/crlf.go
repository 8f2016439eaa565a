package maildir

import (
	"bytes"
	"io"
)

// CRLFReader returns a reader of r's bytes in which every line feed stands behind a carriage return: a bare LF becomes CRLF.
// All other bytes, lone carriage returns and NULs among them, pass as they are. What has no bare LF is not copied.
func CRLFReader(r io.Reader) io.Reader {
	return &crlfReader{r: r}
}

type crlfReader struct {
	r    io.Reader
	last byte   // handed out last
	raw  []byte // read from r, not handed out yet: it begins with a bare LF, or did
	buf  []byte // the memory of raw
	err  error  // of r; comes behind raw
}

// Read implements io.Reader.
func (c *crlfReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.raw) > 0 {
		return c.expand(p), nil
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	i := c.bareLF(p[:n])
	if i < 0 {
		if n > 0 {
			c.last = p[n-1]
		}
		c.err = err
		return n, err
	}
	c.buf = append(c.buf[:0], p[i:n]...)
	c.raw, c.err = c.buf, err
	if i > 0 {
		c.last = p[i-1]
	}
	return i + c.expand(p[i:]), nil
}

// expand hands out raw bytes into p, as many as there is room for.
func (c *crlfReader) expand(p []byte) int {
	n := 0
	for n < len(p) && len(c.raw) > 0 {
		i := c.bareLF(c.raw)
		if i == 0 {
			p[n] = '\r' // the LF is not bare any more, and goes out in the next round
			c.last = '\r'
			n++
			continue
		}
		if i < 0 {
			i = len(c.raw)
		}
		copied := copy(p[n:], c.raw[:i])
		c.raw = c.raw[copied:]
		n += copied
		c.last = p[n-1]
	}
	return n
}

// bareLF returns the place of the first line feed in b that no carriage return precedes, or -1.
func (c *crlfReader) bareLF(b []byte) int {
	from := 0
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return -1
		}
		i += from
		before := c.last
		if i > 0 {
			before = b[i-1]
		}
		if before != '\r' {
			return i
		}
		from = i + 1
	}
}
