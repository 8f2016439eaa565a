package staging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func newArea(t testing.TB, c Config) *Area {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	a, err := NewArea(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	rng.Read(b)
	return b
}

func write(t testing.TB, f *File, p []byte, off int64) {
	t.Helper()
	if n, err := f.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(p), off, n, err)
	}
}

func content(t testing.TB, f *File) []byte {
	t.Helper()
	b, err := io.ReadAll(f.Reader())
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if n, err := f.Reader().(io.WriterTo).WriteTo(&again); err != nil || n != f.Size() || !bytes.Equal(again.Bytes(), b) {
		t.Fatalf("WriteTo wrote %d bytes of %d, %v", n, f.Size(), err)
	}
	if inMemory, ok := f.Bytes(); ok && !bytes.Equal(inMemory, b) {
		t.Fatal("Bytes differs from Reader")
	}
	return b
}

func closeFile(t testing.TB, f *File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// model is what a File should be: a plain slice.
type model []byte

func (m *model) writeAt(p []byte, off int) {
	if end := off + len(p); end > len(*m) {
		m.truncate(end)
	}
	copy((*m)[off:], p)
}

func (m *model) truncate(size int) {
	if size <= len(*m) {
		*m = (*m)[:size:size]
		return
	}
	*m = append(*m, make([]byte, size-len(*m))...)
}

// The modes that the same behaviour is asked of: in memory, spilled, and spilled with no memory to keep a chunk in.
var modes = map[string]func(dir string) Config{
	"memory":   func(dir string) Config { return Config{Dir: dir, Threshold: 4 << 20} },
	"mixed":    func(dir string) Config { return Config{Dir: dir, Threshold: 100 << 10} },
	"disk":     func(dir string) Config { return Config{Dir: dir, Threshold: 1} },
	"starved":  func(dir string) Config { return Config{Dir: dir, Budget: NewBudget(0)} },
	"shortage": func(dir string) Config { return Config{Dir: dir, Threshold: 100 << 10, Budget: NewBudget(100 << 10)} },
}

func TestLikeASlice(t *testing.T) {
	for name, config := range modes {
		t.Run(name, func(t *testing.T) {
			c := config(t.TempDir())
			a := newArea(t, c)
			const most = 400 << 10
			offset := rapid.OneOf(rapid.IntRange(0, most), rapid.SampledFrom([]int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3 * chunkSize, 16 << 10}))
			length := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 150<<10), rapid.SampledFrom([]int{1, 4096, chunkSize, 2 * chunkSize}))
			rapid.Check(t, func(t *rapid.T) {
				f := a.NewFile()
				var m model
				seed := byte(0)
				t.Repeat(map[string]func(*rapid.T){
					"write": func(t *rapid.T) {
						seed++
						p := bytes.Repeat([]byte{seed, seed ^ 0x55, 1}, length.Draw(t, "n")/3+1)
						off := offset.Draw(t, "off")
						if n, err := f.WriteAt(p, int64(off)); n != len(p) || err != nil {
							t.Fatalf("WriteAt: %d, %v", n, err)
						}
						m.writeAt(p, off)
					},
					"append": func(t *rapid.T) {
						if len(m) > 2*most {
							return
						}
						seed++
						p := bytes.Repeat([]byte{seed}, length.Draw(t, "n"))
						if n, err := f.WriteAt(p, f.Size()); n != len(p) || err != nil {
							t.Fatalf("WriteAt: %d, %v", n, err)
						}
						m.writeAt(p, len(m))
					},
					"truncate": func(t *rapid.T) {
						size := offset.Draw(t, "size")
						if err := f.Truncate(int64(size)); err != nil {
							t.Fatal(err)
						}
						m.truncate(size)
					},
					"read": func(t *rapid.T) {
						p, off := bytes.Repeat([]byte{0xee}, length.Draw(t, "n")), offset.Draw(t, "off")
						n, err := f.ReadAt(p, int64(off))
						want := m[min(off, len(m)):min(off+len(p), len(m))]
						if !bytes.Equal(p[:n], want) || (err == io.EOF) != (n < len(p)) || err != nil && err != io.EOF {
							t.Fatalf("ReadAt(%d, %d) = %d, %v", len(p), off, n, err)
						}
					},
					"read all": func(t *rapid.T) {
						b, err := io.ReadAll(f.Reader())
						if err != nil || !bytes.Equal(b, m) {
							t.Fatalf("Reader: %d bytes of %d, %v", len(b), len(m), err)
						}
					},
					"bytes": func(t *rapid.T) {
						if b, ok := f.Bytes(); ok && !bytes.Equal(b, m) {
							t.Fatal("Bytes differs")
						}
					},
					"": func(t *rapid.T) {
						if f.Size() != int64(len(m)) {
							t.Fatalf("Size %d, want %d", f.Size(), len(m))
						}
					},
				})
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				if used := c.Budget.Used(); used != 0 {
					t.Fatalf("%d bytes of the budget are not given back", used)
				}
			})
		})
	}
}

func TestSmallFilesStayInMemory(t *testing.T) {
	b := NewBudget(1 << 20)
	a := newArea(t, Config{Budget: b})
	for _, n := range []int{1, 8 << 10, 16 << 10, 100 << 10, 1 << 20} {
		f := a.NewFile()
		p := noise(n)
		write(t, f, p, 0)
		got, ok := f.Bytes()
		if !ok || !bytes.Equal(got, p) || f.Spilled() {
			t.Fatalf("%d bytes are not in memory", n)
		}
		if err := iotest.TestReader(f.Reader(), p); n < 20<<10 && err != nil {
			t.Error(err)
		}
		if used := b.Used(); used < int64(n) || used > max(16<<10, 2*int64(n)) {
			t.Errorf("%d bytes use %d of the budget", n, used)
		}
		closeFile(t, f)
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes of the budget are not given back", b.Used())
	}
}

// What a File leaves in a pooled buffer must not show in the holes of the next.
func TestHolesAreZero(t *testing.T) {
	a := newArea(t, Config{})
	for range 50 {
		f := a.NewFile()
		write(t, f, bytes.Repeat([]byte{0xff}, 15000), 0)
		if err := f.Truncate(100); err != nil {
			t.Fatal(err)
		}
		write(t, f, []byte{1}, 14000)
		b, _ := f.Bytes()
		if !bytes.Equal(b[100:14000], make([]byte, 13900)) {
			t.Fatal("truncated bytes came back")
		}
		closeFile(t, f)
		g := a.NewFile()
		write(t, g, []byte{1}, 16000)
		b, _ = g.Bytes()
		if !bytes.Equal(b[:16000], make([]byte, 16000)) {
			t.Fatal("another file's bytes came back")
		}
		closeFile(t, g)
	}
}

func TestBudgetSpillsEarlier(t *testing.T) {
	b := NewBudget(40 << 10)
	a := newArea(t, Config{Budget: b})
	p := noise(10 << 10)
	var files []*File
	for i := range 5 {
		f := a.NewFile()
		files = append(files, f)
		write(t, f, p, 0)
		if f.Spilled() != (i >= 2) { // 16 KiB each
			t.Errorf("file %d: spilled %v", i, f.Spilled())
		}
		if b.Used() > 40<<10 {
			t.Errorf("file %d: %d bytes used of %d", i, b.Used(), 40<<10)
		}
	}
	for _, f := range files {
		if !bytes.Equal(content(t, f), p) {
			t.Error("other content")
		}
		closeFile(t, f)
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes of the budget are not given back", b.Used())
	}
}

func TestHugeHoles(t *testing.T) {
	b := NewBudget(1 << 20)
	a := newArea(t, Config{Budget: b})
	f := a.NewFile()
	defer f.Close()
	if err := f.Truncate(MaxSize); err != nil {
		t.Fatal(err)
	}
	if b.Used() != 0 || f.Spilled() {
		t.Error("a hole takes room")
	}
	if _, ok := f.Bytes(); ok {
		t.Error("a hole of 1 TiB in memory")
	}
	write(t, f, []byte("end"), MaxSize-3)
	p := make([]byte, 5)
	if n, err := f.ReadAt(p, MaxSize-4); n != 4 || err != io.EOF || string(p[:4]) != "\x00end" {
		t.Errorf("%q, %v", p[:n], err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.spill.file.Fd()), &st); err != nil || st.Blocks > 256 {
		t.Errorf("%d blocks on disk for 3 bytes, %v", st.Blocks, err)
	}
	if _, err := f.WriteAt([]byte("12"), MaxSize-1); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("beyond the end of what is possible: %v", err)
	}
	if err := f.Truncate(MaxSize + 1); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("beyond the end of what is possible: %v", err)
	}
	if err := f.Truncate(2); err != nil || !bytes.Equal(content(t, f), []byte{0, 0}) {
		t.Error("truncated to other content")
	}
}

func TestRefusals(t *testing.T) {
	f := newArea(t, Config{}).NewFile()
	if _, err := f.WriteAt([]byte("x"), -1); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if err := f.Truncate(-1); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	r := f.Reader()
	closeFile(t, f)
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, writeErr := f.WriteAt([]byte("x"), 0)
	_, readerErr := r.Read(make([]byte, 1))
	for i, err := range []error{readErr, writeErr, readerErr, f.Truncate(0), f.Close()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%d, after Close: %v", i, err)
		}
	}
	if _, ok := f.Bytes(); ok {
		t.Error("Bytes after Close")
	}
}

// Nothing of the file is on disk as it is: neither its lines nor the key that would open it.
func TestNoPlaintextOnDisk(t *testing.T) {
	for _, named := range []bool{false, true} {
		a := newArea(t, Config{Threshold: 1})
		a.named.Store(named)
		f := a.NewFile()
		line := []byte("Subject: the planted line that nobody may find\r\n")
		p := bytes.Repeat(line, 10000)
		write(t, f, p, 0)
		write(t, f, line, 5)
		write(t, f, line, 300000)
		if err := f.spill.flush(); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.spill.file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) < len(p) {
			t.Fatalf("only %d bytes on disk of %d", len(raw), len(p))
		}
		for i := 0; i+8 <= len(line); i++ {
			if bytes.Contains(raw, line[i:i+8]) {
				t.Fatalf("%q is on disk", line[i:i+8])
			}
		}
		if entries, err := os.ReadDir(a.dir); err != nil || len(entries) != 0 {
			t.Errorf("the spilled file has a name: %v, %v", entries, err)
		}
		closeFile(t, f)
	}
}

// A chunk that was changed on disk, or put back in an older state, is not taken.
func TestDamagedSpill(t *testing.T) {
	a := newArea(t, Config{Threshold: 1})
	for name, damage := range map[string]func(f *os.File, old []byte) error{
		"bit":   func(f *os.File, old []byte) error { _, err := f.WriteAt([]byte{old[100] ^ 1}, 100); return err },
		"older": func(f *os.File, old []byte) error { _, err := f.WriteAt(old, 0); return err },
		"cut":   func(f *os.File, old []byte) error { return f.Truncate(1000) },
	} {
		f := a.NewFile()
		write(t, f, noise(3*chunkSize), 0)
		old := make([]byte, slotSize)
		if _, err := f.spill.file.ReadAt(old, 0); err != nil {
			t.Fatal(err)
		}
		write(t, f, []byte("new"), 0)
		write(t, f, []byte("new"), chunkSize) // writes the chunk before
		if err := damage(f.spill.file, old); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 10), 0); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		closeFile(t, f)
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{spillPrefix + "123", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newArea(t, Config{Dir: dir})
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "other" {
		t.Errorf("%v, %v", entries, err)
	}
}

// smallDisk mounts a tmpfs of that many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatalf("this test mounts a tmpfs, for which it must run as root with CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// On a full disk a write fails with ENOSPC and tells how far it came; what was accepted stays, whatever is done then.
func TestFullDisk(t *testing.T) {
	for name, budget := range map[string]*Budget{"memory to spare": nil, "no memory": NewBudget(0)} {
		t.Run(name, func(t *testing.T) {
			a := newArea(t, Config{Dir: smallDisk(t, 512<<10), Threshold: 1, Budget: budget})
			f := a.NewFile()
			var m model
			accept := func(p []byte, off int64) error {
				n, err := f.WriteAt(p, off)
				if n > 0 {
					m.writeAt(p[:n], int(off))
				}
				if (err == nil) != (n == len(p)) || err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(p), off, n, err)
				}
				return err
			}
			check := func(what string) {
				t.Helper()
				if got := content(t, f); !bytes.Equal(got, m) {
					t.Fatalf("%s: content differs: %d bytes, want %d", what, len(got), len(m))
				}
			}
			if err := accept(noise(1<<20), 0); err == nil {
				t.Fatal("1 MiB fits into 512 KiB")
			}
			check("after one large write")
			full := 0
			for i := range 40 {
				if accept(noise(30000+i), f.Size()) != nil {
					full++
				}
				check("appending")
			}
			if full == 0 {
				t.Fatal("the disk did not fill")
			}
			for i := range 30 { // overwriting, over the edges of chunks too
				accept(noise(20000), int64(i*7919%len(m)))
				check("overwriting")
			}
			if err := f.Truncate(100 << 10); err != nil {
				t.Fatal(err)
			}
			m.truncate(100 << 10)
			check("after truncating")
			if err := accept(noise(200<<10), 50<<10); err != nil {
				t.Fatalf("there is room again: %v", err)
			}
			check("after writing again")
			closeFile(t, f)
			if budget.Used() != 0 {
				t.Errorf("%d bytes of the budget are not given back", budget.Used())
			}
		})
	}
}

// A disk that fills in the middle of a chunk does not take what the chunk held before.
func TestFullDiskTearsNothing(t *testing.T) {
	a := newArea(t, Config{Dir: smallDisk(t, 512<<10), Threshold: 1})
	f, other := a.NewFile(), a.NewFile()
	defer f.Close()
	defer other.Close()
	short := noise(30000)
	write(t, f, short, 0)
	write(t, f, []byte("here"), 3*chunkSize) // the first chunk goes to disk, shorter than it could be
	if _, err := other.WriteAt(noise(1<<20), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if n, err := f.WriteAt(noise(chunkSize), 0); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%d, %v", n, err)
	}
	want := append(append(bytes.Clone(short), make([]byte, 3*chunkSize-len(short))...), "here"...)
	if !bytes.Equal(content(t, f), want) {
		t.Fatal("a write that failed changed the file")
	}
}

// A File that cannot be spilled stays in memory as it was.
func TestSpillFails(t *testing.T) {
	a := newArea(t, Config{Dir: smallDisk(t, 64<<10), Threshold: 300 << 10})
	f := a.NewFile()
	defer f.Close()
	p := noise(300 << 10)
	write(t, f, p, 0)
	if n, err := f.WriteAt([]byte("more"), 300<<10); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%d, %v", n, err)
	}
	if f.Spilled() || !bytes.Equal(content(t, f), p) {
		t.Fatal("what was in memory is not as it was")
	}
	write(t, f, []byte("still writable"), 5)

	gone := newArea(t, Config{Threshold: 1})
	if err := os.Remove(gone.dir); err != nil {
		t.Fatal(err)
	}
	g := gone.NewFile()
	defer g.Close()
	if _, err := g.WriteAt([]byte("xx"), 0); !errors.Is(err, syscall.ENOENT) || strings.Contains(err.Error(), "xx") {
		t.Errorf("no directory: %v", err)
	}
}

func BenchmarkSmall(b *testing.B) {
	for _, n := range []int{8 << 10, 100 << 10} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			a := newArea(b, Config{Budget: NewBudget(1 << 30)})
			p := noise(n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				f := a.NewFile()
				f.WriteAt(p, 0)
				if got, ok := f.Bytes(); !ok || len(got) != n {
					b.Fatal("not in memory")
				}
				f.Close()
			}
		})
	}
}

func BenchmarkSpilled(b *testing.B) {
	a := newArea(b, Config{})
	p := noise(128 << 10)
	const pieces = 400 // 50 MiB
	b.SetBytes(int64(pieces * len(p)))
	b.ReportAllocs()
	for b.Loop() {
		f := a.NewFile()
		for i := range pieces {
			if _, err := f.WriteAt(p, int64(i*len(p))); err != nil {
				b.Fatal(err)
			}
		}
		if n, err := f.Reader().(io.WriterTo).WriteTo(io.Discard); err != nil || n != f.Size() {
			b.Fatal(n, err)
		}
		f.Close()
	}
}
