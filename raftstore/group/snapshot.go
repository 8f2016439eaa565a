package group

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"mailraft/raftstore/durable"
	"mailraft/raftstore/machine"
)

// snapshotStore is the raft.SnapshotStore of a state that is durable itself. A snapshot taken here is a note, "the state on
// disk has index N at least": no octets are copied. Only when a follower needs one is a Pebble checkpoint made (hard links)
// and streamed (checkpoint.go). A snapshot received from the leader is stored whole, and then becomes the state.
type snapshotStore struct {
	g   *Group
	dir string

	mu     sync.Mutex
	last   *raft.SnapshotMeta
	got    bool // last came from the leader and lies in the received folder until it is installed
	coming int  // checkpoints of which files are stored, or that are being installed
}

const (
	noteFile        = "snapshot.json" // of a state that has the index
	receivingFolder = "receiving"     // files of a snapshot that comes from the leader, or came in part
	receivedFolder  = "received"      // a whole one
	receivedNote    = "received.json" // there once it is whole and on disk
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
	return s.dropReceived()
}

// dropReceived removes a snapshot that was received. Its note goes first: while that is there, the files must be.
func (s *snapshotStore) dropReceived() error {
	if err := os.Remove(filepath.Join(s.dir, receivedNote)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(s.dir, receivedFolder))
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

// Open implements raft.SnapshotStore: for a snapshot that was received nothing but its note, as it is to be installed; else a checkpoint of
// the state as it is now, which has the snapshot's index and perhaps more. Applying entries that it has already does nothing, so that is
// as good.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.ID != id {
		return nil, nil, fmt.Errorf("snapshot %s: %w", id, os.ErrNotExist)
	}
	m := *s.last
	if s.got {
		return &m, io.NopCloser(strings.NewReader("")), nil
	}
	c, err := s.g.newCheckpoint()
	if err != nil {
		return nil, nil, err
	}
	m.Size = c.size()
	return &m, c, nil
}

// sink is the raft.SnapshotSink. What is taken here writes nothing to it; what comes from the leader is a stream of files that are here (store).
type sink struct {
	s    *snapshotStore
	meta *raft.SnapshotMeta
	in   bytes.Buffer
}

func (k *sink) ID() string { return k.meta.ID }

func (k *sink) Write(p []byte) (int, error) { return k.in.Write(p) }

// Cancel keeps the files: the next try goes on there.
func (k *sink) Cancel() error { return nil }

func (k *sink) Close() error {
	if k.in.Len() == 0 {
		return k.closeOwn()
	}
	s := k.s
	receiving, received := filepath.Join(s.dir, receivingFolder), filepath.Join(s.dir, receivedFolder)
	files, err := receive(&k.in, receiving)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.dropReceived(); err != nil { // one that came before and was not installed
		return err
	}
	if err := errors.Join(linkKept(receiving, received, files), durable.SyncDir(s.dir)); err != nil {
		return err
	}
	if err := writeNote(filepath.Join(s.dir, receivedNote), k.meta); err != nil {
		return err
	}
	s.last, s.got = k.meta, true
	if s.coming > 1 { // another has begun, which goes on with what is there
		return nil
	}
	return os.RemoveAll(receiving)
}

// closeOwn notes a snapshot of this replica's own state. What came in part from a leader is not needed any more.
func (k *sink) closeOwn() error {
	s := k.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.overtaken(k.meta); err != nil {
		return err
	}
	if err := writeNote(filepath.Join(s.dir, noteFile), k.meta); err != nil {
		return err
	}
	s.last, s.got = k.meta, false
	if s.coming > 0 {
		return nil
	}
	return os.RemoveAll(filepath.Join(s.dir, receivingFolder))
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
