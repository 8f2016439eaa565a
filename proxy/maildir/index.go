package maildir

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// IndexName is the file name of a folder's index; with "@" and a decimal MODSEQ behind it, that of its changes.
const IndexName = ".mailraft-index"

// Index is a folder's contents at one moment, or what changed in it since an earlier one.
type Index struct {
	UIDValidity   uint32
	UIDNext       uint32
	HighestModSeq uint64
	Count         int        // messages in the folder
	Since         uint64     // 0: Messages is the whole folder; else it has only what changed after this MODSEQ
	Messages      []Message  // ascending by UID
	Vanished      []Vanished // ascending by UID; what was removed after Since
}

// Vanished is a message that was removed from the folder, or moved away.
type Vanished struct {
	UID    uint32
	ModSeq uint64
}

// ErrIndex is the error of an index that is not well-formed; test with errors.Is.
var ErrIndex = errors.New("maildir: malformed index")

// ReadIndex reads the index of the folder at dir, an absolute path.
func ReadIndex(dir string) (*Index, error) {
	return readIndex(dir + "/" + IndexName)
}

// ReadIndexSince reads what changed in the folder at dir after modSeq. The answer's Since is 0 when the folder no longer knows
// that: then it is the whole folder, and what it does not list is gone.
func ReadIndexSince(dir string, modSeq uint64) (*Index, error) {
	return readIndex(dir + "/" + IndexName + "@" + strconv.FormatUint(modSeq, 10))
}

func readIndex(path string) (*Index, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x, err := ParseIndex(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}

// ParseIndex reads an index. It accepts exactly what AppendText writes, byte for byte: numbers without leading zeros, names with
// nothing escaped that need not be, UIDs ascending and below uidnext, no MODSEQ above highestmodseq.
//
// The names share the memory of one text: keeping one keeps them all.
func ParseIndex(r io.Reader) (*Index, error) {
	text, err := readText(r)
	if err != nil {
		return nil, err
	}
	p := indexParser{rest: text}
	x := p.index()
	if p.bad {
		return nil, fmt.Errorf("%w: line %d", ErrIndex, p.line)
	}
	return x, nil
}

// readText reads all of r into one string, in large pieces.
func readText(r io.Reader) (string, error) {
	buf := make([]byte, 0, 64<<10)
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), 4*cap(buf))
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return unsafe.String(unsafe.SliceData(buf), len(buf)), nil // nobody writes to buf any more
		}
		if err != nil {
			return "", err
		}
	}
}

// indexParser reads an index text from its front. After the first mismatch bad is set, and what it returns means nothing.
type indexParser struct {
	rest string
	line int
	bad  bool
}

func (p *indexParser) index() *Index {
	p.line = 1
	x := &Index{}
	p.expect("#mailraft-index 1 uidvalidity=")
	x.UIDValidity = uint32(p.number(math.MaxUint32))
	p.expect(" uidnext=")
	x.UIDNext = uint32(p.number(math.MaxUint32))
	p.expect(" highestmodseq=")
	x.HighestModSeq = p.number(math.MaxUint64)
	p.expect(" messages=")
	x.Count = int(p.number(math.MaxUint32))
	p.expect(" since=")
	x.Since = p.number(math.MaxUint64)
	p.expect("\n")
	if p.bad {
		return x
	}

	x.Messages = make([]Message, 0, min(x.Count, len(p.rest)/len("1 1 0 0 cur/x\n")))
	for p.rest != "" && p.rest[0] != 'v' && !p.bad {
		p.line++
		m := p.message()
		if n := len(x.Messages); n > 0 && m.UID <= x.Messages[n-1].UID || !x.holds(m.UID, m.ModSeq) {
			p.bad = true
		}
		x.Messages = append(x.Messages, m)
	}
	for p.rest != "" && !p.bad {
		p.line++
		v := p.vanished()
		if n := len(x.Vanished); n > 0 && v.UID <= x.Vanished[n-1].UID || !x.holds(v.UID, v.ModSeq) || x.Since == 0 {
			p.bad = true
		}
		x.Vanished = append(x.Vanished, v)
	}
	if len(x.Messages) > x.Count || x.Since == 0 && len(x.Messages) != x.Count {
		p.bad = true
	}
	return x
}

// holds says whether a line about uid with that MODSEQ can stand in this index.
func (x *Index) holds(uid uint32, modSeq uint64) bool {
	return uid > 0 && uid < x.UIDNext && modSeq > x.Since && modSeq <= x.HighestModSeq
}

func (p *indexParser) message() Message {
	var m Message
	m.UID = uint32(p.number(math.MaxUint32))
	p.expect(" ")
	m.ModSeq = p.number(math.MaxUint64)
	p.expect(" ")
	m.Size = int64(p.number(math.MaxInt64))
	p.expect(" ")
	m.Date = p.date()
	p.expect(" ")
	m.Name = p.name()
	p.expect("\n")
	return m
}

func (p *indexParser) vanished() Vanished {
	var v Vanished
	p.expect("vanished ")
	v.UID = uint32(p.number(math.MaxUint32))
	p.expect(" ")
	v.ModSeq = p.number(math.MaxUint64)
	p.expect("\n")
	return v
}

func (p *indexParser) expect(s string) {
	if !strings.HasPrefix(p.rest, s) {
		p.bad = true
		return
	}
	p.rest = p.rest[len(s):]
}

// number reads a decimal number without sign and leading zeros.
func (p *indexParser) number(limit uint64) uint64 {
	var n uint64
	i := 0
	for ; i < len(p.rest); i++ {
		c := p.rest[i] - '0'
		if c > 9 {
			break
		}
		if n > (limit-uint64(c))/10 {
			p.bad = true
			return 0
		}
		n = n*10 + uint64(c)
	}
	if i == 0 || i > 1 && p.rest[0] == '0' {
		p.bad = true
		return 0
	}
	p.rest = p.rest[i:]
	return n
}

// date reads unix seconds, which may lie before 1970.
func (p *indexParser) date() time.Time {
	if !strings.HasPrefix(p.rest, "-") {
		return time.Unix(int64(p.number(math.MaxInt64)), 0)
	}
	p.rest = p.rest[1:]
	n := p.number(math.MaxInt64)
	if n == 0 {
		p.bad = true
	}
	return time.Unix(-int64(n), 0)
}

// name reads the rest of the line, "cur/..." or "new/...".
func (p *indexParser) name() string {
	end := strings.IndexByte(p.rest, '\n')
	if end < 0 {
		p.bad = true
		return ""
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	if strings.IndexByte(name, '\\') >= 0 {
		name = p.unescape(name)
	} else if strings.IndexByte(name, '\r') >= 0 {
		p.bad = true
	}
	if !isMessageName(name) {
		p.bad = true
	}
	return name
}

// isMessageName says whether name is a file right below cur/ or new/.
func isMessageName(name string) bool {
	file, ok := strings.CutPrefix(name, "cur/")
	if !ok {
		file, ok = strings.CutPrefix(name, "new/")
	}
	return ok && file != "" && file != "." && file != ".." &&
		strings.IndexByte(file, '/') < 0 && strings.IndexByte(file, 0) < 0
}

func (p *indexParser) unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\r':
			p.bad = true
		case c == '\\':
			i++
			switch {
			case i < len(s) && s[i] == 'n':
				c = '\n'
			case i < len(s) && s[i] == 'r':
				c = '\r'
			case i < len(s) && s[i] == '\\':
			default:
				p.bad = true
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

var nameEscaper = strings.NewReplacer("\n", `\n`, "\r", `\r`, `\`, `\\`)

// AppendText appends the index in the form that ParseIndex reads. The error is always nil.
func (x *Index) AppendText(b []byte) ([]byte, error) {
	b = fmt.Appendf(b, "#mailraft-index 1 uidvalidity=%d uidnext=%d highestmodseq=%d messages=%d since=%d\n",
		x.UIDValidity, x.UIDNext, x.HighestModSeq, x.Count, x.Since)
	for _, m := range x.Messages {
		b = fmt.Appendf(b, "%d %d %d %d %s\n", m.UID, m.ModSeq, m.Size, m.Date.Unix(), nameEscaper.Replace(m.Name))
	}
	for _, v := range x.Vanished {
		b = fmt.Appendf(b, "vanished %d %d\n", v.UID, v.ModSeq)
	}
	return b, nil
}
