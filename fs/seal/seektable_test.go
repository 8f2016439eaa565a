package seal

import (
	"bytes"
	"errors"
	"testing"

	"filippo.io/age"
)

const twoFrames = FrameSize + 5

// Of a table, only the sizes of the compressed frames may differ; every other byte is fixed by the message's size.
func TestSeekTableEveryByte(t *testing.T) {
	table := appendSeekTable(nil, []uint32{100, 10}, twoFrames)
	if want := []byte{
		0x5e, 0x2a, 0x4d, 0x18, 25, 0, 0, 0, // skippable frame of 25 bytes
		100, 0, 0, 0, 0, 0, 0x10, 0, // a frame of 100 bytes, 1 MiB decompressed
		10, 0, 0, 0, 5, 0, 0, 0,
		2, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f, // two frames, no checksums, magic
	}; !bytes.Equal(table, want) {
		t.Fatalf("table is\n% x, want\n% x", table, want)
	}
	for i := range table {
		changed := bytes.Clone(table)
		for bit := range 8 {
			changed[i] = table[i] ^ 1<<bit
			_, err := parseSeekTable(changed, twoFrames)
			free := i >= 8 && i < 24 && i%8 < 4
			if err == nil && !free || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("byte %d is %#x: %v", i, changed[i], err)
			}
		}
	}
	for _, sizes := range [][]uint32{{0, 10}, {100, 0}, {1 << 31, 10}, {100, maxFrameOverhead + 6}, {FrameSize + maxFrameOverhead + 1, 1}} {
		if _, err := parseSeekTable(appendSeekTable(nil, sizes, twoFrames), twoFrames); !errors.Is(err, ErrCorrupt) {
			t.Errorf("frames of %v bytes: %v", sizes, err)
		}
	}
}

// Streams of several frames that a Writer would not have made, properly sealed.
func TestHostileStreams(t *testing.T) {
	id, err := GenerateIdentity(X25519)
	if err != nil {
		t.Fatal(err)
	}
	a, b := appendFrame(nil, make([]byte, FrameSize)), appendFrame(nil, []byte("hello"))
	la, lb := uint32(len(a)), uint32(len(b))
	table := func(sizes ...uint32) []byte { return appendSeekTable(nil, sizes, twoFrames) }
	for name, c := range map[string]struct {
		stream [][]byte
		ok     bool
	}{
		"as a Writer makes it":   {[][]byte{a, b, table(la, lb)}, true},
		"bytes before the table": {[][]byte{a, b, {0}, table(la, lb)}, false},
		"table covers too much":  {[][]byte{a, b, table(la, lb+1)}, false},
		"frames overlap":         {[][]byte{a, b, table(la+1, lb-1)}, false},
		"order exchanged":        {[][]byte{b, a, table(lb, la)}, false},
		"one frame twice":        {[][]byte{b, b, table(lb, lb)}, false},
		"no table":               {[][]byte{a, b}, false},
		"table twice":            {[][]byte{a, b, table(la, lb), table(la, lb)}, false},
		"table alone":            {[][]byte{table(la, lb)}, false},
		"bytes behind the table": {[][]byte{a, b, table(la, lb), {0}}, false},
	} {
		var sealed bytes.Buffer
		w, err := age.Encrypt(&sealed, id.Recipient().key)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range c.stream {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := OpenBytes(sealed.Bytes(), twoFrames, id)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrCorrupt) || err == nil && !bytes.HasSuffix(got, []byte("hello")) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
