package maildir

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// presentCRLF says in the plainest way what CRLFReader does.
func presentCRLF(s []byte) []byte {
	var out []byte
	for i, c := range s {
		if c == '\n' && (i == 0 || s[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}

func TestCRLFReader(t *testing.T) {
	for in, want := range map[string]string{
		"":              "",
		"\n":            "\r\n",
		"\r\n":          "\r\n",
		"\n\n":          "\r\n\r\n",
		"\r\r\n\n\r":    "\r\r\n\r\n\r",
		"a\nb\r\nc\x00": "a\r\nb\r\nc\x00",
	} {
		got, err := io.ReadAll(CRLFReader(strings.NewReader(in)))
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestCRLFReaderError(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(io.ErrClosedPipe))
	got, err := io.ReadAll(CRLFReader(broken))
	if string(got) != "a\r\nb" || err != io.ErrClosedPipe {
		t.Errorf("%q, %v", got, err)
	}
}

// readInSteps reads all of r with buffers of the given sizes, in turn.
func readInSteps(r io.Reader, steps []int) ([]byte, error) {
	var out []byte
	for i := 0; ; i++ {
		p := make([]byte, steps[i%len(steps)])
		n, err := r.Read(p)
		out = append(out, p[:n]...)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

func TestCRLFReaderAnySteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.SampledFrom([]byte("\r\n\n\rab\x00"))).Draw(t, "in")
		steps := rapid.SliceOfN(rapid.IntRange(1, 9), 1, 5).Draw(t, "steps")
		var r io.Reader = bytes.NewReader(in)
		switch rapid.IntRange(0, 3).Draw(t, "source") {
		case 1:
			r = iotest.OneByteReader(r)
		case 2:
			r = iotest.HalfReader(r)
		case 3:
			r = iotest.DataErrReader(r)
		}
		got, err := readInSteps(CRLFReader(r), steps)
		if err != nil || !bytes.Equal(got, presentCRLF(in)) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func FuzzCRLFReader(f *testing.F) {
	f.Add([]byte("a\nb\r\n\r\r\n\n"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		got, err := readInSteps(CRLFReader(bytes.NewReader(in)), []int{int(step) + 1})
		if err != nil || !bytes.Equal(got, presentCRLF(in)) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func BenchmarkCRLFReader(b *testing.B) {
	line := strings.Repeat("x", 76)
	for name, eol := range map[string]string{"CRLF": "\r\n", "LF": "\n"} {
		text := strings.Repeat(line+eol, 4000)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := io.Copy(struct{ io.Writer }{io.Discard}, CRLFReader(strings.NewReader(text))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
