package seal_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"mailraft/fs/seal"
)

var benchSizes = []int{4 << 10, 8 << 10, 64 << 10, 50 << 20}

func eachSize(b *testing.B, f func(b *testing.B, id seal.Identity, plaintext []byte)) {
	for _, kind := range kinds {
		id := identity(b, kind)
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%v/%dKiB", kind, n>>10), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				f(b, id, message(n))
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	eachSize(b, func(b *testing.B, id seal.Identity, plaintext []byte) {
		dst := make([]byte, 0, 2*len(plaintext)+4096)
		for b.Loop() {
			if _, err := seal.SealBytes(dst[:0], plaintext, id.Recipient()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSealPrepared leaves out the header, made before.
func BenchmarkSealPrepared(b *testing.B) {
	id := identity(b, seal.Hybrid)
	plaintext := message(8 << 10)
	dst := make([]byte, 0, 20<<10)
	b.ReportAllocs()
	for range b.N {
		b.StopTimer()
		p, err := seal.Prepare(id.Recipient())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := p.SealBytes(dst[:0], plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealNoise(b *testing.B) {
	r := identity(b, seal.X25519).Recipient()
	plaintext := noise(seal.FrameSize)
	dst := make([]byte, 0, 2<<20)
	b.SetBytes(seal.FrameSize)
	for b.Loop() {
		if _, err := seal.SealBytes(dst[:0], plaintext, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	eachSize(b, func(b *testing.B, id seal.Identity, plaintext []byte) {
		sealed := sealBytes(b, plaintext, id.Recipient())
		buf := make([]byte, 128<<10)
		for b.Loop() {
			r, err := seal.Open(bytes.NewReader(sealed), int64(len(sealed)), int64(len(plaintext)), id)
			if err != nil {
				b.Fatal(err)
			}
			for off := int64(0); off < r.Size(); off += int64(len(buf)) {
				if _, err := r.ReadAt(buf, off); err != nil && err != io.EOF {
					b.Fatal(err)
				}
			}
			r.Close()
		}
	})
}

// BenchmarkOpenFirst opens messages of which nothing is known yet: the header's key is unwrapped.
func BenchmarkOpenFirst(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.String(), func(b *testing.B) {
			id := identity(b, kind)
			plaintext := message(8 << 10)
			encoded, err := id.Encode()
			if err != nil {
				b.Fatal(err)
			}
			sealed := sealBytes(b, plaintext, id.Recipient())
			for range b.N {
				b.StopTimer()
				again, err := seal.ParseIdentity(encoded)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := seal.OpenBytes(sealed, int64(len(plaintext)), again); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				again.Wipe()
				b.StartTimer()
			}
		})
	}
}
