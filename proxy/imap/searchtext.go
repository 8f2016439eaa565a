package imap

import (
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-message/charset"

	"mailraft/proxy/imap/mimetree"
)

// maxSearched bounds the text, in bytes, that a search looks at in one part of a message.
const maxSearched = 16 << 20

// searched is one message while a query looks at it. What it has read and decoded it keeps.
type searched struct {
	session *session
	place   int
	file    *content
	texts   []string // of its parts, decoded, in lower case
	decoded bool
}

func (t *searched) message() *message { return &t.session.view.messages[t.place] }

func (t *searched) close() {
	if t.file != nil {
		t.file.Close()
	}
}

func (t *searched) open() (*content, error) {
	if t.file == nil {
		c, err := t.session.content(t.place)
		if err != nil {
			return nil, err
		}
		t.file = c
	}
	return t.file, nil
}

func (t *searched) size() (int64, error) {
	if size := t.message().size; size >= 0 {
		return size, nil
	}
	c, err := t.open()
	if err != nil {
		return 0, err
	}
	return c.size, nil
}

func (t *searched) head() (*mimetree.Part, error) {
	c, err := t.open()
	if err != nil {
		return nil, err
	}
	return c.head()
}

// sent returns the Date field's time, zero when there is none that can be read.
func (t *searched) sent() (time.Time, error) {
	head, err := t.head()
	if err != nil {
		return time.Time{}, err
	}
	date, err := mail.ParseDate(head.Field("Date"))
	if err != nil {
		return time.Time{}, nil
	}
	return date, nil
}

// inHeader looks for words, in lower case, in the fields with that name, or in all whole fields for "". No words are in every
// field (RFC 9051, 6.4.4: HEADER).
func (t *searched) inHeader(name, words string) (bool, error) {
	head, err := t.head()
	if err != nil {
		return false, err
	}
	return headerHas(head.Header, name, words), nil
}

func headerHas(header []byte, name, words string) bool {
	for field := range mimetree.Fields(header) {
		if name != "" && !field.Is(name) {
			continue
		}
		value := strings.ToLower(decodeWords(field.Value()))
		if name == "" {
			value = strings.ToLower(field.Name()) + ": " + value
		}
		if strings.Contains(value, words) {
			return true
		}
	}
	return false
}

// decodeWords decodes encoded words (RFC 2047); what cannot be decoded stays as it is.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	decoder := mime.WordDecoder{CharsetReader: charset.Reader}
	if decoded, err := decoder.DecodeHeader(s); err == nil {
		return decoded
	}
	return s
}

// inBody looks for words, in lower case, in the text parts and in the headers of messages within.
func (t *searched) inBody(words string) (bool, error) {
	if !t.decoded {
		c, err := t.open()
		if err != nil {
			return false, err
		}
		root, err := c.parts()
		if err != nil {
			return false, err
		}
		t.collect(c, root)
		t.decoded = true
	}
	for _, text := range t.texts {
		if strings.Contains(text, words) {
			return true, nil
		}
	}
	return words == "", nil
}

// collect decodes the text parts below p.
func (t *searched) collect(c *content, p *mimetree.Part) {
	for _, child := range p.Parts {
		t.collect(c, child)
	}
	if p.Message != nil {
		var fields strings.Builder
		for field := range mimetree.Fields(p.Message.Header) {
			fields.WriteString(strings.ToLower(decodeWords(field.Value())) + "\n")
		}
		t.texts = append(t.texts, fields.String())
		t.collect(c, p.Message)
	}
	if p.Type != "text" {
		return
	}
	body, err := c.decoded(p)
	if err != nil {
		return // an encoding nobody knows: nothing to find in it
	}
	if converted, err := charset.Reader(strings.ToLower(p.Params["charset"]), body); err == nil {
		body = converted
	}
	text, _ := io.ReadAll(io.LimitReader(body, maxSearched)) // up to where it is malformed
	t.texts = append(t.texts, strings.ToLower(string(text)))
}
