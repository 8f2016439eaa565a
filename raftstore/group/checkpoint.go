package group

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/raftstore/durable"
)

// A replica that lacks what was dropped from the log is sent the state: a Pebble checkpoint, file by file. Each file that came whole stays when
// the transfer breaks, be it by a crash of either end. The next leader to send asks first what is there, and leaves out what is the same as
// its own.

// A stream is: "mailraft checkpoint 2\n"; for each file the length of its name (2 octets), its name, its size (8), 1 when its octets are left
// out and 0 when they follow (1), its octets, its Sum (32); a name length of 0 ends it. Numbers are big endian.
const streamMagic = "mailraft checkpoint 2\n"

const checkpointPrefix = "checkpoint-"

// Sum is the SHA-256 of what a stream has of a file: the length of its name, its name, its size and its octets.
type Sum [sha256.Size]byte

// checkpoint is the files of a state as it was once, and the stream of them. Close removes them.
type checkpoint struct {
	dir   string
	files []checkpointFile
	skip  map[string]Sum // files to leave out
	out   *io.PipeReader // nil: nothing was read
}

type checkpointFile struct {
	path string
	size int64
}

func (f checkpointFile) name() string { return filepath.Base(f.path) }

// head is the begin of what a stream has of the file.
func (f checkpointFile) head() []byte {
	head := binary.BigEndian.AppendUint16(nil, uint16(len(f.name())))
	head = append(head, f.name()...)
	return binary.BigEndian.AppendUint64(head, uint64(f.size))
}

// newCheckpoint makes a checkpoint of the state: hard links, and what is not flushed.
func (g *Group) newCheckpoint() (_ *checkpoint, err error) {
	dir, err := os.MkdirTemp(g.cfg.Dir, checkpointPrefix)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{dir: dir, skip: map[string]Sum{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("checkpoint: %w", err), os.RemoveAll(dir))
		}
	}()
	at := filepath.Join(dir, "state")
	h := g.store.Acquire()
	err = g.flush(h) // a checkpoint without a write-ahead log has what is flushed
	if err == nil {
		err = h.Checkpoint(at)
	}
	if err := errors.Join(err, h.Release()); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(at)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			return nil, err
		}
		if fi.Mode().IsRegular() {
			c.files = append(c.files, checkpointFile{filepath.Join(at, e.Name()), fi.Size()})
		}
	}
	return c, nil
}

// leaveOut leaves out of the stream what the receiver has: files of the same name and octets. Only those are read to tell.
func (c *checkpoint) leaveOut(kept map[string]Sum) error {
	for _, f := range c.files {
		theirs, ok := kept[f.name()]
		if !ok {
			continue
		}
		sum, err := f.copyTo(io.Discard)
		if err != nil {
			return err
		}
		if sum == theirs {
			c.skip[f.name()] = theirs
		}
	}
	return nil
}

// size is the stream's, in octets.
func (c *checkpoint) size() int64 {
	size := int64(len(streamMagic) + 2)
	for _, f := range c.files {
		size += int64(len(f.head()) + 1 + sha256.Size)
		if _, skip := c.skip[f.name()]; !skip {
			size += f.size
		}
	}
	return size
}

// Read reads the stream.
func (c *checkpoint) Read(p []byte) (int, error) {
	if c.out == nil {
		var in *io.PipeWriter
		c.out, in = io.Pipe()
		go func() { in.CloseWithError(c.writeTo(in)) }()
	}
	return c.out.Read(p)
}

// Close ends the stream and removes the checkpoint.
func (c *checkpoint) Close() error {
	if c.out != nil {
		c.out.Close()
	}
	return os.RemoveAll(c.dir)
}

func (c *checkpoint) writeTo(w io.Writer) error {
	b := bufio.NewWriterSize(w, 256<<10)
	b.WriteString(streamMagic)
	for _, f := range c.files {
		b.Write(f.head())
		if sum, skip := c.skip[f.name()]; skip {
			b.WriteByte(1)
			b.Write(sum[:])
			continue
		}
		b.WriteByte(0)
		sum, err := f.copyTo(b)
		if err != nil {
			return err
		}
		b.Write(sum[:])
	}
	b.Write([]byte{0, 0})
	return b.Flush()
}

// copyTo copies the file's octets, and answers its Sum.
func (f checkpointFile) copyTo(w io.Writer) (Sum, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return Sum{}, err
	}
	defer in.Close()
	sum := sha256.New()
	sum.Write(f.head())
	_, err = io.CopyN(io.MultiWriter(w, sum), in, f.size)
	return Sum(sum.Sum(nil)), err
}

// keptFile is a file that came whole. It lies under its sum and its name in the folder of what is received.
type keptFile struct {
	name string
	head []byte // of the file in the stream
	sum  Sum
}

func (k keptFile) path(dir string) string {
	return filepath.Join(dir, hex.EncodeToString(k.sum[:])+"-"+k.name)
}

// partialFile is one that is coming.
const partialFile = "partial"

// kept are the files in the folder of what is received.
func kept(dir string) (map[string]Sum, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	files := map[string]Sum{}
	for _, e := range entries {
		sum, name, ok := strings.Cut(e.Name(), "-")
		if octets, err := hex.DecodeString(sum); ok && err == nil && len(octets) == sha256.Size {
			files[name] = Sum(octets)
		}
	}
	return files, err
}

// Kept are the files of a checkpoint, by their names, that came here whole when it was sent before.
func (g *Group) Kept() (map[string]Sum, error) {
	return kept(filepath.Join(g.snapshots.dir, receivingFolder))
}

// receive stores a stream's files in a folder, where those that it leaves out lie already.
func receive(r io.Reader, dir string) (files []keptFile, err error) {
	b := bufio.NewReaderSize(r, 256<<10)
	magic := make([]byte, len(streamMagic))
	if _, err := io.ReadFull(b, magic); err != nil {
		return nil, err
	}
	if string(magic) != streamMagic {
		return nil, errors.New("not a checkpoint, or one of another version of this program")
	}
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(b, head); err != nil {
			return nil, err
		}
		length := int(binary.BigEndian.Uint16(head))
		if length == 0 {
			return files, durable.SyncDir(dir)
		}
		head = append(head, make([]byte, length+8)...)
		if _, err := io.ReadFull(b, head[2:]); err != nil {
			return nil, err
		}
		f := keptFile{name: string(head[2 : 2+length]), head: head}
		if strings.ContainsAny(f.name, "/\x00") || f.name[0] == '.' {
			return nil, fmt.Errorf("checkpoint names a file %q", f.name)
		}
		leftOut, err := b.ReadByte()
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		sum.Write(head)
		if leftOut == 0 {
			if err := receiveFile(b, filepath.Join(dir, partialFile), int64(binary.BigEndian.Uint64(head[2+length:])), sum); err != nil {
				return nil, err
			}
		}
		if _, err := io.ReadFull(b, f.sum[:]); err != nil {
			return nil, err
		}
		if leftOut == 0 {
			if Sum(sum.Sum(nil)) != f.sum {
				return nil, fmt.Errorf("checkpoint: %s came damaged", f.name)
			}
			if err := os.Rename(filepath.Join(dir, partialFile), f.path(dir)); err != nil {
				return nil, err
			}
		} else if _, err := os.Stat(f.path(dir)); err != nil {
			return nil, fmt.Errorf("checkpoint: %s was left out, and is not here: %w", f.name, err)
		}
		files = append(files, f)
	}
}

func receiveFile(r io.Reader, path string, size int64, sum hash.Hash) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.MultiWriter(f, sum), r, size)
	return errors.Join(err, f.Sync(), f.Close())
}

// linkKept makes a folder of received files under their own names.
func linkKept(dir, to string, files []keptFile) error {
	unfinished := to + ".new"
	if err := errors.Join(os.RemoveAll(unfinished), os.Mkdir(unfinished, 0o700)); err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Link(f.path(dir), filepath.Join(unfinished, f.name)); err != nil {
			return err
		}
	}
	return errors.Join(durable.SyncDir(unfinished), os.Rename(unfinished, to))
}

// askKept is how long a replica may take to say what it has.
const askKept = 10 * time.Second

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(
	id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader,
) error {
	if c, ok := data.(*checkpoint); ok && t.g.cfg.Peers != nil {
		ctx, cancel := context.WithTimeout(t.g.life, askKept)
		defer cancel()
		kept, err := t.g.cfg.Peers.Kept(ctx, string(id))
		if err == nil {
			err = c.leaveOut(kept)
		}
		if err != nil {
			t.g.log.Warn("asking what a replica has of a checkpoint", "node", id, "error", err)
		}
		req.Size = c.size()
	}
	if t.g.cfg.Throttle != nil {
		data = t.g.cfg.Throttle(data)
	}
	return t.Transport.InstallSnapshot(id, to, req, resp, data)
}
