package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"mailraft/fs/seal"
)

var kinds = []seal.Kind{seal.Hybrid, seal.X25519}

func identity(t testing.TB, kind seal.Kind) seal.Identity {
	t.Helper()
	id, err := seal.GenerateIdentity(kind)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// message returns n bytes that look like mail: words, lines, and a base64 part.
func message(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	words := strings.Fields("the quick message jumps over a lazy queue and Received from example.org by mx with ESMTPS id for")
	var b bytes.Buffer
	b.Grow(n + 100)
	for b.Len() < n {
		if b.Len() > n/2 {
			line := make([]byte, 76)
			for i := range line {
				line[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[rng.IntN(64)]
			}
			b.Write(line)
		} else {
			for range 10 {
				b.WriteString(words[rng.IntN(len(words))])
				b.WriteByte(' ')
			}
		}
		b.WriteString("\r\n")
	}
	return b.Bytes()[:n]
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	rng.Read(b)
	return b
}

func sealBytes(t testing.TB, plaintext []byte, r *seal.Recipient) []byte {
	t.Helper()
	sealed, err := seal.SealBytes(nil, plaintext, r)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// readAll opens sealed and reads it from the beginning in pieces of n bytes.
func readAll(sealed []byte, size int64, n int, ids ...seal.Identity) ([]byte, error) {
	r, err := seal.Open(bytes.NewReader(sealed), int64(len(sealed)), size, ids...)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out bytes.Buffer
	_, err = io.CopyBuffer(struct{ io.Writer }{&out}, io.NewSectionReader(r, 0, r.Size()), make([]byte, n))
	return out.Bytes(), err
}

func TestRoundTripSizes(t *testing.T) {
	for _, kind := range kinds {
		id := identity(t, kind)
		for _, n := range []int{0, 1, 255, 256, 257, 1023, 1024, 8 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 65536 + 256,
			seal.FrameSize - 1, seal.FrameSize, seal.FrameSize + 1, 2 * seal.FrameSize, 3*seal.FrameSize + 12345} {
			for name, plaintext := range map[string][]byte{"mail": message(n), "noise": noise(n), "zeros": make([]byte, n)} {
				t.Run(fmt.Sprintf("%v/%s/%d", kind, name, n), func(t *testing.T) {
					sealed := sealBytes(t, plaintext, id.Recipient())
					if err := seal.CheckHeader(sealed[:min(len(sealed), seal.MaxHeader)]); err != nil {
						t.Fatal(err)
					}
					got, err := seal.OpenBytes(sealed, int64(n), id)
					if err != nil || !bytes.Equal(got, plaintext) {
						t.Fatalf("OpenBytes: %d bytes, %v", len(got), err)
					}
					if got, err = readAll(sealed, int64(n), 128<<10, id); err != nil || !bytes.Equal(got, plaintext) {
						t.Fatalf("Reader: %d bytes, %v", len(got), err)
					}
				})
			}
		}
	}
}

func TestRoundTripProperty(t *testing.T) {
	id := identity(t, seal.X25519)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 100<<10), rapid.IntRange(seal.FrameSize-2, 3*seal.FrameSize+2)).Draw(t, "size")
		plaintext := message(size)
		if rapid.Bool().Draw(t, "noise") {
			plaintext = noise(size)
		}
		var sealed bytes.Buffer
		w, err := seal.NewWriter(&sealed, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		for rest := plaintext; len(rest) > 0; {
			n := rapid.IntRange(0, len(rest)).Draw(t, "write")
			if n < 1000 {
				n = len(rest)
			}
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatalf("Write: %d of %d, %v", m, n, err)
			}
			rest = rest[n:]
			if got := w.Size(); got != int64(size-len(rest)) {
				t.Fatalf("Size %d after %d", got, size-len(rest))
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := seal.Open(bytes.NewReader(sealed.Bytes()), int64(sealed.Len()), int64(size), id)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for range rapid.IntRange(1, 8).Draw(t, "reads") {
			off := rapid.IntRange(0, size+10).Draw(t, "off")
			n := rapid.IntRange(0, 300<<10).Draw(t, "n")
			p := make([]byte, n)
			got, err := r.ReadAt(p, int64(off))
			want := plaintext[min(off, size):min(off+n, size)]
			if !bytes.Equal(p[:got], want) || (err == io.EOF) != (len(want) < n) || (err != nil && err != io.EOF) {
				t.Fatalf("ReadAt(%d, %d) = %d, %v; want %d", n, off, got, err, len(want))
			}
		}
	})
}

// The bytes of one frame do not depend on how they came: SealBytes appends, and leaves what was there.
func TestSealBytesAppends(t *testing.T) {
	id := identity(t, seal.X25519)
	for _, n := range []int{100, 2 * seal.FrameSize} {
		sealed, err := seal.SealBytes([]byte("before"), message(n), id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := bytes.CutPrefix(sealed, []byte("before"))
		if !ok {
			t.Fatal("what was in dst is lost")
		}
		if got, err := seal.OpenBytes(rest, int64(n), id); err != nil || !bytes.Equal(got, message(n)) {
			t.Fatal(err)
		}
	}
}

func TestPreparedOnce(t *testing.T) {
	id := identity(t, seal.Hybrid)
	p, err := seal.Prepare(id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := p.SealBytes(nil, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.SealBytes(nil, []byte("second")); !errors.Is(err, seal.ErrClosed) {
		t.Fatalf("a second message under one key: %v", err)
	}
	if _, err := p.NewWriter(io.Discard); !errors.Is(err, seal.ErrClosed) {
		t.Fatalf("a second message under one key: %v", err)
	}
	if got, err := seal.OpenBytes(sealed, 5, id); err != nil || string(got) != "first" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestSealedSizes(t *testing.T) {
	for _, c := range []struct {
		kind seal.Kind
		want int // header, nonce, empty frame of 9 bytes, tag
	}{{seal.Hybrid, 1627 + 16 + 9 + 16}, {seal.X25519, 168 + 16 + 9 + 16}} {
		if got := len(sealBytes(t, nil, identity(t, c.kind).Recipient())); got != c.want {
			t.Errorf("%v: an empty message seals to %d bytes, docs say %d", c.kind, got, c.want)
		}
	}
}

func TestNoiseDoesNotGrowMuch(t *testing.T) {
	sealed := sealBytes(t, noise(8<<10), identity(t, seal.X25519).Recipient())
	if over := len(sealed) - 8<<10; over > 250 {
		t.Fatalf("8 KiB that do not compress grow by %d bytes", over)
	}
}

func TestWrongAndWipedKeys(t *testing.T) {
	for _, kind := range kinds {
		right, wrong := identity(t, kind), identity(t, kind)
		for _, n := range []int{100, 2 * seal.FrameSize} {
			sealed := sealBytes(t, message(n), right.Recipient())
			if _, err := seal.OpenBytes(sealed, int64(n), wrong); !errors.Is(err, seal.ErrWrongKey) {
				t.Errorf("%v: wrong key: %v", kind, err)
			}
			if _, err := seal.OpenBytes(sealed, int64(n), wrong, right); err != nil {
				t.Errorf("%v: second key: %v", kind, err)
			}
			if _, err := seal.OpenBytes(sealed, int64(n)); !errors.Is(err, seal.ErrWiped) {
				t.Errorf("%v: no key: %v", kind, err)
			}
			if _, err := seal.OpenBytes(sealed, int64(n), seal.Identity{}); !errors.Is(err, seal.ErrWiped) {
				t.Errorf("%v: zero key: %v", kind, err)
			}
		}
		handle := right
		right.Wipe()
		right.Wipe()
		if _, err := handle.Encode(); !errors.Is(err, seal.ErrWiped) || !handle.Wiped() {
			t.Errorf("%v: a copy of a wiped identity still holds the key: %v", kind, err)
		}
		if handle.Recipient() == nil || handle.Kind() != kind {
			t.Errorf("%v: a wiped identity forgot its public key", kind)
		}
	}
}

func TestWrongSize(t *testing.T) {
	id := identity(t, seal.X25519)
	for _, n := range []int64{0, 1, 300, seal.FrameSize, seal.FrameSize + 1, 3 * seal.FrameSize} {
		sealed := sealBytes(t, message(int(n)), id.Recipient())
		for _, size := range []int64{-1, n - 1, n + 1, n + seal.FrameSize, n - seal.FrameSize, 2*n + 7, seal.MaxSize, seal.MaxSize + 1} {
			if size == n {
				continue
			}
			if _, err := seal.OpenBytes(sealed, size, id); !errors.Is(err, seal.ErrCorrupt) {
				t.Errorf("%d bytes opened as %d: %v", n, size, err)
			}
		}
	}
}

// Every byte counts: no single change, cut or addition goes unseen, wherever it is.
func TestDamage(t *testing.T) {
	for _, kind := range kinds {
		id := identity(t, kind)
		for _, n := range []int{0, 500, seal.FrameSize + 5000} {
			plaintext := message(n)
			sealed := sealBytes(t, plaintext, id.Recipient())
			step := max(1, len(sealed)/400)
			if n < 1000 && kind == seal.X25519 {
				step = 1
			}
			fails := func(what string, damaged []byte) {
				t.Helper()
				got, err := readAll(damaged, int64(n), 256<<10, id)
				if err == nil || !(errors.Is(err, seal.ErrCorrupt) || errors.Is(err, seal.ErrWrongKey)) {
					t.Fatalf("%v, %d bytes, %s: %d bytes, %v", kind, n, what, len(got), err)
				}
				if !bytes.HasPrefix(plaintext, got) {
					t.Fatalf("%v, %d bytes, %s: wrong plaintext came out", kind, n, what)
				}
			}
			for i := 0; i < len(sealed); i += step {
				damaged := bytes.Clone(sealed)
				damaged[i] ^= 1 << (i % 8)
				fails(fmt.Sprintf("bit in byte %d", i), damaged)
				fails(fmt.Sprintf("cut to %d", i), sealed[:i])
			}
			fails("one byte more", append(bytes.Clone(sealed), 0))
			fails("twice", append(bytes.Clone(sealed), sealed...))
		}
	}
}

// ageOf seals raw as the payload of an age file, as a hostile writer who knows the public key can.
func ageOf(t testing.TB, raw []byte, id seal.Identity) []byte {
	t.Helper()
	r, err := age.ParseX25519Recipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHostilePayloads(t *testing.T) {
	id := identity(t, seal.X25519)
	zs := func(content []byte, opts ...zstd.EOption) []byte {
		e, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return e.EncodeAll(content, nil)
	}
	single := zstd.WithSingleSegment(true)
	bomb := zs(make([]byte, 64<<20), single)
	// A frame that tells 1000 bytes, and has one RLE block of 128 KiB.
	liar := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x60, 1000 - 256 - 512, 2, 0x03, 0x00, 0x10, 'x'}
	for name, c := range map[string]struct {
		payload []byte
		size    int64
	}{
		"nothing":                {nil, 0},
		"no zstd":                {[]byte("plain text"), 10},
		"bomb":                   {bomb, 64 << 20},
		"bomb as one frame":      {bomb, seal.FrameSize},
		"bomb as small":          {bomb, 10},
		"liar":                   {liar, 1000},
		"frame larger than told": {zs(make([]byte, seal.FrameSize+1), single), seal.FrameSize},
		"skippable before":       {append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, zs([]byte("hello"), single)...), 5},
		"skippable behind":       {append(zs([]byte("hello"), single), 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0), 5},
		"two frames":             {append(zs([]byte("he"), single), zs([]byte("llo"), single)...), 5},
		"empty frame behind":     {append(zs([]byte("hello"), single), zs(nil, single, zstd.WithZeroFrames(true))...), 5},
		"garbage behind":         {append(zs([]byte("hello"), single), 0), 5},
		"no size told":           {zs([]byte("hello"), zstd.WithSingleSegment(false)), 5},
		"large padding":          {append(zs([]byte("hello"), single), make([]byte, 200<<10)...), 5},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := seal.OpenBytes(ageOf(t, c.payload, id), c.size, id); !errors.Is(err, seal.ErrCorrupt) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestCheckHeader(t *testing.T) {
	hybrid, classic := identity(t, seal.Hybrid), identity(t, seal.X25519)
	many := func(rs ...age.Recipient) []byte {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, rs...)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		return b.Bytes()
	}
	x, err := age.ParseX25519Recipient(classic.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	scrypt, err := age.NewScryptRecipient("password")
	if err != nil {
		t.Fatal(err)
	}
	scrypt.SetWorkFactor(2)
	good := sealBytes(t, nil, classic.Recipient())
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"hybrid":           {sealBytes(t, nil, hybrid.Recipient()), true},
		"hybrid, cut":      {sealBytes(t, nil, hybrid.Recipient())[:seal.MaxHeader], true},
		"hybrid, cut more": {sealBytes(t, nil, hybrid.Recipient())[:seal.MaxHeader-1], false},
		"x25519":           {good, true},
		"two stanzas":      {many(x, x), false},
		"password":         {many(scrypt), false},
		"empty":            {nil, false},
		"zeros":            {make([]byte, 2000), false},
		"text":             {[]byte("From: alice\r\n"), false},
		"crlf":             {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), false},
		"other version":    {bytes.Replace(good, []byte("/v1"), []byte("/v2"), 1), false},
	} {
		if err := seal.CheckHeader(c.b); (err == nil) != c.ok || err != nil && !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysEncode(t *testing.T) {
	for _, kind := range kinds {
		id := identity(t, kind)
		encoded, err := id.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := seal.ParseIdentity(encoded)
		if err != nil || again.Kind() != kind || again.Recipient().String() != id.Recipient().String() {
			t.Fatalf("%v: %v", kind, err)
		}
		r, err := seal.ParseRecipient(id.Recipient().String())
		if err != nil || r.Kind() != kind {
			t.Fatalf("%v: %v", kind, err)
		}
		if got, err := seal.OpenBytes(sealBytes(t, []byte("x"), r), 1, again); err != nil || string(got) != "x" {
			t.Fatalf("%v: %v", kind, err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			out := fmt.Sprintf(verb, id)
			if strings.Contains(strings.ToUpper(out), "SECRET") {
				t.Errorf("%s prints %s", verb, out)
			}
		}
		if k, err := seal.ParseKind(kind.String()); k != kind || err != nil {
			t.Errorf("ParseKind(%v) = %v, %v", kind, k, err)
		}
		upper := strings.ToUpper(r.String())
		for _, bad := range []string{"", "age1", "age1pq1", upper, r.String() + "x", r.String()[:50], " " + r.String(), string(encoded)} {
			if _, err := seal.ParseRecipient(bad); !errors.Is(err, seal.ErrKey) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("ParseRecipient(%q): %v", bad, err)
			}
		}
		for _, bad := range [][]byte{nil, []byte("AGE-SECRET-KEY-1"), encoded[:40], []byte(r.String()), append(encoded, '\n')} {
			if _, err := seal.ParseIdentity(bad); !errors.Is(err, seal.ErrKey) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("ParseIdentity(%q): %v", bad, err)
			}
		}
	}
	if _, err := seal.GenerateIdentity(0); !errors.Is(err, seal.ErrKey) {
		t.Errorf("kind 0: %v", err)
	}
}

var errDisk = errors.New("disk trouble")

// flaky fails reads while it is broken.
type flaky struct {
	r      io.ReaderAt
	broken bool
}

func (f *flaky) ReadAt(p []byte, off int64) (int, error) {
	if f.broken {
		return 0, errDisk
	}
	return f.r.ReadAt(p, off)
}

// A failing disk is not corruption, and the Reader goes on when the disk does.
func TestReadErrorsPassThrough(t *testing.T) {
	id := identity(t, seal.X25519)
	plaintext := noise(4 * seal.FrameSize)
	sealed := sealBytes(t, plaintext, id.Recipient())
	src := &flaky{r: bytes.NewReader(sealed), broken: true}
	if _, err := seal.Open(src, int64(len(sealed)), int64(len(plaintext)), id); !errors.Is(err, errDisk) || errors.Is(err, seal.ErrCorrupt) {
		t.Fatalf("Open: %v", err)
	}
	src.broken = false
	r, err := seal.Open(src, int64(len(sealed)), int64(len(plaintext)), id)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1000)
	src.broken = true
	if _, err := r.ReadAt(p, 0); !errors.Is(err, errDisk) || errors.Is(err, seal.ErrCorrupt) {
		t.Fatalf("ReadAt: %v", err)
	}
	src.broken = false
	if _, err := r.ReadAt(p, 0); err != nil || !bytes.Equal(p, plaintext[:1000]) {
		t.Fatalf("ReadAt after the disk came back: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(p, 0); !errors.Is(err, seal.ErrClosed) {
		t.Fatalf("ReadAt after Close: %v", err)
	}
}

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return 0, errDisk
	}
	f.room -= len(p)
	return len(p), nil
}

func TestWriteErrorsPassThrough(t *testing.T) {
	r := identity(t, seal.X25519).Recipient()
	data := noise(5 * seal.FrameSize)
	for _, room := range []int{0, 200, 100 << 10, 2 * seal.FrameSize, len(data)} {
		w, err := seal.NewWriter(&full{room}, r)
		if err == nil {
			if _, err = w.Write(data); err == nil {
				err = w.Close()
			} else if again := w.Close(); !errors.Is(again, errDisk) {
				t.Errorf("room %d: Close after a failed Write: %v", room, again)
			}
			if _, again := w.Write(data); !errors.Is(again, seal.ErrClosed) {
				t.Errorf("room %d: Write after Close: %v", room, again)
			}
		}
		if !errors.Is(err, errDisk) {
			t.Errorf("room %d: %v", room, err)
		}
	}
}

func TestConcurrentReads(t *testing.T) {
	id := identity(t, seal.X25519)
	plaintext := message(5*seal.FrameSize + 77)
	sealed := sealBytes(t, plaintext, id.Recipient())
	r, err := seal.Open(bytes.NewReader(sealed), int64(len(sealed)), int64(len(plaintext)), id)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			p := make([]byte, 70<<10)
			for range 100 {
				off := rng.IntN(len(plaintext))
				n, err := r.ReadAt(p, int64(off))
				if (err != nil && err != io.EOF) || !bytes.Equal(p[:n], plaintext[off:min(off+len(p), len(plaintext))]) {
					t.Errorf("ReadAt %d: %d, %v", off, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.Close()
}

// Debian's age opens X25519 alone; the library opens both.
func TestStockToolsOpen(t *testing.T) {
	for _, tool := range []string{"age", "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs the Debian package %s: apt-get install %s", tool, tool)
		}
	}
	id := identity(t, seal.X25519)
	encoded, err := id.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, file := filepath.Join(dir, "key"), filepath.Join(dir, "mail.age")
	if err := os.WriteFile(key, append(encoded, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 8 << 10, seal.FrameSize, 5*seal.FrameSize + 99} {
		for name, plaintext := range map[string][]byte{"mail": message(n), "noise": noise(n)} {
			if err := os.WriteFile(file, sealBytes(t, plaintext, id.Recipient()), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("sh", "-c", `age -d -i "$1" "$2" | zstd -d -c -q`, "sh", key, file).Output()
			if err != nil || !bytes.Equal(out, plaintext) {
				t.Errorf("%s of %d bytes: age -d | zstd -d gave %d bytes, %v", name, n, len(out), err)
			}
		}
	}
}

func TestLibraryOpensHybrid(t *testing.T) {
	id := identity(t, seal.Hybrid)
	encoded, err := id.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key, err := age.ParseHybridIdentity(string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	plaintext := message(3*seal.FrameSize + 1)
	r, err := age.Decrypt(bytes.NewReader(sealBytes(t, plaintext, id.Recipient())), key)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plaintext) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}
