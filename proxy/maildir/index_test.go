package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const fullIndex = `#mailraft-index 1 uidvalidity=1764000000 uidnext=42 highestmodseq=991 messages=3 since=0
7 991 5120 1764000123 cur/1764000123.M1P2.host,S=5120,W=5120:2,FS
9 12 0 -5 new/with space and \\ and \n and \r
41 990 9223372036854775807 0 cur/x
`

const changesIndex = `#mailraft-index 1 uidvalidity=1764000000 uidnext=42 highestmodseq=991 messages=30 since=900
7 991 5120 1764000123 cur/1764000123.M1P2.host,S=5120,W=5120:2,S
vanished 8 901
vanished 40 950
`

func TestParseIndex(t *testing.T) {
	got, err := ParseIndex(strings.NewReader(fullIndex))
	if err != nil {
		t.Fatal(err)
	}
	want := &Index{
		UIDValidity: 1764000000, UIDNext: 42, HighestModSeq: 991, Count: 3,
		Messages: []Message{
			{7, 991, 5120, time.Unix(1764000123, 0), "cur/1764000123.M1P2.host,S=5120,W=5120:2,FS"},
			{9, 12, 0, time.Unix(-5, 0), "new/with space and \\ and \n and \r"},
			{41, 990, 1<<63 - 1, time.Unix(0, 0), "cur/x"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	got, err = ParseIndex(strings.NewReader(changesIndex))
	if err != nil {
		t.Fatal(err)
	}
	if got.Since != 900 || got.Count != 30 || len(got.Messages) != 1 {
		t.Errorf("header or messages: %+v", got)
	}
	if diff := cmp.Diff([]Vanished{{8, 901}, {40, 950}}, got.Vanished); diff != "" {
		t.Error(diff)
	}
}

// Every line of an index in which one thing is wrong.
func TestParseIndexRefuses(t *testing.T) {
	header := "#mailraft-index 1 uidvalidity=1 uidnext=10 highestmodseq=20 messages=1 since=0\n"
	since := strings.Replace(header, "since=0", "since=5", 1)
	for name, text := range map[string]string{
		"nothing":                 "",
		"no end of header":        strings.TrimSuffix(header, "\n"),
		"other version":           strings.Replace(header, " 1 ", " 2 ", 1) + "1 1 1 1 cur/x\n",
		"leading zero":            header + "01 1 1 1 cur/x\n",
		"sign":                    header + "+1 1 1 1 cur/x\n",
		"minus zero":              header + "1 1 1 -0 cur/x\n",
		"uid 0":                   header + "0 1 1 1 cur/x\n",
		"uid at uidnext":          header + "10 1 1 1 cur/x\n",
		"uid too large":           header + "4294967297 1 1 1 cur/x\n",
		"modseq too high":         header + "1 21 1 1 cur/x\n",
		"modseq 0":                header + "1 0 1 1 cur/x\n",
		"modseq of before":        since + "1 5 1 1 cur/x\n",
		"negative size":           header + "1 1 -1 1 cur/x\n",
		"size too large":          header + "1 1 9223372036854775808 1 cur/x\n",
		"two spaces":              header + "1 1 1  1 cur/x\n",
		"no name":                 header + "1 1 1 1 cur/\n",
		"other directory":         header + "1 1 1 1 tmp/x\n",
		"way out":                 header + "1 1 1 1 cur/../../x\n",
		"parent":                  header + "1 1 1 1 cur/..\n",
		"NUL":                     header + "1 1 1 1 cur/x\x00\n",
		"bare CR":                 header + "1 1 1 1 cur/x\r\n",
		"unknown escape":          header + "1 1 1 1 cur/\\x\n",
		"half an escape":          header + "1 1 1 1 cur/x\\\n",
		"escape and bare CR":      header + "1 1 1 1 cur/\\\\\r\n",
		"no line end":             header + "1 1 1 1 cur/x",
		"too few":                 header,
		"too many":                header + "1 1 1 1 cur/x\n2 1 1 1 cur/y\n",
		"too many, since":         since + "1 6 1 1 cur/x\n2 6 1 1 cur/y\n",
		"same uid":                strings.Replace(header, "messages=1", "messages=2", 1) + "1 1 1 1 cur/x\n1 1 1 1 cur/y\n",
		"vanished in whole":       header + "1 1 1 1 cur/x\nvanished 2 1\n",
		"message behind vanished": since + "vanished 2 6\n3 6 1 1 cur/x\n",
		"vanished descending":     since + "vanished 2 6\nvanished 1 6\n",
	} {
		if _, err := ParseIndex(strings.NewReader(text)); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestReadIndex(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".mailraft-index"), []byte(fullIndex), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".mailraft-index@900"), []byte(changesIndex), 0o600); err != nil {
		t.Fatal(err)
	}
	if x, err := ReadIndex(dir); err != nil || x.Since != 0 || len(x.Messages) != 3 {
		t.Errorf("%+v, %v", x, err)
	}
	if x, err := ReadIndexSince(dir, 900); err != nil || x.Since != 900 || len(x.Vanished) != 2 {
		t.Errorf("%+v, %v", x, err)
	}
	if _, err := ReadIndexSince(dir, 901); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestMessageName(t *testing.T) {
	for _, c := range []struct {
		name, flags, key string
		size             int64
		known            bool
	}{
		{"cur/1.M1.host,S=10,W=12:2,FS", "FS", "1.M1.host,S=10,W=12", 12, true},
		{"cur/1.M1.host,W=12,S=10:2,", "", "1.M1.host,W=12,S=10", 12, true},
		{"cur/1.M1.host,S=11,W=12:2,", "", "1.M1.host,S=11,W=12", 0, false}, // it is not what was written
		{"new/1.M1.host,S=10", "", "1.M1.host,S=10", 0, false},
		{"new/1.M1.host,W=,W=x,W=-1,W=7", "", "1.M1.host,W=,W=x,W=-1,W=7", 7, true},
		{"cur/1.host:2,S,W=5", "S,W=5", "1.host", 0, false},
		{"new/1.host,W=99999999999999999999", "", "1.host,W=99999999999999999999", 0, false},
	} {
		m := Message{Name: c.name, Size: 10}
		size, known := m.VirtualSize()
		if m.Flags() != c.flags || m.Key() != c.key || size != c.size || known != c.known {
			t.Errorf("%s: flags %q, key %q, size %d %v", c.name, m.Flags(), m.Key(), size, known)
		}
	}
}

// FuzzIndexMalleability: what can be read has one encoding only, the one that AppendText writes.
func FuzzIndexMalleability(f *testing.F) {
	f.Add(fullIndex)
	f.Add(changesIndex)
	f.Add(strings.ReplaceAll(fullIndex, `\n`, `\\n`))
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseIndex(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrIndex) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := x.AppendText(nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, string(again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// largeIndex has n messages with names as our own deliveries have them.
func largeIndex(n int) string {
	x := &Index{UIDValidity: 1764000000, UIDNext: uint32(n) + 1, HighestModSeq: 1 << 40, Count: n}
	for i := range n {
		x.Messages = append(x.Messages, Message{
			UID: uint32(i + 1), ModSeq: uint64(1<<39 + i), Size: 20480, Date: time.Unix(1764000000+int64(i), 0),
			Name: fmt.Sprintf("cur/%d.M123456P4242Q%dR0123456789abcdef.host,S=20480,W=20480:2,S", 1764000000+i, i),
		})
	}
	text, _ := x.AppendText(nil)
	return string(text)
}

func BenchmarkParseIndex100000(b *testing.B) {
	text := largeIndex(100_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseIndex(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
