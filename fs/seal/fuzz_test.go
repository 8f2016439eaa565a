package seal

import (
	"bytes"
	"errors"
	"testing"

	"filippo.io/age"
)

// fuzzIdentity is a key that only tests use, always the same, so that corpora keep their meaning.
const fuzzIdentity = "AGE-SECRET-KEY-1XMWWC06LY3EE5RYTXM9MFLAZ2U56JJJ36S0MYPDRWSVLUL66MV4QX3S7F6"

func fuzzKey(f *testing.F) Identity {
	id, err := ParseIdentity([]byte(fuzzIdentity))
	if err != nil {
		f.Fatal(err)
	}
	return id
}

// FuzzOpen opens arbitrary bytes, and arbitrary payloads that are sealed properly: an error or the right number of bytes,
// no panic, and no more memory than was asked for.
func FuzzOpen(f *testing.F) {
	id := fuzzKey(f)
	for _, n := range []int{0, 1, 300, FrameSize + 10} {
		sealed, err := SealBytes(nil, make([]byte, n), id.Recipient())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed, int64(n), false)
		if n <= 300 {
			f.Add(appendFrame(nil, make([]byte, n)), int64(n), true)
			continue
		}
		a, b := appendFrame(nil, make([]byte, FrameSize)), appendFrame(nil, make([]byte, 10))
		f.Add(appendSeekTable(append(bytes.Clone(a), b...), []uint32{uint32(len(a)), uint32(len(b))}, int64(n)), int64(n), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64, payload bool) {
		if payload {
			var sealed bytes.Buffer
			w, err := age.Encrypt(&sealed, id.Recipient().key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			b = sealed.Bytes()
		}
		r, err := Open(bytes.NewReader(b), int64(len(b)), size, id)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongKey) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		defer r.Close()
		p := make([]byte, 4096)
		for i := range frames(size) {
			n, err := r.ReadAt(p, i*FrameSize)
			if want := min(int64(len(p)), size-i*FrameSize); err != nil && int64(n) == want && n == len(p) {
				t.Fatalf("all of it and an error: %v", err)
			}
			if err != nil && n == 0 && size > 0 && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("untyped error: %v", err)
			}
		}
	})
}

// FuzzSeekTable: a table that is taken is the one that a Writer makes for the same frames; no second encoding is.
func FuzzSeekTable(f *testing.F) {
	f.Add(appendSeekTable(nil, []uint32{100, 200}, FrameSize+5), int64(FrameSize+5))
	f.Add(appendSeekTable(nil, []uint32{100, FrameSize + 5, 1}, 3*FrameSize), int64(3*FrameSize))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 || size > MaxSize {
			return
		}
		offsets, err := parseSeekTable(b, size)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		compressed := make([]uint32, len(offsets)-1)
		for i := range compressed {
			compressed[i] = uint32(offsets[i+1] - offsets[i])
		}
		if again := appendSeekTable(nil, compressed, size); !bytes.Equal(again, b) {
			t.Fatalf("two encodings:\n%x\n%x", b, again)
		}
	})
}

// FuzzHeader: what is taken as a header is taken by age, and is the only encoding of what it says.
func FuzzHeader(f *testing.F) {
	id := fuzzKey(f)
	sealed, err := SealBytes(nil, nil, id.Recipient())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, n, err := parseHeader(b)
		if err != nil {
			return
		}
		if n > MaxHeader {
			t.Fatalf("header of %d bytes", n)
		}
		again, err := age.ExtractHeader(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("age does not take it: %v", err)
		}
		if !bytes.Equal(again, b[:n]) {
			t.Fatalf("age reads another header:\n%q\n%q", b[:n], again)
		}
	})
}
