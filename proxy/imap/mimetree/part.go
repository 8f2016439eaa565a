package mimetree

import (
	"strings"
)

// Part is a message, or a part of one.
type Part struct {
	// Where it lies, in bytes from the message's start: its header, with the empty line, is [Start, Body), its body [Body, End).
	Start, Body, End int64

	Lines  int64  // line feeds in its body
	Header []byte // as it stands there; no more than MaxHeader bytes

	Type, Subtype string // lower case
	Params        map[string]string

	Parts   []*Part // of a multipart; others have none, multiparts one at least
	Message *Part   // in a message/rfc822 or message/global
}

// IsMultipart says whether p is made of parts.
func (p *Part) IsMultipart() bool { return len(p.Parts) > 0 }

// Size is the length of the body in bytes.
func (p *Part) Size() int64 { return p.End - p.Body }

// Find returns the part that IMAP's section numbers name in the message p (RFC 9051, 6.4.5.1), or nil.
func (p *Part) Find(path []int) *Part {
	if len(path) == 0 {
		return p
	}
	part := p.child(path[0])
	for _, n := range path[1:] {
		switch {
		case part == nil:
			return nil
		case part.Message != nil:
			part = part.Message.child(n)
		case part != p && part.IsMultipart():
			part = part.child(n)
		default:
			return nil
		}
	}
	return part
}

// child returns part n of a message or multipart. A message that is no multipart has itself as its part 1.
func (p *Part) child(n int) *Part {
	switch {
	case p.IsMultipart() && n >= 1 && n <= len(p.Parts):
		return p.Parts[n-1]
	case !p.IsMultipart() && n == 1:
		return p
	}
	return nil
}

// Field returns the value of the header's first field with that name, unfolded and trimmed; "" when there is none.
func (p *Part) Field(name string) string {
	for field := range Fields(p.Header) {
		if field.Is(name) {
			return field.Value()
		}
	}
	return ""
}

// Encoding returns the Content-Transfer-Encoding, lower case, "7bit" when there is none.
func (p *Part) Encoding() string {
	if e := strings.ToLower(p.Field("Content-Transfer-Encoding")); e != "" {
		return e
	}
	return "7bit"
}
