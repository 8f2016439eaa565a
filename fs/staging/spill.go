package staging

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrDamaged: a spilled file is not what was written to it.
var ErrDamaged = errors.New("staging: spilled file is damaged")

const (
	chunkSize = 64 << 10
	// slotSize is the room of a sealed chunk on disk: chunk i lies at i*slotSize. Its nonce stays in memory, so that an older
	// state of the chunk, put back by somebody, does not open either.
	slotSize = chunkSize + chacha20poly1305.Overhead
)

// spill is a File on disk. What it holds beyond the File's size is zero.
//
// One chunk may be in memory, changed and not yet written. It is written when another chunk is to be changed, and stays in
// memory when that fails: so a disk that is full, or that tears what it has, loses nothing that was accepted.
type spill struct {
	area   *Area
	file   *os.File
	aead   cipher.AEAD // has the only copy of the key
	chunks map[int64]chunk

	index   int64   // the chunk in memory
	data    *[]byte // its content, of chunkSize bytes; nil when none is in memory
	dirty   bool
	charged bool // data is in the Budget as it should be: not kept only because the disk was full
}

// chunk is a chunk that is on disk. Those that are not read as zeros.
type chunk struct {
	nonce [chacha20poly1305.NonceSizeX]byte
	size  int32 // what was sealed, in bytes
	keep  int32 // so much of it is still content, after truncating; the rest is zero
}

func newSpill(a *Area) (*spill, error) {
	var key [chacha20poly1305.KeySize]byte
	rand.Read(key[:]) // never fails
	aead, err := chacha20poly1305.NewX(key[:])
	clear(key[:])
	if err != nil {
		return nil, fmt.Errorf("staging: spill: %w", err)
	}
	file, err := a.createSpill()
	if err != nil {
		return nil, err
	}
	return &spill{area: a, file: file, aead: aead, chunks: make(map[int64]chunk)}, nil
}

func additional(index int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(index))
}

// store seals content as chunk index and writes it. When it fails, what was on disk of this chunk may be lost.
func (s *spill) store(index int64, content []byte) error {
	c := chunk{size: int32(len(content)), keep: int32(len(content))}
	rand.Read(c.nonce[:]) // never fails
	buf := getBuffer(slotSize)
	defer putBuffer(buf)
	*buf = s.aead.Seal((*buf)[:0], c.nonce[:], content, additional(index))
	if _, err := s.file.WriteAt(*buf, index*slotSize); err != nil {
		return fmt.Errorf("staging: spill: %w", err)
	}
	s.chunks[index] = c
	return nil
}

// load reads chunk index from disk into dst, of chunkSize bytes.
func (s *spill) load(index int64, dst []byte) error {
	c, ok := s.chunks[index]
	if !ok {
		clear(dst)
		return nil
	}
	buf := getBuffer(slotSize)
	defer putBuffer(buf)
	*buf = (*buf)[:c.size+chacha20poly1305.Overhead]
	if _, err := s.file.ReadAt(*buf, index*slotSize); err == io.EOF {
		return ErrDamaged
	} else if err != nil {
		return fmt.Errorf("staging: spill: %w", err)
	}
	content, err := s.aead.Open((*buf)[:0], c.nonce[:], *buf, additional(index))
	if err != nil {
		return ErrDamaged
	}
	clear(dst[copy(dst, content[:c.keep]):])
	return nil
}

// flush writes the chunk in memory, if it was changed.
func (s *spill) flush() error {
	if !s.dirty {
		return nil
	}
	n := chunkSize
	for n > 0 && (*s.data)[n-1] == 0 { // zeros at the end are what a hole reads as
		n--
	}
	if n == 0 {
		delete(s.chunks, s.index)
	} else if err := s.store(s.index, (*s.data)[:n]); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

// drop gives the memory of the chunk back, changed or not.
func (s *spill) drop() {
	if s.data != nil {
		s.area.budget.give(chunkSize)
		putBuffer(s.data)
		s.data, s.dirty = nil, false
	}
}

// bring has chunk index in memory, to be changed: all of it when whole.
func (s *spill) bring(index int64, whole bool) error {
	if s.data != nil && s.index == index {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	if s.data == nil {
		if s.charged = s.area.budget.take(chunkSize); !s.charged {
			s.area.budget.force(chunkSize)
		}
		s.data = getBuffer(chunkSize)
		*s.data = (*s.data)[:chunkSize]
	}
	if !whole {
		if err := s.load(index, *s.data); err != nil {
			s.drop()
			return err
		}
	}
	s.index = index
	return nil
}

func (s *spill) writeAt(p []byte, off int64) (int, error) {
	total := 0
	for len(p) > 0 {
		index, begin := off/chunkSize, int(off%chunkSize)
		n := min(len(p), chunkSize-begin)
		if err := s.change(index, begin, p[:n]); err != nil {
			return total, err
		}
		p, off, total = p[n:], off+int64(n), total+n
	}
	if s.data != nil && !s.charged && s.flush() == nil {
		s.drop()
	} // else it stays in memory, and the write that needs the room will tell
	return total, nil
}

// change writes p, which lies within one chunk.
func (s *spill) change(index int64, begin int, p []byte) error {
	inMemory := s.data != nil && s.index == index
	if _, stored := s.chunks[index]; len(p) == chunkSize && !inMemory && !stored {
		return s.store(index, p) // nothing to lose when it fails: no need to go through memory
	}
	if err := s.bring(index, len(p) == chunkSize); err != nil {
		return err
	}
	copy((*s.data)[begin:], p)
	s.dirty = true
	return nil
}

func (s *spill) readAt(p []byte, off int64) (int, error) {
	var buf *[]byte
	total := 0
	for len(p) > 0 {
		index, begin := off/chunkSize, int(off%chunkSize)
		n := min(len(p), chunkSize-begin)
		switch {
		case s.data != nil && s.index == index:
			copy(p[:n], (*s.data)[begin:])
		case n == chunkSize:
			if err := s.load(index, p[:n]); err != nil {
				return total, err
			}
		default:
			// A clean chunk in memory makes room for this one: small sequential reads decrypt each chunk once.
			if s.data != nil && !s.dirty {
				if err := s.bring(index, false); err != nil {
					return total, err
				}
				continue
			}
			if s.data == nil && s.area.budget.take(chunkSize) {
				s.area.budget.give(chunkSize)
				if err := s.bring(index, false); err != nil {
					return total, err
				}
				continue
			}
			if buf == nil {
				buf = getBuffer(chunkSize)
				defer putBuffer(buf)
				*buf = (*buf)[:chunkSize]
			}
			if err := s.load(index, *buf); err != nil {
				return total, err
			}
			copy(p[:n], (*buf)[begin:])
		}
		p, off, total = p[n:], off+int64(n), total+n
	}
	if s.data != nil && !s.charged && !s.dirty {
		s.drop()
	}
	return total, nil
}

// truncate drops what lies at or beyond size. It needs no room on the disk.
func (s *spill) truncate(size int64) {
	last, keep := size/chunkSize, int32(size%chunkSize)
	for index, c := range s.chunks {
		switch {
		case index > last || index == last && keep == 0:
			delete(s.chunks, index)
		case index == last && c.keep > keep:
			c.keep = keep
			s.chunks[index] = c
		}
	}
	if s.data != nil {
		switch {
		case s.index > last || s.index == last && keep == 0:
			s.drop()
		case s.index == last:
			clear((*s.data)[keep:])
		}
	}
	n := last * slotSize
	if c, ok := s.chunks[last]; ok {
		n += int64(c.size) + chacha20poly1305.Overhead
	}
	// Only gives room back: what is left too long is never read.
	_ = s.file.Truncate(n)
}

// close gives memory and disk back. The key goes with the cipher object, which cannot be wiped: the library has no way to.
func (s *spill) close() error {
	s.drop()
	s.aead, s.chunks = nil, nil
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("staging: spill: %w", err)
	}
	return nil
}
