package test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is looked for of a line:
//   - of at least 16 octets: its first 16, its last 16, and 16 of every 64 between them. So whatever brings to a disk the beginning of
//     a line, its end, or 79 octets in a row out of its middle, is found;
//   - of 8 to 15 octets: all of it;
//   - of less: nothing. Among the octets of ciphertext that are stored, seven given ones come by chance: a million such needles in
//     10^9 octets are found once in 70 runs; of eight octets, once in 18,000.
//
// A piece is left out if it says nothing, since what is stored has tables, padding and words of its own as well: one with fewer than
// minDifferent different octets, such as a line of dashes; one in which each octet is the one before plus the same number, such as an
// alphabet, since any table of counted numbers holds that ("ABC..." are the offsets 65, 66, 67...); and one that is in the data folder
// of a node that never had mail, such as the beginning of every private key of that kind in base64 (leaveOut).
const (
	needleMax    = 16
	needleMin    = 8
	needleStride = 64
	minDifferent = 3
)

// needles are what must not be found, in whatever place.
type needles struct {
	list   []needle
	byLast map[uint64]int32 // the needle that was added last, of those with these last eight octets
	maybe  []uint64         // a bit for each hash of the last eight octets of a needle
	names  []string
}

// needle is 8 to 16 octets: the last eight, and those before them.
type needle struct {
	before, last uint64
	octets       int32
	name         int32 // in names
	leftOut      bool
	next         int32 // another with the same last octets; -1: none
}

func (n *needle) text() []byte {
	b := binary.BigEndian.AppendUint64(nil, n.before)
	return binary.BigEndian.AppendUint64(b, n.last)[needleMax-n.octets:]
}

// matches tells whether the needle's octets are the last ones of these sixteen, of which size have been read.
func (n *needle) matches(before, last uint64, size int64) bool {
	mask := uint64(1)<<(8*(n.octets-8)) - 1 // all, of 16: what is shifted out is 0
	return n.last == last && n.before == before&mask && size >= int64(n.octets)
}

func newNeedles() *needles {
	return &needles{byLast: map[uint64]int32{}, maybe: make([]uint64, 1<<26/64)}
}

func bit(last uint64) (word int, mask uint64) {
	h := last * 0x9e3779b97f4a7c15 >> 38
	return int(h / 64), 1 << (h % 64)
}

// add adds what is looked for of one line, or of anything else.
func (n *needles) add(name string, line []byte) {
	if len(n.names) == 0 || n.names[len(n.names)-1] != name {
		n.names = append(n.names, name)
	}
	if len(line) < needleMin {
		return
	}
	for at := 0; at < len(line)-needleMax; at += needleStride {
		n.addPiece(line[at : at+needleMax])
	}
	n.addPiece(line[max(0, len(line)-needleMax):])
}

func (n *needles) addPiece(piece []byte) {
	var seen [256]bool
	different, counted := 0, true
	for i, c := range piece {
		if !seen[c] {
			different++
			seen[c] = true
		}
		counted = counted && c == piece[0]+byte(i)*(piece[1]-piece[0])
	}
	if different < minDifferent || counted {
		return
	}
	var b [needleMax]byte
	copy(b[needleMax-len(piece):], piece)
	e := needle{before: binary.BigEndian.Uint64(b[:8]), last: binary.BigEndian.Uint64(b[8:]), octets: int32(len(piece)), name: int32(len(n.names) - 1), next: -1}
	if first, ok := n.byLast[e.last]; ok {
		for i := first; i >= 0; i = n.list[i].next {
			if n.list[i].before == e.before && n.list[i].octets == e.octets {
				n.list[i].leftOut = false
				return
			}
		}
		e.next = first
	}
	n.byLast[e.last] = int32(len(n.list))
	n.list = append(n.list, e)
	word, mask := bit(e.last)
	n.maybe[word] |= mask
}

// addLines adds every line.
func (n *needles) addLines(name string, text []byte) {
	for line := range bytes.SplitSeq(text, []byte("\r\n")) {
		n.add(name, line)
	}
}

// leaveOut leaves out what was found where no mail can be.
func (n *needles) leaveOut(finds []found) {
	for _, f := range finds {
		f.needle.leftOut = true
	}
}

// found is where something lies that must not lie there.
type found struct {
	place  string
	offset int64
	name   string
	text   string
	needle *needle
}

func (f found) String() string {
	return fmt.Sprintf("%s, at %d: %q, which is in %s", f.place, f.offset, f.text, f.name)
}

// in searches every octet.
func (n *needles) in(place string, r io.Reader) (all []found, size int64, err error) {
	b := make([]byte, 1<<20)
	var before, last uint64 // the last sixteen octets
	for {
		k, err := r.Read(b)
		for _, c := range b[:k] {
			before = before<<8 | last>>56
			last = last<<8 | uint64(c)
			size++
			if word, mask := bit(last); n.maybe[word]&mask != 0 {
				all = n.look(all, place, before, last, size)
			}
		}
		if err == io.EOF {
			return all, size, nil
		}
		if err != nil {
			return all, size, err
		}
	}
}

// look looks for a needle that ends here.
func (n *needles) look(all []found, place string, before, last uint64, size int64) []found {
	i, ok := n.byLast[last]
	if !ok {
		return all
	}
	for ; i >= 0; i = n.list[i].next {
		if e := &n.list[i]; e.matches(before, last, size) && !e.leftOut {
			all = append(all, found{place, size - int64(e.octets), n.names[e.name], string(e.text()), e})
		}
	}
	return all
}

// inFolder searches the files of a folder, and their names. Files that go while it looks are not there.
func (n *needles) inFolder(t *testing.T, root string) (all []found, size int64) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		names, _, err := n.in("the name of "+path, strings.NewReader(d.Name()))
		if err != nil {
			return err
		}
		all = append(all, names...)
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		in, octets, err := n.in(path, f)
		all, size = append(all, in...), size+octets
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, size
}

// inOpenFiles searches the files that a process has open on disks, those without a name as well: what is staged lies in such. Those
// on the mount are on no disk. proc_pid_fd(5): opening an entry opens the file itself again.
func (n *needles) inOpenFiles(t *testing.T, pid int, mounts ...string) (all []found, files []string, size int64) {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		target, err := os.Readlink(path)
		if err != nil || strings.HasPrefix(target, "anon_inode:") || slices.ContainsFunc(mounts, func(m string) bool { return strings.HasPrefix(target, m+"/") }) {
			continue // closed meanwhile, or nothing that holds octets
		}
		if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue // closed meanwhile
		}
		in, octets, err := n.in(path+" -> "+target, f)
		f.Close()
		if err != nil {
			t.Fatalf("%s -> %s: %v", path, target, err)
		}
		all, files, size = append(all, in...), append(files, target), size+octets
	}
	return all, files, size
}

// What the search promises of a line it keeps.
func TestNeedles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	line := make([]byte, 300)
	for i := range line {
		line[i] = byte('!' + random.IntN(90))
	}
	finds := func(n *needles, octets []byte) bool {
		all, _, err := n.in("", bytes.NewReader(octets))
		return err == nil && len(all) > 0
	}
	for _, length := range []int{7, 8, 15, 16, 17, 64, 79, 80, 81, 96, 300} {
		n := newNeedles()
		n.add("", line[:length])
		if got := finds(n, line); got != (length >= needleMin) {
			t.Errorf("a line of %d octets: found %t", length, got)
		}
		if length >= needleMax && (!finds(n, line[:needleMax]) || !finds(n, line[length-needleMax:length])) {
			t.Errorf("a line of %d octets: its ends are not found", length)
		}
		for at := 0; at+needleStride+needleMax-1 <= length; at++ {
			if !finds(n, line[at:][:needleStride+needleMax-1]) {
				t.Errorf("a line of %d octets: not found at %d", length, at)
			}
		}
	}
	n := newNeedles()
	for _, nothing := range []string{"----------------", "=-=-=-=-=-=-", "ABCDEFGHIJKLMNOP", "87654321", "short"} {
		n.add("", []byte(nothing))
	}
	if len(n.list) > 0 {
		t.Errorf("looked for: %q", n.list[0].text())
	}
}
