package disk

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

const (
	blockSize  = 4096
	sectorSize = 512
)

type block [blockSize]byte

var zeros block

// content is a file's data at one moment. A nil block is zeros.
type content struct {
	blocks []*block
	size   int64
}

func blocksFor(size int64) int { return int((size + blockSize - 1) / blockSize) }

// data is a file's data: as it is seen, and as it is on the disk. Blocks are shared between the two until written to.
type data struct {
	seen   content
	stored content
	dirty  map[int]struct{} // blocks that differ, or may
}

func (d *data) read(p []byte, off int64) int {
	if off >= d.seen.size {
		return 0
	}
	p = p[:min(int64(len(p)), d.seen.size-off)]
	for n := 0; n < len(p); {
		at := off + int64(n)
		i, from := int(at/blockSize), int(at%blockSize)
		end := min(n+blockSize-from, len(p))
		if b := d.seen.blocks[i]; b != nil {
			copy(p[n:end], b[from:])
		} else {
			clear(p[n:end])
		}
		n = end
	}
	return len(p)
}

func (d *data) write(p []byte, off int64) {
	if end := off + int64(len(p)); end > d.seen.size {
		d.resize(end)
	}
	for n := 0; n < len(p); {
		at := off + int64(n)
		i, from := int(at/blockSize), int(at%blockSize)
		if from == 0 && bytes.HasPrefix(p[n:], zeros[:]) {
			d.seen.blocks[i] = nil
			d.touch(i)
			n += blockSize
			continue
		}
		n += copy(d.change(i)[from:], p[n:])
	}
}

// change gives a block that may be written to.
func (d *data) change(i int) *block {
	if _, dirty := d.dirty[i]; !dirty || d.seen.blocks[i] == nil {
		b := new(block)
		if old := d.seen.blocks[i]; old != nil {
			*b = *old
		}
		d.seen.blocks[i] = b
		d.touch(i)
	}
	return d.seen.blocks[i]
}

func (d *data) touch(i int) {
	if d.dirty == nil {
		d.dirty = map[int]struct{}{}
	}
	d.dirty[i] = struct{}{}
}

func (d *data) resize(size int64) {
	n := blocksFor(size)
	for i := n; i < len(d.seen.blocks); i++ {
		d.touch(i)
	}
	if size < d.seen.size && size%blockSize != 0 && d.seen.blocks[n-1] != nil {
		clear(d.change(n - 1)[size%blockSize:])
	}
	d.seen.blocks = resized(d.seen.blocks, n)
	d.seen.size = size
}

func resized(blocks []*block, n int) []*block {
	if n < len(blocks) {
		clear(blocks[n:])
		return blocks[:n]
	}
	return append(blocks, make([]*block, n-len(blocks))...)
}

// sync puts all of it on the disk.
func (d *data) sync() {
	d.stored.size = d.seen.size
	d.stored.blocks = resized(d.stored.blocks, len(d.seen.blocks))
	for i := range d.dirty {
		if i < len(d.seen.blocks) {
			d.stored.blocks[i] = d.seen.blocks[i]
		}
	}
	clear(d.dirty)
}

// lose is the power cut: what is not on the disk goes, but for the part that tear, if it is not nil, draws to survive.
func (d *data) lose(tear *rand.Rand) {
	if tear != nil && (len(d.dirty) > 0 || d.seen.size != d.stored.size) {
		d.tear(tear)
	}
	d.seen = content{slices.Clone(d.stored.blocks), d.stored.size}
	clear(d.dirty)
}

// tear has some of the unsynced blocks come through, whole or in sectors, and the size be the old, the new or one between.
func (d *data) tear(r *rand.Rand) {
	lo, hi := min(d.stored.size, d.seen.size), max(d.stored.size, d.seen.size)
	size := [...]int64{d.stored.size, d.seen.size, lo + r.Int64N(hi-lo+1)}[r.IntN(3)]
	next := resized(slices.Clone(d.stored.blocks), blocksFor(size))
	for _, i := range slices.Sorted(maps.Keys(d.dirty)) {
		if i >= len(next) || i >= len(d.seen.blocks) || r.IntN(2) == 0 {
			continue
		}
		next[i] = d.arrived(r, next[i], d.seen.blocks[i])
	}
	if cut := size % blockSize; cut != 0 && next[len(next)-1] != nil {
		b := *next[len(next)-1]
		clear(b[cut:])
		next[len(next)-1] = &b
	}
	d.stored = content{next, size}
}

// arrived is what the disk holds of a block that was being written: mostly the new one, at times only some sectors of it.
func (d *data) arrived(r *rand.Rand, was, is *block) *block {
	if was == is || r.IntN(4) != 0 {
		return is
	}
	b := new(block)
	if was != nil {
		*b = *was
	}
	if is == nil {
		is = &zeros
	}
	for at := 0; at < blockSize; at += sectorSize {
		if r.IntN(2) == 0 {
			copy(b[at:at+sectorSize], is[at:at+sectorSize])
		}
	}
	return b
}
