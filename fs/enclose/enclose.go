// Package enclose shows a sealed message as a message that has it attached: a header, a few words for who reads it, and the age file,
// message.age, in base64 (RFC 2045, RFC 2046). It is for accounts whose private key the server never has.
//
// The head has the same size whatever is in it, so the size of the whole follows from that of the sealed form, and stays what it is. Of
// what is enclosed any part can be read without what lies before, and nothing is kept in memory.
//
// The package opens nothing and knows no key.
package enclose

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/mail"
	"strings"
	"time"
)

// Head is what the header tells.
type Head struct {
	Address string    // of the account
	Date    time.Time // of the message that is enclosed: when it came
	ID      string    // the Message-ID's part before the "@": another for each message
}

// Sizes in octets. These are stored, as parts of the sizes of files: they never change.
const (
	headSize = 2048
	lineRaw  = 57 // of the sealed form, in a line
	lineText = 76 + 2
	tailSize = int64(len(tail))
)

const (
	boundary = "=_mailraft_sealed"
	tail     = "--" + boundary + "--\r\n"
)

// words are the part for who reads it.
const words = `This message is sealed to a key of yours, which the mail server does not
have. The attachment, message.age, is the message. To read it, save it and
open it with age (https://age-encryption.org) and your private key:

    age -d -i key.txt message.age > message.eml
`

// Size is the size of what encloses a sealed form of so many octets.
func Size(sealed int64) int64 {
	whole, rest := sealed/lineRaw, sealed%lineRaw
	size := headSize + whole*lineText + tailSize
	if rest > 0 {
		size += int64(base64.StdEncoding.EncodedLen(int(rest))) + 2
	}
	return size
}

// text is the head: all before the base64. What it lacks to its size is made up by blanks in the preamble, which nobody shows.
func (h *Head) text() []byte {
	_, domain, _ := strings.Cut(h.Address, "@")
	begin := "Date: " + h.Date.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000") + "\r\n" +
		"From: " + (&mail.Address{Address: h.Address}).String() + "\r\n" +
		"Subject: Sealed message\r\n" +
		"Message-ID: <" + h.ID + "@" + domain + ">\r\n" +
		"MIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\r\n" +
		"\r\n"
	end := "\r\n--" + boundary + "\r\n" +
		"Content-Type: text/plain; charset=us-ascii\r\n" +
		"\r\n" +
		strings.ReplaceAll(words, "\n", "\r\n") +
		"\r\n--" + boundary + "\r\n" +
		"Content-Type: application/octet-stream; name=\"message.age\"\r\n" +
		"Content-Disposition: attachment; filename=\"message.age\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n" +
		"\r\n"
	b := make([]byte, 0, headSize)
	b = append(b, begin...)
	for lacks := headSize - len(begin) - len(end); lacks > 0; {
		line := strings.Repeat(" ", min(lacks, lineText))
		if lacks >= lineText {
			line = line[:lineText-2] + "\r\n"
		}
		b = append(b, line...)
		lacks -= len(line)
	}
	return append(b, end...)
}

// Reader reads what encloses a sealed form. It is safe for concurrent use if what it reads from is.
type Reader struct {
	head   []byte
	src    io.ReaderAt
	sealed int64
	size   int64
}

// New makes a Reader for the sealed octets of src, which must stay as they are while it is used.
func New(src io.ReaderAt, sealed int64, h Head) (*Reader, error) {
	r := &Reader{head: h.text(), src: src, sealed: sealed, size: Size(sealed)}
	if len(r.head) != headSize {
		return nil, fmt.Errorf("address %.40q is too long for the head of a sealed message", h.Address)
	}
	return r, nil
}

// Size is the size of all that can be read.
func (r *Reader) Size() int64 { return r.size }

// Close does nothing: what it reads from is the caller's to close.
func (r *Reader) Close() error { return nil }

// batch is how many lines are made at once.
const batch = 512

// ReadAt implements io.ReaderAt. Errors: io.EOF, those of what it reads from.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at offset %d", off)
	}
	for n < len(p) && off < r.size {
		piece, err := r.piece(off, len(p)-n)
		if err != nil {
			return n, err
		}
		copied := copy(p[n:], piece)
		n += copied
		off += int64(copied)
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// piece is what begins at an offset: one octet at least, and perhaps more than want.
func (r *Reader) piece(off int64, want int) ([]byte, error) {
	switch {
	case off < headSize:
		return r.head[off:], nil
	case off >= r.size-tailSize:
		return []byte(tail)[off-(r.size-tailSize):], nil
	}
	off -= headSize
	line, in := off/lineText, off%lineText
	lines := min(batch, (in+int64(want)+lineText-1)/lineText)
	raw := make([]byte, min(lines*lineRaw, r.sealed-line*lineRaw))
	if n, err := r.src.ReadAt(raw, line*lineRaw); n < len(raw) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read sealed content: %w", err)
	}
	text := make([]byte, 0, lines*lineText)
	for len(raw) > 0 {
		n := min(len(raw), lineRaw)
		text = base64.StdEncoding.AppendEncode(text, raw[:n])
		text = append(text, "\r\n"...)
		raw = raw[n:]
	}
	return text[in:], nil
}
