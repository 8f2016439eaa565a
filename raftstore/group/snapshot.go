package group

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"mailraft/raftstore/durable"
	"mailraft/raftstore/machine"
)

// snapshotStore is the raft.SnapshotStore of a state that is durable itself. A snapshot taken here is a note, "the state on
// disk has index N at least": no octets are copied. Only when a follower needs one is a Pebble checkpoint made (hard links)
// and streamed. A snapshot received from the leader is stored in a file whole, and then becomes the state.
type snapshotStore struct {
	g   *Group
	dir string

	mu   sync.Mutex
	last *raft.SnapshotMeta
	got  bool // last came from the leader and lies in receivedFile until it is installed
}

const (
	noteFile     = "snapshot.json" // of a state that has the index
	receivedFile = "received"      // a whole snapshot that came from the leader
	receivedNote = "received.json" // there once the file is whole and on disk
)

// open reads the note of the last snapshot; one that was received and not installed yet is the last.
func (s *snapshotStore) open() error {
	if err := durable.MkdirAll(s.dir); err != nil {
		return err
	}
	for _, name := range []string{receivedNote, noteFile} {
		meta, err := readNote(filepath.Join(s.dir, name))
		if err == nil {
			s.last, s.got = meta, name == receivedNote
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func readNote(path string) (*raft.SnapshotMeta, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	meta := new(raft.SnapshotMeta)
	if err := json.Unmarshal(b, meta); err != nil {
		return nil, fmt.Errorf("%s is corrupt: %w", path, err)
	}
	return meta, nil
}

func writeNote(path string, meta *raft.SnapshotMeta) error {
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, b, 0o600)
}

// installed says that the received snapshot is the state now.
func (s *snapshotStore) installed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := writeNote(filepath.Join(s.dir, noteFile), s.last); err != nil {
		return err
	}
	s.got = false
	// The note goes first: while it is there, the file must be.
	err := errors.Join(os.Remove(filepath.Join(s.dir, receivedNote)), durable.SyncDir(s.dir))
	if err == nil {
		err = os.Remove(filepath.Join(s.dir, receivedFile))
	}
	return err
}

// noted is the index of the last snapshot of this replica's own state; 0: there is none, or it is not installed yet.
func (s *snapshotStore) noted() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.got {
		return 0
	}
	return s.last.Index
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &sink{s: s, meta: &raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term, Configuration: c, ConfigurationIndex: cIndex,
	}}, nil
}

// List implements raft.SnapshotStore: there is the last one, or none.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return nil, nil
	}
	m := *s.last
	return []*raft.SnapshotMeta{&m}, nil
}

// Open implements raft.SnapshotStore: for a snapshot that was received, its file; else a checkpoint of the state as it is now,
// which has the snapshot's index and perhaps more. Applying entries that it has already does nothing, so that is as good.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.ID != id {
		return nil, nil, fmt.Errorf("snapshot %s: %w", id, os.ErrNotExist)
	}
	m := *s.last
	if s.got {
		f, err := os.Open(filepath.Join(s.dir, receivedFile))
		if err != nil {
			return nil, nil, err
		}
		fi, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, nil, err
		}
		m.Size = fi.Size()
		return &m, f, nil
	}
	r, size, err := s.g.checkpointStream()
	m.Size = size
	return &m, r, err
}

// sink is the raft.SnapshotSink. What is taken here writes nothing to it; what comes from the leader goes to a file.
type sink struct {
	s    *snapshotStore
	meta *raft.SnapshotMeta
	f    *os.File
	w    *bufio.Writer
}

func (k *sink) ID() string { return k.meta.ID }

func (k *sink) Write(p []byte) (int, error) {
	if k.f == nil {
		f, err := os.OpenFile(filepath.Join(k.s.dir, receivedFile+".new"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return 0, err
		}
		k.f, k.w = f, bufio.NewWriterSize(f, 1<<20)
	}
	return k.w.Write(p)
}

func (k *sink) Close() error {
	s := k.s
	s.mu.Lock()
	defer s.mu.Unlock()
	name := noteFile
	if k.f == nil {
		if err := s.overtaken(k.meta); err != nil {
			return err
		}
	} else {
		if err := errors.Join(k.w.Flush(), k.f.Sync(), k.f.Close()); err != nil {
			return err
		}
		// One that came before and was not installed is given up, its note first.
		name = receivedNote
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := durable.SyncDir(s.dir); err != nil {
			return err
		}
		if err := durable.Rename(filepath.Join(s.dir, receivedFile+".new"), filepath.Join(s.dir, receivedFile)); err != nil {
			return err
		}
	}
	if err := writeNote(filepath.Join(s.dir, name), k.meta); err != nil {
		return err
	}
	s.last, s.got = k.meta, k.f != nil
	return nil
}

// overtaken tells whether a snapshot from the leader came while one was taken here: that one is of a state that is about to go, or
// has gone. Called with s.mu held.
func (s *snapshotStore) overtaken(own *raft.SnapshotMeta) error {
	if s.got || s.last != nil && own.Index < s.last.Index {
		return fmt.Errorf("snapshot at index %d was overtaken by the leader's at %d", own.Index, s.last.Index)
	}
	return nil
}

// mark has the state that is there now know that it has a snapshot's index, unless the leader's is taking its place.
func (s *snapshotStore) mark(own *raft.SnapshotMeta) (*machine.Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.overtaken(own); err != nil {
		return nil, err
	}
	h := s.g.store.Acquire()
	if err := h.Set(flushedKey, binary.BigEndian.AppendUint64(nil, own.Index), pebble.NoSync); err != nil {
		return nil, errors.Join(err, h.Release())
	}
	return h, nil
}

func (k *sink) Cancel() error {
	if k.f == nil {
		return nil
	}
	return errors.Join(k.f.Close(), os.Remove(filepath.Join(k.s.dir, receivedFile+".new")))
}

// A stream is: "mailraft checkpoint 1\n"; for each file the length of its name (2 octets), its name, its size (8), its octets,
// the CRC-32C of all these (4); a name length of 0 ends it. Numbers are big endian.
const streamMagic = "mailraft checkpoint 1\n"

const checkpointPrefix = "checkpoint-"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkpointStream makes a checkpoint of the state and streams it; closing the stream removes it.
func (g *Group) checkpointStream() (io.ReadCloser, int64, error) {
	dir, err := os.MkdirTemp(g.cfg.Dir, checkpointPrefix)
	if err != nil {
		return nil, 0, err
	}
	at := filepath.Join(dir, "state")
	h := g.store.Acquire()
	err = g.flush(h) // a checkpoint without a write-ahead log has what is flushed
	if err == nil {
		err = h.Checkpoint(at)
	}
	err = errors.Join(err, h.Release())
	var names []string
	size := int64(len(streamMagic) + 2)
	if err == nil {
		var entries []os.DirEntry
		entries, err = os.ReadDir(at)
		for _, e := range entries {
			fi, ferr := e.Info()
			err = errors.Join(err, ferr)
			if ferr == nil && fi.Mode().IsRegular() {
				names = append(names, e.Name())
				size += 2 + int64(len(e.Name())) + 8 + fi.Size() + 4
			}
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, 0, fmt.Errorf("checkpoint: %w", err)
	}
	sort.Strings(names)
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(writeStream(pw, at, names)) }()
	return &checkpointReader{pr, dir}, size, nil
}

type checkpointReader struct {
	*io.PipeReader
	dir string
}

func (r *checkpointReader) Close() error {
	return errors.Join(r.PipeReader.Close(), os.RemoveAll(r.dir))
}

func writeStream(w io.Writer, dir string, names []string) error {
	b := bufio.NewWriterSize(w, 256<<10)
	b.WriteString(streamMagic)
	for _, name := range names {
		if err := writeFile(b, dir, name); err != nil {
			return err
		}
	}
	b.Write([]byte{0, 0})
	return b.Flush()
}

func writeFile(b *bufio.Writer, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
	head = append(head, name...)
	head = binary.BigEndian.AppendUint64(head, uint64(fi.Size()))
	b.Write(head)
	sum := crc32.New(castagnoli)
	sum.Write(head)
	if _, err := io.CopyN(io.MultiWriter(b, sum), f, fi.Size()); err != nil {
		return err
	}
	_, err = b.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

func readStream(r io.Reader, dir string) error {
	b := bufio.NewReaderSize(r, 256<<10)
	magic := make([]byte, len(streamMagic))
	if _, err := io.ReadFull(b, magic); err != nil {
		return err
	}
	if string(magic) != streamMagic {
		return errors.New("not a checkpoint")
	}
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(b, head); err != nil {
			return err
		}
		length := int(binary.BigEndian.Uint16(head))
		if length == 0 {
			return nil
		}
		head = append(head, make([]byte, length+8)...)
		if _, err := io.ReadFull(b, head[2:]); err != nil {
			return err
		}
		name := string(head[2 : 2+length])
		if strings.ContainsAny(name, "/\x00") || name[0] == '.' {
			return fmt.Errorf("checkpoint names a file %q", name)
		}
		if err := readFile(b, head, filepath.Join(dir, name), int64(binary.BigEndian.Uint64(head[2+length:]))); err != nil {
			return err
		}
	}
}

// readFile writes the file whose head has been read.
func readFile(r io.Reader, head []byte, path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	sum.Write(head)
	_, err = io.CopyN(io.MultiWriter(f, sum), r, size)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	var want [4]byte
	if _, err := io.ReadFull(r, want[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(want[:]) != sum.Sum32() {
		return fmt.Errorf("checkpoint: %s came damaged", filepath.Base(path))
	}
	return nil
}
