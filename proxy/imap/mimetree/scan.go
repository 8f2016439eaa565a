package mimetree

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// Limits of what is looked at. What lies beyond is part of the part it lies in.
const (
	MaxDepth  = 50      // parts within parts
	MaxParts  = 1000    // in one message
	MaxHeader = 1 << 20 // bytes kept of all headers of a message together

	maxBoundary = 500 // bytes; RFC 2046, 5.1.1, allows 70
)

// Parse reads a message to its end. r must give CRLF line ends. Errors are r's.
func Parse(r io.Reader) (*Part, error) {
	s := scanner{r: bufio.NewReaderSize(r, 32<<10)}
	root := s.push(0)
	err := s.run()
	return root, err
}

// ParseHeader reads a message's header alone, and finds no parts. size is the length of the whole message in bytes.
func ParseHeader(r io.Reader, size int64) (*Part, error) {
	s := scanner{r: bufio.NewReaderSize(r, 8<<10)}
	root := s.push(0)
	for atStart := true; ; {
		chunk, err := s.r.ReadSlice('\n')
		s.text(chunk, false)
		s.offset += int64(len(chunk))
		if err == io.EOF || atStart && err == nil && len(bytes.TrimRight(chunk, "\r\n")) == 0 {
			root.Body, root.End = s.offset, max(size, s.offset)
			s.open[0].setType()
			return root, nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		atStart = err == nil
	}
}

// scanner reads line by line, with a stack of the parts that are open.
type scanner struct {
	r      *bufio.Reader
	offset int64 // of what is read next
	lines  int64 // line feeds so far
	open   []*openPart
	parts  int
	header int // bytes kept of headers
}

type openPart struct {
	*Part
	inHeader  bool
	boundary  string // of a multipart: "--" and its boundary; "" when it is none, or closed
	digest    bool   // its parts are messages unless they say otherwise (RFC 2046, 5.1.5)
	isMessage bool   // by default: a part of a digest
	bodyLine  int64  // line feeds before the body
}

// push opens a part that begins at offset at.
func (s *scanner) push(at int64) *Part {
	p := &openPart{Part: &Part{Start: at}, inHeader: true}
	s.open = append(s.open, p)
	s.parts++
	return p.Part
}

func (s *scanner) top() *openPart { return s.open[len(s.open)-1] }

func (s *scanner) run() error {
	atStart := true // of a line
	for {
		chunk, err := s.r.ReadSlice('\n')
		if len(chunk) > 0 {
			whole := atStart && err != bufio.ErrBufferFull
			if !whole || !s.delimiter(chunk) {
				s.text(chunk, whole)
			}
			s.offset += int64(len(chunk))
			if atStart = chunk[len(chunk)-1] == '\n'; atStart {
				s.lines++
			}
			if whole {
				s.afterLine(chunk)
			}
		}
		if err != nil && err != bufio.ErrBufferFull {
			s.closeFrom(0, s.offset, s.lines)
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}

// text takes a line, or a piece of a long one, that is no delimiter.
func (s *scanner) text(chunk []byte, whole bool) {
	p := s.top()
	if !p.inHeader {
		return
	}
	if room := MaxHeader - s.header; len(chunk) > room {
		chunk = chunk[:room]
	}
	p.Header = append(p.Header, chunk...)
	s.header += len(chunk)
}

// afterLine ends a header behind its empty line.
func (s *scanner) afterLine(line []byte) {
	if p := s.top(); p.inHeader && len(bytes.TrimRight(line, "\r\n")) == 0 && s.offset > p.Start {
		s.endHeader(p)
	}
}

// endHeader begins the body of a part at the present offset.
func (s *scanner) endHeader(p *openPart) {
	p.inHeader = false
	p.Body, p.bodyLine = s.offset, s.lines
	p.setType()
	if len(s.open) > MaxDepth || s.parts >= MaxParts {
		return
	}
	boundary := p.Params["boundary"]
	switch {
	case p.Type == "multipart" && boundary != "" && len(boundary) <= maxBoundary:
		p.boundary = "--" + boundary
		p.digest = p.Subtype == "digest"
	case p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global") && isIdentity(p.Encoding()):
		p.Message = s.push(s.offset)
	}
}

// isIdentity tells the encodings that leave the bytes as they are; only within these can there be parts (RFC 2046, 5.2.1).
func isIdentity(encoding string) bool {
	return encoding != "base64" && encoding != "quoted-printable"
}

func (p *openPart) setType() {
	value := p.Field("Content-Type")
	if value == "" {
		if p.isMessage {
			p.Type, p.Subtype = "message", "rfc822"
			return
		}
		p.Type, p.Subtype, p.Params = "text", "plain", map[string]string{"charset": "us-ascii"} // RFC 2045, 5.2
		return
	}
	mediaType, params := ParseValue(value)
	p.Type, p.Subtype, _ = strings.Cut(mediaType, "/")
	p.Params = params
	if p.Type == "" || p.Subtype == "" {
		p.Type, p.Subtype = "text", "plain"
	}
}

// delimiter handles a line that is a delimiter of an open multipart (RFC 2046, 5.1.1).
func (s *scanner) delimiter(line []byte) bool {
	if len(line) < 3 || line[0] != '-' || line[1] != '-' {
		return false
	}
	length := int64(len(line))
	line = bytes.TrimRight(line, " \t\r\n")
	for i := len(s.open) - 1; i >= 0; i-- {
		p := s.open[i]
		if p.boundary == "" || !bytes.HasPrefix(line, []byte(p.boundary)) {
			continue
		}
		switch string(line[len(p.boundary):]) {
		case "":
			if s.parts >= MaxParts {
				return false
			}
			s.closeFrom(i+1, s.offset, s.lines)
			p.Parts = append(p.Parts, s.push(s.offset+length))
			s.top().isMessage = p.digest
			return true
		case "--":
			s.closeFrom(i+1, s.offset, s.lines)
			p.boundary = ""
			return true
		}
	}
	return false
}

// closeFrom closes the parts from the i-th open one on, at the start of a line. Its line break belongs to the delimiter there
// (RFC 2046, 5.1.1), but at the end of all.
func (s *scanner) closeFrom(i int, at, line int64) {
	for j := len(s.open) - 1; j >= i; j-- {
		p := s.open[j]
		switch {
		case p.inHeader: // cut off
			p.Body = at
			if i > 0 {
				p.Body = max(p.Start, at-2)
			}
			p.End = p.Body
			p.setType()
		case i > 0 && at-2 >= p.Body:
			p.End, p.Lines = at-2, line-1-p.bodyLine
		case i > 0:
			p.End = p.Body
		default:
			p.End, p.Lines = at, line-p.bodyLine
		}
		if p.Type == "multipart" && len(p.Parts) == 0 {
			p.Type, p.Subtype, p.Params = "text", "plain", nil // no parts to be found
		}
	}
	s.open = s.open[:i]
}
