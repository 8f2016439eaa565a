package staging

import (
	"math/bits"
	"sync"
)

// Memory comes in powers of two from 16 KiB to 1 MiB, kept for the next File; what is larger is left to the garbage
// collector. The smallest fits most mail, so that a small message takes one buffer and no copying.
const (
	minBufferLog = 14
	maxBufferLog = 20
)

var buffers [maxBufferLog - minBufferLog + 1]sync.Pool

// bufferSize returns the size of the buffer that n bytes get.
func bufferSize(n int) int {
	return 1 << max(minBufferLog, bits.Len(uint(max(n, 1)-1)))
}

// getBuffer returns an empty buffer of bufferSize(n) bytes, all zero.
func getBuffer(n int) *[]byte {
	size := bufferSize(n)
	if class := bits.Len(uint(size)) - 1 - minBufferLog; class < len(buffers) {
		if b, ok := buffers[class].Get().(*[]byte); ok {
			return b
		}
	}
	b := make([]byte, 0, size)
	return &b
}

// putBuffer wipes a buffer and keeps it. Its length must cover all that was written to it.
func putBuffer(b *[]byte) {
	clear(*b)
	*b = (*b)[:0]
	if class := bits.Len(uint(cap(*b))) - 1 - minBufferLog; class < len(buffers) {
		buffers[class].Put(b)
	}
}
