package smtp

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// undot says in the plainest way what DATA means: lines end in CRLF, a line of one dot ends it, another line's first dot goes.
func undot(wire string) (text, rest string, done bool) {
	for {
		end := strings.Index(wire, "\r\n")
		if end < 0 {
			return text, "", false
		}
		line := wire[:end]
		wire = wire[end+2:]
		if line == "." {
			return text, wire, true
		}
		text += strings.TrimPrefix(line, ".") + "\r\n"
	}
}

func TestDotDecoder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wire := string(rapid.SliceOf(rapid.SampledFrom([]byte("\r\r\n\n..a"))).Draw(t, "wire")) + "\r\n.\r\nNOOP\r\n"
		want, wantRest, _ := undot(wire)
		var d dotDecoder
		var text, pending []byte
		rest := wire
		for done := false; !done; {
			step := min(rapid.IntRange(1, 6).Draw(t, "step"), len(rest))
			if step == 0 {
				t.Fatalf("no end, %q", text)
			}
			pending = append(pending, rest[:step]...)
			rest = rest[step:]
			var consumed int
			consumed, done = d.decode(pending, func(p []byte) { text = append(text, p...) })
			pending = bytes.Clone(pending[consumed:])
			if len(pending) > 2 && !done {
				t.Fatalf("%q is left", pending)
			}
		}
		if string(text) != want || string(pending)+rest != wantRest {
			t.Fatalf("%q, rest %q; want %q, rest %q", text, string(pending)+rest, want, wantRest)
		}
	})
}

// What transfer stores is what was written, with every bare LF made CRLF, however it was cut.
func TestTransferLineEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []byte
		x := newTransfer(nil, true, 1<<20)
		defer x.abort()
		for _, p := range rapid.SliceOf(rapid.SliceOf(rapid.SampledFrom([]byte("\r\n\n\rab")))).Draw(t, "pieces") {
			all = append(all, p...)
			x.write(p)
		}
		var plain []byte
		for i, c := range all {
			if c == '\n' && (i == 0 || all[i-1] != '\r') {
				plain = append(plain, '\r')
			}
			plain = append(plain, c)
		}
		if got := string(x.chunk[headroom : headroom+x.n]); got != string(plain) {
			t.Fatalf("%q, want %q", got, plain)
		}
	})
}

func TestHopCounter(t *testing.T) {
	header := "Received: a\r\n received: folded\r\nX-Received: b\r\nReceived:\r\nReceive: c\r\nRECEIVED: d\r\n\r\nReceived: body\r\n"
	for step := 1; step <= len(header); step++ {
		var h hopCounter
		for rest := header; rest != ""; rest = rest[min(step, len(rest)):] {
			h.write([]byte(rest[:min(step, len(rest))]))
		}
		if h.hops != 3 || !h.body {
			t.Errorf("steps of %d: %d hops", step, h.hops)
		}
	}
}
