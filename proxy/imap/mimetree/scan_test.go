package mimetree

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func parse(t testing.TB, text string) *Part {
	t.Helper()
	p, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// outline writes a tree as text: types, and bodies of leaves.
func outline(text string, p *Part) string {
	name := p.Type + "/" + p.Subtype
	switch {
	case p.IsMultipart():
		var parts []string
		for _, c := range p.Parts {
			parts = append(parts, outline(text, c))
		}
		return name + "[" + strings.Join(parts, " ") + "]"
	case p.Message != nil:
		return name + "(" + outline(text, p.Message) + ")"
	}
	return fmt.Sprintf("%s%q%d", name, text[p.Body:p.End], p.Lines)
}

func TestParse(t *testing.T) {
	const mixed = "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", `text/plain""0`},
		{"body only", "\r\nhello\r\n", `text/plain"hello\r\n"1`},
		{"header only", "Subject: x\r\n", `text/plain""0`},
		{"header without end", "Subject: x", `text/plain""0`},
		{"header and line", "Subject: x\r\n\r\n", `text/plain""0`},
		{"simple", mixed + "--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\nlines\r\n--b--\r\n", `multipart/mixed[text/plain"one"0 text/plain"two\r\nlines"1]`},
		{"no end", mixed + "--b\r\n\r\none\r\n", `multipart/mixed[text/plain"one\r\n"1]`},
		{"no parts", mixed + "nothing here\r\n", `text/plain"nothing here\r\n"1`},
		{"no boundary", "Content-Type: multipart/mixed\r\n\r\nx\r\n", `text/plain"x\r\n"1`},
		{"only an end", mixed + "--b--\r\n", `text/plain"--b--\r\n"1`},
		{"empty part", mixed + "--b\r\n--b--\r\n", `multipart/mixed[text/plain""0]`},
		{"part without empty line", mixed + "--b\r\nContent-Type: text/html\r\n--b--\r\n", `multipart/mixed[text/html""0]`},
		{"space behind delimiters", mixed + "--b \t\r\n\r\none\r\n--b--  \r\n", `multipart/mixed[text/plain"one"0]`},
		{"longer is no delimiter", mixed + "--b\r\n\r\n--bc\r\n--b--\r\n", `multipart/mixed[text/plain"--bc"0]`},
		{"not at a line's start", mixed + "--b\r\n\r\nx --b\r\n--b--\r\n", `multipart/mixed[text/plain"x --b"0]`},
		{"empty body", mixed + "--b\r\n\r\n--b--\r\n", `multipart/mixed[text/plain""0]`},
		{"inner without end", mixed + "--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n",
			`multipart/mixed[multipart/alternative[text/plain"x"0] text/plain"y"0]`},
		{"digest", "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\nhi\r\n--b--\r\n",
			`multipart/digest[message/rfc822(text/plain"hi"0)]`},
		{"message", "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nhi", `message/rfc822(text/plain"hi"0)`},
		{"encoded message", "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n", `message/rfc822"eA==\r\n"1`},
		{"delimiter behind the end", mixed + "--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\ntwo\r\n", `multipart/mixed[text/plain"one"0]`},
		{"nonsense type", "Content-Type: ;;;\r\n\r\nx", `text/plain"x"0`},
		{"type of one word", "Content-Type: text\r\n\r\nx", `text/plain"x"0`},
		{"malformed parameters", "Content-Type: multipart/mixed; boundary=\"b; x=y=z; x=1\r\n\tboundary=b\r\n\r\nx", `text/plain"x"0`},
		{"double parameters", "Content-Type: multipart/mixed; boundary=b; boundary=c\r\n\r\n--b\r\n\r\nx\r\n--b--", `multipart/mixed[text/plain"x"0]`},
		{"folded", "Content-Type: multipart/mixed;\r\n\tboundary=\"b\"\r\n\r\n--b\r\n\r\nx\r\n--b--", `multipart/mixed[text/plain"x"0]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := outline(test.text, parse(t, test.text)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestParseReadsErrors(t *testing.T) {
	boom := errors.New("boom")
	if _, err := Parse(iotest.ErrReader(boom)); err != boom {
		t.Errorf("Parse: %v", err)
	}
	if _, err := ParseHeader(iotest.ErrReader(boom), 1); err != boom {
		t.Errorf("ParseHeader: %v", err)
	}
}

// Hostile messages cost no more than their length.
func TestLimits(t *testing.T) {
	var deep bytes.Buffer
	for n := range 20_000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", n, n)
	}
	messages := strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100_000)
	wide := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 100_000)
	header := "Subject: " + strings.Repeat("x", 5<<20) + "\r\n\r\nbody"
	prefix := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b ", 1<<20)
	start := time.Now()
	for _, text := range []string{deep.String(), messages, wide, header, prefix, strings.Repeat("--\r\n", 1<<18)} {
		p := parse(t, text)
		depth, parts := measure(p)
		if depth > MaxDepth+2 || parts > MaxParts+1 {
			t.Errorf("%d deep, %d parts", depth, parts)
		}
		if len(p.Header) > MaxHeader {
			t.Errorf("header of %d bytes kept", len(p.Header))
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func measure(p *Part) (depth, parts int) {
	depth, parts = 1, 1
	children := p.Parts
	if p.Message != nil {
		children = append(children, p.Message)
	}
	for _, c := range children {
		d, n := measure(c)
		depth, parts = max(depth, d+1), parts+n
	}
	return depth, parts
}

func FuzzParse(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n")
	f.Add("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nhi")
	f.Add("Content-Type: multipart/digest; boundary=\"b\"\r\n\r\n--b\r\n\r\nA: b\r\n\r\nc\r\n--b--")
	f.Add("\r\n\r\n--\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := parse(t, text)
		check(t, p, 0, int64(len(text)))
		if p.Start != 0 || p.End != int64(len(text)) {
			t.Errorf("message is [%d,%d) of %d", p.Start, p.End, len(text))
		}
		h, err := ParseHeader(strings.NewReader(text), int64(len(text)))
		if err != nil || h.Body != p.Body || h.End != p.End || !bytes.Equal(h.Header, p.Header) {
			t.Errorf("header alone: %+v, whole: %+v, %v", h, p, err)
		}
	})
}

// check makes sure that all places lie within each other and in order.
func check(t *testing.T, p *Part, from, to int64) {
	if p.Start < from || p.Body < p.Start || p.End < p.Body || p.End > to || p.Lines < 0 {
		t.Fatalf("part [%d,%d,%d) with %d lines in [%d,%d)", p.Start, p.Body, p.End, p.Lines, from, to)
	}
	at := p.Body
	for _, c := range p.Parts {
		check(t, c, at, p.End)
		at = c.End
	}
	if p.Message != nil {
		check(t, p.Message, p.Body, p.End)
	}
	if p.Type == "" || p.Subtype == "" {
		t.Fatalf("type %q/%q", p.Type, p.Subtype)
	}
}
