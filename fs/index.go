package fs

import (
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mailraft/raftstore/tree"
)

// indexName is the name of the file that every folder has without listing it; with "@" and a MODSEQ behind it, of the changes since.
const indexName = tree.ReservedPrefix + "index"

// indexFile is a folder's index, or the changes of it since a MODSEQ.
type indexFile struct {
	folder tree.Ino
	since  tree.ModSeq
}

// indexes numbers the index files that the kernel knows.
type indexes struct {
	gate *gate

	mu      sync.Mutex
	last    uint64
	byIno   map[tree.Ino]*knownIndex
	numbers map[indexFile]tree.Ino
}

type knownIndex struct {
	indexFile
	lookups uint64
}

func newIndexes(g *gate) *indexes {
	return &indexes{gate: g, byIno: map[tree.Ino]*knownIndex{}, numbers: map[indexFile]tree.Ino{}}
}

// parseIndexName takes the name apart: ENOENT for any other. Numbers are written in one way only.
func parseIndexName(name string) (since tree.ModSeq, err error) {
	rest, ok := strings.CutPrefix(name, indexName)
	if !ok {
		return 0, syscall.ENOENT
	}
	if rest == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(rest[1:], 10, 64)
	if rest[0] != '@' || err != nil || strconv.FormatUint(n, 10) != rest[1:] {
		return 0, syscall.ENOENT
	}
	return tree.ModSeq(n), nil
}

// lookup finds an index file in a folder. The kernel does not cache it.
func (x *indexes) lookup(a *account, parent tree.Ino, name string, out *fuse.EntryOut) error {
	since, err := parseIndexName(name)
	if err != nil {
		return err
	}
	role, err := x.gate.role(a, parent)
	if err != nil {
		return err
	}
	if !role.IsFolder() {
		return syscall.ENOENT
	}
	st, err := indexStatus(a, parent)
	if err != nil {
		return err
	}
	fillEntry(out, x.number(indexFile{parent, since}), &st)
	uncached(out)
	return nil
}

// indexStatus is the status of a folder's index files: read-only, of the folder's owner, and of no size that is known beforehand.
func indexStatus(a *account, folder tree.Ino) (tree.Stat, error) {
	in, err := a.view.Inode(folder)
	if err != nil {
		return tree.Stat{}, err
	}
	st := in.Stat
	st.Mode, st.Nlink, st.Size = syscall.S_IFREG|0o400, 1, 0
	return st, nil
}

func (x *indexes) number(file indexFile) tree.Ino {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, ok := x.numbers[file]
	if !ok {
		x.last++
		i = virtualBit | tree.Ino(x.last)
		x.numbers[file] = i
		x.byIno[i] = &knownIndex{indexFile: file}
	}
	x.byIno[i].lookups++
	return i
}

func (x *indexes) find(i tree.Ino) (indexFile, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.byIno[i]
	if k == nil {
		return indexFile{}, syscall.ENOENT
	}
	return k.indexFile, nil
}

func (x *indexes) forget(i tree.Ino, lookups uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.byIno[i]
	if k == nil {
		return
	}
	k.lookups -= min(lookups, k.lookups)
	if k.lookups == 0 {
		delete(x.byIno, i)
		delete(x.numbers, k.indexFile)
	}
}

func (x *indexes) status(i tree.Ino) (tree.Stat, error) {
	file, err := x.find(i)
	if err != nil {
		return tree.Stat{}, err
	}
	a, err := x.gate.of(file.folder)
	if err != nil {
		return tree.Stat{}, err
	}
	return indexStatus(a, file.folder)
}

// openIndex generates the index: as of now, for all that was acknowledged before.
func (m *mount) openIndex(i tree.Ino, flags uint32, out *fuse.OpenOut) fuse.Status {
	if writes(flags) {
		return fuse.EPERM
	}
	file, err := m.indexes.find(i)
	if err != nil {
		return m.status("open index", uint64(i), err)
	}
	text, err := m.indexText(file)
	if err != nil {
		return m.status("open index", uint64(i), err)
	}
	out.Fh = m.handles.add(&handle{text: text, index: file})
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

// closeIndex has the kernel forget the name of a folder's changes since a MODSEQ, which will hardly be asked for again: it would keep
// it, and with it an inode here, until it is short of memory.
func (m *mount) closeIndex(file indexFile) {
	if file.since > 0 {
		m.inval.entry(file.folder, indexName+"@"+strconv.FormatUint(uint64(file.since), 10))
	}
}

func (m *mount) indexText(file indexFile) ([]byte, error) {
	a, err := m.gate.of(file.folder)
	if err != nil {
		return nil, err
	}
	view, err := a.home.ReadIndex(m.time.context())
	if err != nil {
		return nil, err
	}
	x, err := view.FolderIndex(file.folder, file.since)
	if err != nil {
		return nil, err
	}
	return appendIndex(nil, x), nil
}

// appendIndex writes the index as a text: a line for the folder, one for each message, one for each that vanished.
func appendIndex(b []byte, x *tree.FolderIndex) []byte {
	room := 160 + 32*len(x.Vanished)
	for i := range x.Messages {
		room += 48 + len(x.Messages[i].Name)
	}
	if cap(b) < room {
		b = make([]byte, 0, room)
	}
	b = appendField(b, "#mailraft-index 1 uidvalidity=", uint64(x.Folder.UIDValidity))
	b = appendField(b, " uidnext=", uint64(x.Folder.UIDNext))
	b = appendField(b, " highestmodseq=", uint64(x.Folder.HighestModSeq))
	b = appendField(b, " messages=", x.Folder.Messages)
	b = appendField(b, " since=", uint64(x.Since))
	b = append(b, '\n')
	for i := range x.Messages {
		e := &x.Messages[i]
		b = strconv.AppendUint(b, uint64(e.UID), 10)
		b = appendField(b, " ", uint64(e.ModSeq))
		b = appendField(b, " ", e.Size)
		b = appendField(b, " ", uint64(max(0, e.Mtime)/1e9))
		if e.Box == tree.RoleNew {
			b = append(b, " new/"...)
		} else {
			b = append(b, " cur/"...)
		}
		b = append(appendEscaped(b, e.Name), '\n')
	}
	for _, v := range x.Vanished {
		b = appendField(b, "vanished ", uint64(v.UID))
		b = appendField(b, " ", uint64(v.ModSeq))
		b = append(b, '\n')
	}
	return b
}

func appendField(b []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(b, name...), n, 10)
}

// appendEscaped writes a name, with the octets escaped that would end a line: newline as \n, carriage return as \r, \ as \\.
func appendEscaped(b []byte, name string) []byte {
	if !strings.ContainsAny(name, "\n\r\\") {
		return append(b, name...)
	}
	for i := range len(name) {
		switch c := name[i]; c {
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\\':
			b = append(b, '\\', '\\')
		default:
			b = append(b, c)
		}
	}
	return b
}
