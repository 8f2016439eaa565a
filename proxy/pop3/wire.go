package pop3

import (
	"bufio"
	"bytes"
	"io"
)

// dotWriter writes a text with CRLF line ends as a multi-line answer (RFC 1939, 3).
type dotWriter struct {
	w     *bufio.Writer
	begun bool
	last  byte // written last
}

var lineDot = []byte("\n.")

// write writes p and puts a second dot in front of each one that begins a line.
func (d *dotWriter) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if p[0] == '.' && (d.last == '\n' || !d.begun) {
		d.w.WriteByte('.')
	}
	d.begun = true
	d.last = p[len(p)-1]
	for {
		i := bytes.Index(p, lineDot)
		if i < 0 {
			break
		}
		d.w.Write(p[:i+1])
		d.w.WriteByte('.')
		p = p[i+1:]
	}
	_, err := d.w.Write(p)
	return err
}

// close ends the last line, if need be, and the answer.
func (d *dotWriter) close() error {
	if d.begun && d.last != '\n' {
		d.w.WriteString("\r\n")
	}
	_, err := d.w.WriteString(".\r\n")
	return err
}

// topReader reads the header, the empty line and the first lines of the body of a message with CRLF line ends.
type topReader struct {
	r      io.Reader
	left   int  // lines of the body still wanted
	inBody bool // the empty line has passed
	column int  // octets of the present line so far, counted up to 2
	cr     bool // of which the first is a CR
	ended  bool
}

// Read implements io.Reader.
func (t *topReader) Read(p []byte) (int, error) {
	if t.ended {
		return 0, io.EOF
	}
	n, err := t.r.Read(p)
	if end := t.scan(p[:n]); t.ended {
		return end, nil
	}
	return n, err
}

// scan returns where the wanted part of p ends, if it sets t.ended.
func (t *topReader) scan(p []byte) int {
	for i := 0; i < len(p); {
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			t.begin(p[i:])
			return len(p)
		}
		t.begin(p[i : i+j])
		i += j + 1
		if t.inBody {
			t.left--
		} else if t.column == 1 && t.cr {
			t.inBody = true
		}
		t.column = 0
		if t.inBody && t.left <= 0 {
			t.ended = true
			return i
		}
	}
	return len(p)
}

// begin notes how the present line, of which part comes next, begins.
func (t *topReader) begin(part []byte) {
	if t.column == 0 && len(part) > 0 {
		t.cr = part[0] == '\r'
	}
	t.column = min(t.column+len(part), 2)
}
