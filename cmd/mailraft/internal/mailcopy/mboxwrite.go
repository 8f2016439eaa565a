package mailcopy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// An mbox here is the kind called mboxrd: a line of a message that begins with any number of ">" and "From " gets one ">" more, which
// reading takes off again. Lines end in LF, as in every mbox on Unix, wherever reading can tell what they were; a message with line
// ends of several kinds goes in as it is.

// exportField is the first field of what Mailraft has written. It says how many fields that are not the message's stand behind it,
// whether the message's last line has an end, and the unique part of its name: so it comes back as it was, whatever it begins with.
const exportField = "X-Mailraft-Export"

// mark is what a mailbox knows of a message beside its octets.
type mark struct {
	unique   string
	letters  string   // flags of maildir(5)
	keywords []string // names
	recent   bool     // it lies in new/
	date     time.Time
}

// writeMbox appends a message, which is read twice.
func writeMbox(w *bufio.Writer, r io.ReadSeeker, m mark) error {
	form, err := formOf(r)
	if err != nil {
		return err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	fields := m.fields()
	fmt.Fprintf(w, "From MAILER-DAEMON %s\n", m.date.UTC().Format(time.ANSIC))
	fmt.Fprintf(w, "%s: fields=%d end=%d name=%s\n", exportField, len(fields), form.end(), hexed(m.unique))
	for _, f := range fields {
		w.WriteString(f + "\n")
	}
	br := bufio.NewReaderSize(r, 64<<10)
	begins, held := true, false // held: a CR that ended the last piece of a long line
	for {
		piece, err := br.ReadSlice('\n')
		if begins && fromAfter(piece) {
			w.WriteByte('>')
		}
		begins = err == nil
		if held && !(begins && len(piece) == 1) {
			w.WriteByte('\r')
		}
		held = false
		if n := len(piece); form.onlyCRLF && n > 0 {
			switch {
			case begins && n > 1:
				piece = append(piece[:n-2], '\n')
			case err == bufio.ErrBufferFull && piece[n-1] == '\r':
				piece, held = piece[:n-1], true
			}
		}
		w.Write(piece)
		if err == io.EOF {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
	if !form.ended {
		w.WriteByte('\n')
	}
	_, err = w.WriteString("\n") // of all that was written: a bufio.Writer keeps its error
	return err
}

// form is how a message's lines end.
type form struct {
	onlyCRLF bool // each behind one CR and no more
	ended    bool // the last one too
}

func (f form) end() int {
	if f.ended {
		return 1
	}
	return 0
}

func formOf(r io.Reader) (form, error) {
	f := form{onlyCRLF: true}
	var last [2]byte // octets before the next
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c == '\n' && (last[1] != '\r' || last[0] == '\r') {
				f.onlyCRLF = false
			}
			last[0], last[1] = last[1], c
		}
		if err == io.EOF {
			f.ended = last[1] == '\n'
			return f, nil
		}
		if err != nil {
			return f, err
		}
	}
}

// fromAfter tells whether a line begins with "From " behind any number of ">".
func fromAfter(line []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) }

// fields are the flags as mutt and Dovecot write them.
func (m *mark) fields() []string {
	var list []string
	status := ""
	if strings.Contains(m.letters, "S") {
		status = "R"
	}
	if !m.recent {
		status += "O"
	}
	if status != "" {
		list = append(list, "Status: "+status)
	}
	x := ""
	for _, p := range xStatus {
		if strings.Contains(m.letters, p.letter) {
			x += p.status
		}
	}
	if x != "" {
		list = append(list, "X-Status: "+x)
	}
	names := m.keywords
	if strings.Contains(m.letters, "P") {
		names = append([]string{forwarded}, names...)
	}
	if len(names) > 0 {
		list = append(list, "X-Keywords: "+strings.Join(names, " "))
	}
	return list
}

// forwarded is the keyword that the letter P, "passed", stands for.
const forwarded = "$Forwarded"

// xStatus are the letters of X-Status.
var xStatus = []struct{ letter, status string }{{"R", "A"}, {"F", "F"}, {"D", "T"}, {"T", "D"}}

// hexed writes what does not belong in a field as %XX.
func hexed(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
