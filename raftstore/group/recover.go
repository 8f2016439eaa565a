package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"mailraft/raftstore/durable"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// What raft-wal v0.4 writes into a segment (its segment/format.go): a header, then frames of a head (type, length or checksum) and a
// payload, padded. A commit frame ends a batch; its CRC-32C is of all octets since the commit before, in the first batch of the
// header too.
const (
	segmentHeader = 32
	frameHead     = 8
	frameEntry    = 1
	frameIndex    = 2
	frameCommit   = 3
)

// ErrLogDamaged says that the log does not hold what was written.
var ErrLogDamaged = errors.New("log is corrupt")

// recoverLog makes the log in dir ready for raft-wal to open. A crash may leave things behind that it does not mend:
//
// A batch that was not written whole leaves octets behind the last commit. Here they are overwritten with zeros, so that nothing
// of them is ever taken for a frame.
//
// A batch that filled its segment may have been committed, and acknowledged, while the note in the metadata that the segment is
// sealed was not: raft-wal then takes it for the segment to append to, and refuses every entry. Here the note is made.
//
// A segment may also have been made when its name was not yet on disk: it is, before anything is committed to it.
//
// On the way all checksums of the log are looked at, which raft-wal does for the last batch alone.
func recoverLog(dir string) (err error) {
	if _, err := os.Stat(filepath.Join(dir, "wal-meta.db")); errors.Is(err, os.ErrNotExist) {
		segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err == nil && len(segments) > 0 { // raft-wal would delete them
			err = fmt.Errorf("%s has segments, but wal-meta.db is gone: %w", dir, ErrMissing)
		}
		return err
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	meta := &metadb.BoltMetaDB{}
	state, err := meta.Load(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, meta.Close()) }()
	for i, info := range state.Segments {
		path := filepath.Join(dir, segment.FileName(info))
		tail := info.SealTime.IsZero()
		batches, err := readSegment(path)
		if tail && errors.Is(err, os.ErrNotExist) {
			return nil // noted, but not made yet: raft-wal makes it
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if !tail {
			if batches.indexStart == 0 {
				return fmt.Errorf("%s: %w: batch at octet %d", path, ErrLogDamaged, batches.end)
			}
			continue
		}
		if batches.torn || batches.indexStart > 0 {
			if err := clearBehind(path, batches.end); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if batches.indexStart == 0 {
			return nil
		}
		sealed := &state.Segments[i]
		sealed.SealTime, sealed.IndexStart = time.Now(), batches.indexStart
		sealed.MaxIndex = info.BaseIndex + batches.entries - 1
		state.Segments = append(state.Segments, types.SegmentInfo{
			ID: state.NextSegmentID, BaseIndex: sealed.MaxIndex + 1, MinIndex: sealed.MaxIndex + 1,
			Codec: info.Codec, CreateTime: time.Now(), SizeLimit: info.SizeLimit,
		})
		state.NextSegmentID++
		return meta.CommitState(state)
	}
	return nil
}

// batches is what the whole batches of a segment hold.
type batches struct {
	end        int64  // octet behind the last of them
	entries    uint64 // in all of them
	indexStart uint64 // octet of the index that seals the segment; 0: it is not sealed
	torn       bool   // there is a batch behind them that is not whole
}

// readSegment reads through a segment. A batch that does not read right is a torn one if nothing whole is behind it, else damage.
func readSegment(path string) (batches, error) {
	data, err := os.ReadFile(path) // a segment's size, for a moment at start
	if err != nil {
		return batches{}, err
	}
	b := readBatches(data)
	if b.torn && wholeBatchBehind(data, b.end) {
		return b, fmt.Errorf("%w: batch at octet %d, before others that are whole", ErrLogDamaged, b.end)
	}
	return b, nil
}

// readBatches reads batches up to the first that is not whole.
func readBatches(data []byte) (b batches) {
	var entries, indexStart uint64 // with those of the batch being read
	for at := int64(segmentHeader); at+frameHead <= int64(len(data)); {
		kind, value := data[at], binary.LittleEndian.Uint32(data[at+4:])
		size := int64(frameHead)
		switch kind {
		case frameEntry, frameIndex:
			size += (int64(value) + frameHead - 1) / frameHead * frameHead
			if kind == frameEntry {
				entries++
			} else {
				indexStart = uint64(at) + frameHead
			}
		case frameCommit:
			if crc32.Checksum(data[b.end:at], castagnoli) != value {
				b.torn = true
				return b
			}
			b.end, b.entries, b.indexStart = at+frameHead, entries, indexStart
			if b.indexStart > 0 {
				return b // what a failed write may have left behind the seal is never read
			}
		default: // zeros, or what a torn batch left
			b.torn = !isZero(data[b.end:])
			return b
		}
		at += size
	}
	b.torn = !isZero(data[b.end:])
	return b
}

// isZero tells whether there are zeros alone: much of a segment, which every start looks at.
func isZero(b []byte) bool {
	for chunk := range slices.Chunk(b, len(zeros)) {
		if !bytes.Equal(chunk, zeros[:len(chunk)]) {
			return false
		}
	}
	return true
}

var zeros [64 << 10]byte

// wholeBatchBehind tells whether there is a whole batch somewhere behind an octet: what looks like a commit frame, with the checksum
// of all since another one.
func wholeBatchBehind(data []byte, from int64) bool {
	var begins []int64 // of batches, if what stands before them are commit frames
	for at := from; at+frameHead <= int64(len(data)); at += frameHead {
		if data[at] != frameCommit || data[at+1]|data[at+2]|data[at+3] != 0 {
			continue
		}
		value := binary.LittleEndian.Uint32(data[at+4:])
		for _, begin := range begins {
			if crc32.Checksum(data[begin:at], castagnoli) == value {
				return true
			}
		}
		const few = 16 // a payload may hold what looks like commit frames
		begins = append(begins, at+frameHead)
		begins = begins[max(0, len(begins)-few):]
	}
	return false
}

// clearBehind has zeros from an octet to the end of the file.
func clearBehind(path string, from int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, len(zeros))
	changed := false
	for at := from; err == nil; {
		var n int
		n, err = f.ReadAt(buf, at)
		if !isZero(buf[:n]) {
			if _, err := f.WriteAt(zeros[:n], at); err != nil {
				return err
			}
			changed = true
		}
		at += int64(n)
	}
	if err != io.EOF || !changed {
		if err == io.EOF {
			err = nil
		}
		return err
	}
	return f.Sync()
}
