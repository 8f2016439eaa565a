package imap

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/imap/mimetree"
)

// section is what BODY[...] stands for in one message: a range of it, or, for chosen header fields, bytes of its own.
type section struct {
	from, to int64
	fields   []byte
	filtered bool
}

func (s *section) size() int64 {
	if s.filtered {
		return int64(len(s.fields))
	}
	return s.to - s.from
}

// section finds what BODY[...] stands for (RFC 9051, 6.4.5.1). A part that does not exist is empty: the library cannot say NIL.
func (c *content) bodySection(item *imap.FetchItemBodySection) (*section, error) {
	out := &section{to: c.size}
	if len(item.Part) > 0 || item.Specifier != imap.PartSpecifierNone {
		var err error
		if out, err = c.partSection(item); err != nil {
			return nil, err
		}
	}
	if p := item.Partial; p != nil {
		size := out.size()
		offset := min(max(p.Offset, 0), size)
		length := min(max(p.Size, 0), size-offset)
		if out.filtered {
			out.fields = out.fields[offset : offset+length]
		} else {
			out.from, out.to = out.from+offset, out.from+offset+length
		}
	}
	return out, nil
}

func (c *content) partSection(item *imap.FetchItemBodySection) (*section, error) {
	nothing := &section{}
	if len(item.Part) == 0 {
		m, err := c.head()
		if err != nil {
			return nil, err
		}
		return messageSection(m, item), nil
	}
	root, err := c.parts()
	if err != nil {
		return nil, err
	}
	part := root.Find(item.Part)
	if part == nil {
		return nothing, nil
	}
	switch item.Specifier {
	case imap.PartSpecifierNone:
		return &section{from: part.Body, to: part.End}, nil
	case imap.PartSpecifierMIME:
		return &section{from: part.Start, to: part.Body}, nil
	default: // HEADER and TEXT are those of a message within
		if part.Message == nil {
			return nothing, nil
		}
		return messageSection(part.Message, item), nil
	}
}

// messageSection finds HEADER, HEADER.FIELDS and TEXT of a message.
func messageSection(m *mimetree.Part, item *imap.FetchItemBodySection) *section {
	switch {
	case item.Specifier == imap.PartSpecifierText:
		return &section{from: m.Body, to: m.End}
	case len(item.HeaderFields) > 0:
		return &section{filtered: true, fields: chooseFields(m.Header, item.HeaderFields, true)}
	case len(item.HeaderFieldsNot) > 0:
		return &section{filtered: true, fields: chooseFields(m.Header, item.HeaderFieldsNot, false)}
	}
	return &section{from: m.Start, to: m.Body}
}

// chooseFields returns the fields whose name is in names, or is not, and an empty line (RFC 9051, 6.4.5.1).
func chooseFields(header []byte, names []string, in bool) []byte {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[strings.ToLower(name)] = true
	}
	var out []byte
	for field := range mimetree.Fields(header) {
		if wanted[strings.ToLower(field.Name())] == in {
			out = append(out, field...)
		}
	}
	if len(out) > 0 && !bytes.HasSuffix(out, []byte("\n")) {
		out = append(out, "\r\n"...)
	}
	return append(out, "\r\n"...)
}

// write copies a section to a literal of its size.
func (c *content) write(w io.WriteCloser, s *section) error {
	var err error
	switch {
	case s.filtered:
		_, err = w.Write(s.fields)
	case c.small != nil:
		_, err = w.Write(c.small.Bytes()[s.from:s.to])
	default:
		buf := largeBuffers.Get().(*[64 << 10]byte)
		defer largeBuffers.Put(buf)
		var n int64
		n, err = io.CopyBuffer(onlyWriter{w}, c.section(s.from, s.to), buf[:])
		if err == nil && n != s.size() {
			err = fmt.Errorf("imap: message is %d bytes shorter than its name says", s.size()-n)
		}
	}
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	return err
}
