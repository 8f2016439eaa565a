package test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// needleSize is how many octets of a line are looked for: whoever finds a longer line finds these.
const needleSize = 16

// needles are what must not be found, in whatever place.
type needles struct {
	names map[[needleSize]byte]string
	maybe []uint64 // a bit for each hash of the last eight octets of a needle
}

func newNeedles() *needles {
	return &needles{map[[needleSize]byte]string{}, make([]uint64, 1<<24/64)}
}

func bit(last8 uint64) (word int, mask uint64) {
	h := last8 * 0x9e3779b97f4a7c15 >> 40
	return int(h / 64), 1 << (h % 64)
}

// add adds a text of which the first octets are looked for. Those that say nothing are left out: a line of dashes, and an alphabet,
// which any table of counted numbers holds ("ABC..." are the offsets 65, 66, 67...).
func (n *needles) add(name string, text []byte) {
	if len(text) < needleSize {
		return
	}
	text = text[:needleSize]
	different, counted := map[byte]bool{}, true
	for i, c := range text {
		different[c] = true
		counted = counted && c == text[0]+byte(i)
	}
	if len(different) < 6 || counted {
		return
	}
	n.names[[needleSize]byte(text)] = name
	word, mask := bit(binary.BigEndian.Uint64(text[needleSize-8:]))
	n.maybe[word] |= mask
}

// addLines adds every line.
func (n *needles) addLines(name string, text []byte) {
	for line := range bytes.SplitSeq(text, []byte("\r\n")) {
		n.add(name, line)
	}
}

// found is where something lies that must not lie there.
type found struct {
	place  string
	offset int64
	name   string
	text   string
}

func (f found) String() string {
	return fmt.Sprintf("%s, at %d: %q, which is in %s", f.place, f.offset, f.text, f.name)
}

// most is how many finds of one place are told of.
const most = 5

// in searches every octet.
func (n *needles) in(place string, r io.Reader) (all []found, size int64, err error) {
	b := bufio.NewReaderSize(r, 1<<20)
	var high, low uint64 // the last sixteen octets
	for {
		c, err := b.ReadByte()
		if err == io.EOF {
			return all, size, nil
		}
		if err != nil {
			return all, size, err
		}
		high = high<<8 | low>>56
		low = low<<8 | uint64(c)
		size++
		if word, mask := bit(low); n.maybe[word]&mask == 0 {
			continue
		}
		var last [needleSize]byte
		binary.BigEndian.PutUint64(last[:8], high)
		binary.BigEndian.PutUint64(last[8:], low)
		if name, ok := n.names[last]; ok && size >= needleSize && len(all) < most {
			all = append(all, found{place, size - needleSize, name, string(last[:])})
		}
	}
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
func (n *needles) inOpenFiles(t *testing.T, pid int, mount string) (all []found, files []string, size int64) {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		target, err := os.Readlink(path)
		if err != nil || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, mount+"/") {
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
