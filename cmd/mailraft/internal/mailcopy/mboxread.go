package mailcopy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// mboxReader reads the messages of an mbox, one after the other.
type mboxReader struct {
	r     *bufio.Reader
	date  time.Time // of the message that is being read
	ready []byte    // what Read gives next
	blank []byte    // an empty line, which belongs to the message unless a separator follows
	begin bool      // the next octet of r begins a line
	over  bool      // the message
	next  time.Time // of the message whose separator was read; zero: none
	err   error     // of r
}

// newMboxReader begins to read: an error when it does not begin as an mbox does.
func newMboxReader(r io.Reader) (*mboxReader, error) {
	m := &mboxReader{r: bufio.NewReaderSize(r, 64<<10), over: true}
	for {
		line, err := m.r.ReadSlice('\n')
		if err == io.EOF && len(bytes.TrimSpace(line)) == 0 {
			m.err = io.EOF
			return m, nil // an empty mbox
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("no mbox: %w", err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		date, ok := separator(line)
		if !ok {
			return nil, fmt.Errorf("no mbox: it does not begin with a line \"From SENDER DATE\"")
		}
		m.next = date
		return m, nil
	}
}

// Next goes to the next message: io.EOF behind the last.
func (m *mboxReader) Next() error {
	if _, err := io.Copy(io.Discard, m); err != nil {
		return err
	}
	if m.next.IsZero() {
		return io.EOF
	}
	m.date, m.next = m.next, time.Time{}
	m.over, m.begin, m.blank, m.ready = false, true, nil, nil
	return nil
}

// Read implements io.Reader: the message's octets.
func (m *mboxReader) Read(p []byte) (int, error) {
	for len(m.ready) == 0 {
		if m.over {
			if m.err != nil && m.err != io.EOF {
				return 0, m.err
			}
			return 0, io.EOF
		}
		m.line()
	}
	n := copy(p, m.ready)
	m.ready = m.ready[n:]
	return n, nil
}

// line reads one line, or the next part of a long one.
func (m *mboxReader) line() {
	piece, err := m.r.ReadSlice('\n')
	if err != nil && err != bufio.ErrBufferFull {
		m.err, m.over = err, true
		if len(piece) == 0 { // the empty line before it was the separator's
			return
		}
	}
	begins := m.begin
	m.begin = err == nil
	if begins {
		if date, ok := separator(piece); ok {
			m.next, m.over = date, true
			return
		}
		if err == nil && len(bytes.TrimRight(piece, "\r\n")) == 0 {
			m.ready = m.blank // of two empty lines the first is the message's
			m.blank = append([]byte(nil), piece...)
			return
		}
		if piece[0] == '>' && fromAfter(piece) {
			piece = piece[1:]
		}
	}
	if m.blank != nil {
		m.ready, m.blank = append(m.blank, piece...), nil
		return
	}
	m.ready = piece // good until r is read again, which is when all of it was given
}

// separator reads the line before a message: "From SENDER DATE", where mail programs disagree on the sender, the time zone, and
// whether there are seconds (RFC 4155, appendix A).
func separator(line []byte) (time.Time, bool) {
	rest, ok := bytes.CutPrefix(line, []byte("From "))
	if !ok || len(line) > 1000 {
		return time.Time{}, false
	}
	words := strings.Fields(string(rest))
	for i := range words {
		for n := min(len(words)-i, 7); n >= 4; n-- {
			text := strings.Join(words[i:i+n], " ")
			for _, layout := range separatorDates {
				if t, err := time.Parse(layout, text); err == nil && t.Unix() != (time.Time{}).Unix() {
					return t, true
				}
			}
		}
	}
	return time.Time{}, false
}

var separatorDates = []string{
	"Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04:05 2006 -0700", "Mon Jan 2 15:04:05 -0700 2006", "Mon Jan 2 15:04:05 MST 2006",
	"Mon Jan 2 15:04 2006", "Mon Jan 2 15:04 MST 2006", "Mon, 2 Jan 2006 15:04:05 -0700",
}

// maxHead is how much of a message is looked at for the fields that are the mailbox's.
const maxHead = 256 << 10

// takeMark reads what the mailbox says of a message, and answers the message without that. internal: it is none, but a program's note
// to itself.
func takeMark(r io.Reader, head *bufio.Reader, date time.Time) (m mark, body io.Reader, internal bool) {
	m.date = date
	head.Reset(r)
	seen, _ := head.Peek(maxHead)
	if first, _, ok := bytes.Cut(seen, []byte("\n")); ok && bytes.HasPrefix(first, []byte(exportField+": ")) {
		return m.ours(head, string(first))
	}
	var kept []byte
	rest := seen
	status, keep := "", true
	for len(rest) > 0 {
		n := bytes.IndexByte(rest, '\n') + 1
		if n == 0 || len(bytes.TrimRight(rest[:n], "\r\n")) == 0 {
			break
		}
		line := rest[:n]
		rest = rest[n:]
		if line[0] != ' ' && line[0] != '\t' {
			name, value, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), ":")
			value = strings.TrimSpace(value)
			switch strings.ToLower(name) {
			case "status", "x-status", "x-keywords":
				keep = false
				status += m.take(strings.ToLower(name), value)
			case "x-uid":
				keep = false
			case "x-imap", "x-imapbase": // Dovecot, Pine: the mailbox's UIDs
				keep = false
				internal = internal || strings.EqualFold(name, "x-imap")
			default:
				keep = true
			}
		}
		if keep {
			kept = append(kept, line...)
		}
	}
	m.recent = !strings.Contains(status, "O") && m.letters == ""
	head.Discard(len(seen) - len(rest))
	return m, io.MultiReader(bytes.NewReader(kept), head), internal
}

// take reads one of the fields, and answers what a Status says.
func (m *mark) take(name, value string) (status string) {
	switch name {
	case "status":
		if strings.Contains(value, "R") {
			m.letters += "S"
		}
		return value
	case "x-status":
		for _, p := range xStatus {
			if strings.Contains(value, p.status) {
				m.letters += p.letter
			}
		}
	case "x-keywords":
		for _, k := range strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
			switch {
			case strings.EqualFold(k, forwarded):
				m.letters += "P"
			case isKeyword(k):
				m.keywords = append(m.keywords, k)
			}
		}
	}
	return ""
}

// ours reads what Mailraft has written; head stands at its first field.
func (m mark) ours(head *bufio.Reader, first string) (mark, io.Reader, bool) {
	var fields, end int
	var name string
	fmt.Sscanf(first, exportField+": fields=%d end=%d name=%s", &fields, &end, &name)
	head.Discard(len(first) + 1)
	status := ""
	for range min(fields, 3) {
		line, err := head.ReadString('\n')
		if err != nil {
			break
		}
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		status += m.take(strings.ToLower(name), value)
	}
	m.recent = !strings.Contains(status, "O") && m.letters == ""
	m.unique, _ = url.PathUnescape(name)
	if strings.ContainsAny(m.unique, "/:,\x00") || strings.HasPrefix(m.unique, ".") {
		m.unique = ""
	}
	if end == 0 {
		return m, &unended{r: head}, false
	}
	return m, head, false
}

// unended gives all but the last line feed.
type unended struct {
	r    io.Reader
	held bool // a line feed that may be the last
}

func (u *unended) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(p) == 1 {
		var two [2]byte
		n, err := u.Read(two[:])
		if n > len(p) { // only with p of one octet: the second waits
			copy(p, two[:1])
			u.r = io.MultiReader(bytes.NewReader(two[1:n]), u.r)
			return 1, nil
		}
		return copy(p, two[:n]), err
	}
	n, err := u.r.Read(p[1:])
	if n == 0 {
		return 0, err // what is held is the last
	}
	from := 1
	if u.held {
		p[0], from = '\n', 0
	}
	u.held = p[n] == '\n'
	end := n + 1
	if u.held {
		end--
	}
	if from == 1 {
		copy(p, p[1:end])
	}
	return end - from, nil
}
