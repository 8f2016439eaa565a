package seal

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// FrameSize is how much of the message one zstd frame holds, in bytes; the last frame of a message holds the rest. A
// message of at most FrameSize bytes (an empty one too) is one frame; a larger one is several, followed by a seek table.
const FrameSize = 1 << 20

// maxFrameOverhead bounds how many bytes larger than its content a frame can be: magic and header (RFC 8878, 3.1.1: 4 + 14),
// 3 bytes a block, the checksum (4). Blocks have 64 KiB or 128 KiB now; the bound leaves room for any from 1 KiB.
const maxFrameOverhead = FrameSize >> 8

// Forget drops what the compressor and the decompressor keep of what went through them, for the garbage collector. They are made again
// when they are needed.
func Forget() {
	encoders.Store(nil)
	decoders.Store(nil)
}

var (
	encoders atomic.Pointer[zstd.Encoder]
	decoders atomic.Pointer[zstd.Decoder]
)

// kept returns what p has, which is made if it has nothing.
func kept[T any](p *atomic.Pointer[T], made func() *T) *T {
	c := p.Load()
	if c == nil {
		c = made()
		p.Store(c) // another one made at the same time serves whom it was made for
	}
	return c
}

// encoder compresses frames. It has as many states as there are processors; each is made when first needed. Single
// segment frames always tell their content's size, and the decoder needs no window beside it. The checksum (xxhash, far
// below a microsecond for most mail) guards against the coder itself: age guards against everything else.
func encoder() *zstd.Encoder { return kept(&encoders, newEncoder) }

func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(FrameSize),
		zstd.WithSingleSegment(true),
		zstd.WithZeroFrames(true),
		zstd.WithEncoderCRC(true))
	if err != nil {
		panic("seal: zstd encoder options: " + err.Error()) // constants above
	}
	return e
}

func decoder() *zstd.Decoder { return kept(&decoders, newDecoder) }

func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderMaxMemory(FrameSize),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("seal: zstd decoder options: " + err.Error()) // constants above
	}
	return d
}

// appendFrame appends one zstd frame with content (at most FrameSize bytes) to dst.
func appendFrame(dst, content []byte) []byte {
	return encoder().EncodeAll(content, dst)
}

// appendContent appends the size bytes that one frame holds to dst, which must have room for them: it is never grown.
// Anything but one whole frame with exactly that content is ErrCorrupt, or ErrSize.
func appendContent(dst, frame []byte, size int) ([]byte, error) {
	if err := checkFrame(frame, size); err != nil {
		return nil, err
	}
	begin := len(dst)
	out, err := decoder().DecodeAll(frame, dst[:begin:begin+size])
	if err != nil {
		return nil, corrupt("zstd frame: %w", err)
	}
	if len(out)-begin != size {
		return nil, corrupt("zstd frame holds %d bytes and claims %d", len(out)-begin, size)
	}
	dst = dst[:begin+size] // with all of its capacity
	if size > 0 && &out[begin] != &dst[begin] {
		copy(dst[begin:], out[begin:])
	}
	return dst, nil
}

// checkFrame walks over one frame without decoding it: it must be a frame as [appendFrame] makes them, tell the size of
// its content, and end where b ends. Source: RFC 8878, 3.1.1.
func checkFrame(b []byte, size int) error {
	var h zstd.Header
	rest, err := h.DecodeAndStrip(b)
	switch {
	case err != nil:
		return corrupt("zstd frame header: %w", err)
	case h.Skippable || !h.SingleSegment || !h.HasFCS || h.DictionaryID != 0:
		return corrupt("zstd frame is not of the form used here")
	case h.FrameContentSize > FrameSize:
		return corrupt("zstd frame claims %d bytes, more than %d", h.FrameContentSize, FrameSize)
	case h.FrameContentSize != uint64(size):
		return ErrSize
	}
	for last := false; !last; {
		if len(rest) < 3 {
			return corrupt("zstd frame is cut short")
		}
		block := uint32(rest[0]) | uint32(rest[1])<<8 | uint32(rest[2])<<16
		last = block&1 != 0
		n := int(block >> 3)
		switch block >> 1 & 3 {
		case 1: // RLE: one byte stands for all
			n = 1
		case 3:
			return corrupt("zstd frame has a block of a reserved type")
		}
		if rest = rest[3:]; len(rest) < n {
			return corrupt("zstd frame is cut short")
		}
		rest = rest[n:]
	}
	if h.HasCheckSum {
		if len(rest) < 4 {
			return corrupt("zstd frame is cut short")
		}
		rest = rest[4:]
	}
	if len(rest) != 0 {
		return corrupt("%d bytes behind the end of a zstd frame", len(rest))
	}
	return nil
}

// Seek table: "Zstandard Seekable Format" 0.1.0 (facebook/zstd, contrib/seekable_format). A skippable frame with an entry
// a frame (compressed and decompressed size, 4 bytes little-endian each), and a footer: the number of frames, a
// descriptor byte (0: no checksums), a magic number. Stock zstd skips it.
const (
	seekFrameMagic  = 0x184D2A5E
	seekFooterMagic = 0x8F92EAB1
	seekHead        = 8
	seekEntry       = 8
	seekFooter      = 9
)

// frames returns how many frames a message of size bytes has.
func frames(size int64) int64 {
	return max(1, (size+FrameSize-1)/FrameSize)
}

// frameContent returns how many bytes of a message of size bytes frame i holds.
func frameContent(size, i int64) int {
	return int(min(FrameSize, size-i*FrameSize))
}

// seekTableSize returns the size of the seek table of a message of size bytes: 0 when it has one frame.
func seekTableSize(size int64) int64 {
	n := frames(size)
	if n == 1 {
		return 0
	}
	return seekHead + seekEntry*n + seekFooter
}

// appendSeekTable appends the seek table of a message of size bytes to dst; compressed holds the size of each frame.
func appendSeekTable(dst []byte, compressed []uint32, size int64) []byte {
	le := binary.LittleEndian
	n := len(compressed)
	dst = le.AppendUint32(dst, seekFrameMagic)
	dst = le.AppendUint32(dst, uint32(seekEntry*n+seekFooter))
	for i, c := range compressed {
		dst = le.AppendUint32(dst, c)
		dst = le.AppendUint32(dst, uint32(frameContent(size, int64(i))))
	}
	dst = le.AppendUint32(dst, uint32(n))
	dst = append(dst, 0)
	return le.AppendUint32(dst, seekFooterMagic)
}

// parseSeekTable reads the seek table of a message of size bytes and returns where each frame begins and, last, where
// the table does: frames(size)+1 offsets into the compressed stream. There is exactly one table that it takes for given
// frame sizes. Errors: ErrCorrupt, ErrSize.
func parseSeekTable(b []byte, size int64) ([]int64, error) {
	le := binary.LittleEndian
	n := frames(size)
	if n == 1 || int64(len(b)) != seekTableSize(size) {
		return nil, corrupt("seek table of %d bytes for %d frames", len(b), n)
	}
	footer := b[len(b)-seekFooter:]
	if le.Uint32(b) != seekFrameMagic || le.Uint32(footer[5:]) != seekFooterMagic || footer[4] != 0 {
		return nil, corrupt("no seek table where it should be")
	}
	if int64(le.Uint32(b[4:])) != seekEntry*n+seekFooter || int64(le.Uint32(footer)) != n {
		return nil, ErrSize
	}
	offsets := make([]int64, n+1)
	for i := range n {
		entry := b[seekHead+seekEntry*i:]
		c, d := int64(le.Uint32(entry)), int64(le.Uint32(entry[4:]))
		if want := int64(frameContent(size, i)); d != want {
			return nil, ErrSize
		} else if c == 0 || c > want+maxFrameOverhead {
			return nil, corrupt("seek table: a frame of %d bytes for %d", c, want)
		}
		offsets[i+1] = offsets[i] + c
	}
	return offsets, nil
}
