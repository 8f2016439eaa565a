package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mailraft/raftstore/durable"
)

// ErrDamaged says that something in the folder is not what was written; the error names it.
var ErrDamaged = errors.New("the backup is damaged")

// id names a content: numbers are an account's for ever, and with its time of making those of one cluster's account.
type id struct {
	account uint32
	created int64
	content uint64
}

// place is where a content lies.
type place struct {
	pack   string
	offset int64 // of its octets
	size   uint64
	sum    [sha256.Size]byte
}

// An entry of a pack is a header and a content's octets.
const (
	magic      = "mrc1"
	headerSize = 4 + 4 + 8 + 8 + 8 + sha256.Size
	packSize   = 256 << 20 // a pack of so many octets is full
)

func appendHeader(b []byte, i id, size uint64, sum [sha256.Size]byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, i.account)
	b = binary.BigEndian.AppendUint64(b, uint64(i.created))
	b = binary.BigEndian.AppendUint64(b, i.content)
	b = binary.BigEndian.AppendUint64(b, size)
	return append(b, sum[:]...)
}

func parseHeader(b []byte) (i id, size uint64, sum [sha256.Size]byte, ok bool) {
	i = id{binary.BigEndian.Uint32(b[4:]), int64(binary.BigEndian.Uint64(b[8:])), binary.BigEndian.Uint64(b[16:])}
	copy(sum[:], b[32:])
	return i, binary.BigEndian.Uint64(b[24:]), sum, bytes.HasPrefix(b, []byte(magic))
}

// packs are the contents in a folder.
type packs struct {
	dir   string
	found map[id]place
	whole map[string]int64 // packs that a run has finished, with their sizes

	out     *os.File // being written
	name    string
	size    int64
	written uint64 // octets, in this run
}

// packsFile lists the packs that are finished: a name and a size a line.
const packsFile = "PACKS"

// openPacks reads where everything is. A pack that no run has finished is read whole, and counts up to where it is damaged.
func openPacks(root string) (*packs, error) {
	p := &packs{dir: filepath.Join(root, "packs"), found: map[id]place{}, whole: map[string]int64{}}
	text, err := os.ReadFile(filepath.Join(root, packsFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var size int64
		if _, err := fmt.Sscanf(line, "%s %d\n", &name, &size); err != nil {
			return nil, fmt.Errorf("%w: %s says %q", ErrDamaged, filepath.Join(root, packsFile), strings.TrimSpace(line))
		}
		p.whole[name] = size
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".pack" {
			continue
		}
		seen[e.Name()] = true
		size, finished := p.whole[e.Name()]
		err := p.scan(e.Name(), !finished, func(i id, at place) { p.found[i] = at })
		if info, serr := e.Info(); finished && (err != nil || serr == nil && info.Size() != size) {
			return nil, errors.Join(fmt.Errorf("%w: %s is not of %d octets, or not readable", ErrDamaged, filepath.Join(p.dir, e.Name()), size), err)
		}
	}
	for name := range p.whole {
		if !seen[name] {
			return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, filepath.Join(p.dir, name))
		}
	}
	return p, nil
}

// scan calls fn for each entry of a pack; with check the octets are read, and must be what the header says. An error says where it
// ends.
func (p *packs) scan(name string, check bool, fn func(id, place)) error {
	path := filepath.Join(p.dir, name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var header [headerSize]byte
	for at := int64(0); at < st.Size(); {
		if _, err := f.ReadAt(header[:], at); err != nil && err != io.EOF {
			return err
		}
		i, size, sum, ok := parseHeader(header[:])
		if !ok || at+headerSize > st.Size() || size > uint64(st.Size()-at-headerSize) {
			return fmt.Errorf("%w: %s from octet %d on", ErrDamaged, path, at)
		}
		if check {
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(f, at+headerSize, int64(size))); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if [sha256.Size]byte(h.Sum(nil)) != sum {
				return fmt.Errorf("%w: %s, content %d of account %d at octet %d", ErrDamaged, path, i.content, i.account, at)
			}
		}
		fn(i, place{name, at + headerSize, size, sum})
		at += headerSize + int64(size)
	}
	return nil
}

// put adds a content, whose octets write hands out in order.
func (p *packs) put(i id, size uint64, write func(func([]byte) error) error) error {
	if p.out == nil {
		if err := p.begin(); err != nil {
			return err
		}
	}
	at, h, n := p.size, sha256.New(), uint64(0)
	off := at + headerSize
	err := write(func(b []byte) error {
		h.Write(b)
		_, err := p.out.WriteAt(b, off)
		off += int64(len(b))
		n += uint64(len(b))
		return err
	})
	if err == nil && n != size {
		err = fmt.Errorf("content %d of account %d came with %d octets, not %d", i.content, i.account, n, size)
	}
	if err != nil {
		return err
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	if _, err := p.out.WriteAt(appendHeader(nil, i, size, sum), at); err != nil {
		return err
	}
	p.found[i] = place{p.name, at + headerSize, size, sum}
	p.size = off
	p.written += headerSize + size
	if p.size >= packSize {
		return p.end()
	}
	return nil
}

func (p *packs) begin() (err error) {
	if err := durable.MkdirAll(p.dir); err != nil {
		return err
	}
	for n := 1; ; n++ {
		p.name = fmt.Sprintf("%08d.pack", n)
		p.out, err = os.OpenFile(filepath.Join(p.dir, p.name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if !errors.Is(err, os.ErrExist) {
			p.size = 0
			return err
		}
	}
}

// end has the pack that is being written on the disk.
func (p *packs) end() error {
	if p.out == nil {
		return nil
	}
	err := errors.Join(p.out.Truncate(p.size), p.out.Sync(), p.out.Close(), durable.SyncDir(p.dir))
	p.out = nil
	return err
}

// finish notes that all packs are whole: each is as long as its entries, what a crash left behind them goes.
func (p *packs) finish(root string) error {
	if err := p.end(); err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, at := range p.found {
		sizes[at.pack] = max(sizes[at.pack], at.offset+int64(at.size))
	}
	var lines []string
	for name, size := range sizes {
		if p.whole[name] != size {
			if err := os.Truncate(filepath.Join(p.dir, name), size); err != nil {
				return err
			}
		}
		lines = append(lines, fmt.Sprintf("%s %d\n", name, size))
	}
	slices.Sort(lines)
	return durable.WriteFile(filepath.Join(root, packsFile), []byte(strings.Join(lines, "")), 0o600)
}

// read opens a content for reading.
func (p *packs) read(i id) (io.ReadCloser, place, error) {
	at, ok := p.found[i]
	if !ok {
		return nil, at, fmt.Errorf("%w: content %d of account %d is in no pack", ErrDamaged, i.content, i.account)
	}
	f, err := os.Open(filepath.Join(p.dir, at.pack))
	if err != nil {
		return nil, at, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, at.offset, int64(at.size)), f}, at, nil
}
