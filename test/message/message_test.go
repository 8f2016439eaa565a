package message

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestCanonical(t *testing.T) {
	for raw, want := range map[string]string{
		"":               "",
		"a":              "a\r\n",
		"a\n":            "a\r\n",
		"a\r":            "a\r\r\n",
		"a\r\n":          "a\r\n",
		"\n\n":           "\r\n\r\n",
		"a\rb\n\r\r\n\n": "a\rb\r\n\r\r\n\r\n",
	} {
		if got := Canonical([]byte(raw)); string(got) != want {
			t.Errorf("Canonical(%q) = %q, want %q", raw, got, want)
		}
	}
}

// Two runs make the same messages: a failure can be looked for again.
func TestGeneratedAgain(t *testing.T) {
	first, second := Generated(50), Generated(50)
	if len(first) != len(second) {
		t.Fatalf("%d messages, then %d", len(first), len(second))
	}
	names := map[string]bool{}
	for i, m := range first {
		if m.Name != second[i].Name || !bytes.Equal(m.Raw, second[i].Raw) {
			t.Errorf("%q is not the same again", m.Name)
		}
		if names[m.Name] {
			t.Errorf("two messages are called %q", m.Name)
		}
		names[m.Name] = true
	}
}

// The messages are what their names say, as far as it counts.
func TestGeneratedKinds(t *testing.T) {
	kinds := map[string]func([]byte) bool{
		"bare CR":            func(b []byte) bool { return bytes.Contains(bytes.ReplaceAll(b, []byte("\r\n"), nil), []byte("\r")) },
		"bare LF":            func(b []byte) bool { return bytes.Contains(bytes.ReplaceAll(b, []byte("\r\n"), nil), []byte("\n")) },
		"NUL":                func(b []byte) bool { return bytes.IndexByte(b, 0) >= 0 },
		"8 bit":              func(b []byte) bool { return bytes.ContainsFunc(b, func(r rune) bool { return r > 127 }) },
		"line of over 998":   func(b []byte) bool { return longestLine(b) > 998 },
		"line of over 100k":  func(b []byte) bool { return longestLine(b) >= 100_000 },
		"over 8 MiB":         func(b []byte) bool { return len(b) > 8<<20 },
		"empty":              func(b []byte) bool { return len(b) == 0 },
		"dot at line start":  func(b []byte) bool { return bytes.Contains(b, []byte("\r\n.")) },
		"thousands of parts": func(b []byte) bool { return bytes.Count(b, []byte("\r\n--=_")) >= 5000 },
		"no final line end":  func(b []byte) bool { return len(b) > 0 && b[len(b)-1] != '\n' },
		"well over 100 deep": func(b []byte) bool { return bytes.Count(b, []byte("multipart/mixed")) == 100 },
		"well-formed": func(b []byte) bool {
			return bytes.HasPrefix(b, []byte("Date: ")) && bytes.Equal(Canonical(b), b)
		},
	}
	for _, m := range Generated(0) {
		for kind, is := range kinds {
			if is(m.Raw) {
				delete(kinds, kind)
			}
		}
	}
	for kind := range kinds {
		t.Errorf("no message: %s", kind)
	}
}

func longestLine(b []byte) int {
	longest := 0
	for line := range bytes.SplitSeq(b, []byte("\r\n")) {
		longest = max(longest, len(line))
	}
	return longest
}

func TestText(t *testing.T) {
	a, b := Text(1, 8192), Text(2, 8192)
	if bytes.Equal(a, b) || !bytes.Equal(a, Text(1, 8192)) {
		t.Error("Text does not follow its seed")
	}
	for _, n := range []int{512, 8192, 100_000} {
		if got := len(Text(3, n)); got < n || got > n+80 {
			t.Errorf("Text of %d octets has %d", n, got)
		}
	}
}

func TestCorpus(t *testing.T) {
	root := t.TempDir()
	t.Setenv(CorpusEnv, root)
	if _, err := Corpus(); err == nil {
		t.Error("an empty folder is a corpus")
	}
	for name, text := range map[string]string{"README": "not a message", "b/2.eml": "two", "a/1.eml": "one"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Corpus()
	if err != nil || len(all) != 2 || all[0].Name != "a/1.eml" || string(all[1].Raw) != "two" {
		t.Errorf("Corpus: %q, %v", all, err)
	}
	t.Setenv(CorpusEnv, "")
	if all, err := Corpus(); len(all) != 0 || err != nil {
		t.Errorf("no corpus: %q, %v", all, err)
	}
}
