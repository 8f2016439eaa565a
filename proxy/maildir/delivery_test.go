package maildir

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

// newMaildir makes an empty Maildir++ with a folder .Sent.
func newMaildir(t testing.TB) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "alice")
	for _, folder := range []string{"", ".Sent"} {
		if err := CreateFolder(home, folder); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

// files lists what a directory has.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDeliver(t *testing.T) {
	home := newMaildir(t)
	date := time.Unix(1234567890, 0)
	for _, c := range []struct {
		folder  string
		o       Options
		pattern string
	}{
		{"", Options{Recent: true}, `^/new/\d+\.M\d+P\d+Q\d+R[0-9a-f]{16}\.[^/:,]+,S=11,W=13$`},
		{"", Options{}, `^/cur/[^/]+,S=11,W=13:2,$`},
		{"", Options{Recent: true, Flags: "SFS"}, `^/cur/[^/]+,S=11,W=13:2,FS$`},
		{".Sent", Options{Flags: "Sa", Date: date}, `^/\.Sent/cur/[^/]+,S=11,W=13:2,Sa$`},
	} {
		d, err := NewDelivery(home, c.folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range []string{"a\r", "\nbc\n", "d\r\n\x00\n"} {
			if _, err := d.Write([]byte(piece)); err != nil {
				t.Fatal(err)
			}
		}
		path, err := d.Commit(c.o)
		if err != nil {
			t.Fatal(err)
		}
		if below := strings.TrimPrefix(path, home); !regexp.MustCompile(c.pattern).MatchString(below) {
			t.Errorf("path %s does not match %s", below, c.pattern)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != "a\r\nbc\nd\r\n\x00\n" {
			t.Errorf("%q, %v", got, err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		if !c.o.Date.IsZero() && !st.ModTime().Equal(date) {
			t.Errorf("date %v", st.ModTime())
		}
		if left := files(t, filepath.Join(FolderPath(home, c.folder), "tmp")); len(left) > 0 {
			t.Errorf("left in tmp: %v", left)
		}
		if err := d.Abort(); err != nil {
			t.Errorf("Abort after Commit: %v", err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("after Abort: %v", err)
		}
	}
}

func TestAbort(t *testing.T) {
	home := newMaildir(t)
	d, err := NewDelivery(home, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, "secret"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Commit(Options{}); err == nil {
		t.Error("committed after Abort")
	}
	if _, err := io.WriteString(d, "more"); err == nil {
		t.Error("written after Abort")
	}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if left := files(t, filepath.Join(home, sub)); len(left) > 0 {
			t.Errorf("left in %s: %v", sub, left)
		}
	}
}

func TestCommitFails(t *testing.T) {
	home := newMaildir(t)
	if err := os.Remove(filepath.Join(home, "new")); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Recent: true}, {Flags: "S/"}} {
		d, err := NewDelivery(home, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Commit(o); err == nil {
			t.Errorf("%+v: committed", o)
		} else if o.Recent && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	}
	if left := files(t, filepath.Join(home, "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
	if _, err := NewDelivery(home, ".Nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := NewDelivery(home, "../bob"); !errors.Is(err, ErrFolderName) {
		t.Errorf("way out: %v", err)
	}
}

// The sizes in the name are those of the bytes, however they were cut into writes.
func TestDeliverySizes(t *testing.T) {
	home := newMaildir(t)
	rapid.Check(t, func(t *rapid.T) {
		d, err := NewDelivery(home, "")
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		piece := rapid.SliceOf(rapid.SampledFrom([]byte("\r\n\n\ra")))
		for _, p := range rapid.SliceOf(piece).Draw(t, "pieces") {
			all = append(all, p...)
			if _, err := d.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		path, err := d.Commit(Options{Recent: true})
		if err != nil {
			t.Fatal(err)
		}
		m := Message{Name: strings.TrimPrefix(path, home+"/"), Size: int64(len(all))}
		size, ok := m.VirtualSize()
		if ends := len(all) == 0 || bytes.HasSuffix(all, []byte("\n")); ok != ends || ok && size != int64(len(presentCRLF(all))) {
			t.Fatalf("%q: W=%d, name %s", all, size, m.Name)
		}
		if st, err := os.Stat(path); err != nil || st.Size() != int64(len(all)) {
			t.Fatalf("size: %v", err)
		}
	})
}

func TestReadFrom(t *testing.T) {
	home := newMaildir(t)
	text := bytes.Repeat([]byte("0123456789abcde\n"), 20_000)
	for name, r := range map[string]io.Reader{
		"plain":  bytes.NewReader(text),
		"halves": iotest.HalfReader(bytes.NewReader(text)),
		"EOF":    iotest.DataErrReader(bytes.NewReader(text)),
	} {
		d, err := NewDelivery(home, "")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(d, struct{ io.Reader }{r}); n != int64(len(text)) || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		path, err := d.Commit(Options{Recent: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}

	d, err := NewDelivery(home, "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if n, err := io.Copy(d, broken); n != 4 || err != io.ErrUnexpectedEOF {
		t.Errorf("broken reader: %d, %v", n, err)
	}
}

func BenchmarkDeliver20KiB(b *testing.B) {
	home := newMaildir(b)
	text := bytes.Repeat([]byte(strings.Repeat("x", 78)+"\r\n"), 256)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		d, err := NewDelivery(home, "")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Write(text); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Commit(Options{Recent: true}); err != nil {
			b.Fatal(err)
		}
	}
}
