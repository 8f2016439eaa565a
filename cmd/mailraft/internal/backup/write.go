package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"mailraft/cmd/mailraft/internal/progress"
	"mailraft/raftstore/durable"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Source is a state of the cluster that does not change while it is read.
type Source interface {
	// Cluster answers what is to be copied.
	Cluster(ctx context.Context) (domains []string, aliases []Alias, accounts []*raftpb.Account, err error)
	// Records calls fn with all records of an account but its contents: ENOENT when it has just been removed.
	Records(ctx context.Context, account uint32, fn func(key, value []byte) error) error
	// Content hands a sealed content to fn, in order.
	Content(ctx context.Context, account uint32, content, sealed uint64, fn func([]byte) error) error
}

// Result is what a run has done.
type Result struct {
	Accounts int    `json:"accounts"`
	Changed  int    `json:"changed"`  // whose records were written
	Contents int    `json:"contents"` // written
	Octets   uint64 `json:"octets"`   // written to packs
}

// Write copies the source into the folder root, and what is there already stays. It holds the folder for itself meanwhile.
func Write(ctx context.Context, root string, to []string, only string, src Source, meter *progress.Meter) (r Result, err error) {
	if err := durable.MkdirAll(root); err != nil {
		return r, err
	}
	lock, err := os.OpenFile(filepath.Join(root, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return r, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return r, fmt.Errorf("%s: another backup is being written to it", root)
	}
	recipients, err := recipients(root, to)
	if err != nil {
		return r, err
	}
	packs, err := openPacks(root)
	if err != nil {
		return r, err
	}
	m := &Manifest{Version: version, Taken: time.Now(), Only: only}
	var accounts []*raftpb.Account
	if m.Domains, m.Aliases, accounts, err = src.Cluster(ctx); err != nil {
		return r, err
	}
	for _, a := range accounts {
		var file, sum string
		changed := true
		dir := filepath.Join(root, accountsDir)
		contents, octets := r.Contents, packs.written
		plain := sha256.New()
		sum, err = encryptTo(dir, recipients, func(w io.Writer) error {
			return writeAccount(ctx, io.MultiWriter(w, plain), a, src, packs, &r, meter)
		}, func() string {
			file = fmt.Sprintf("%d-%s.age", a.Number, hex.EncodeToString(plain.Sum(nil)[:16]))
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
				changed = false
			}
			return file
		})
		if errors.Is(err, syscall.ENOENT) && r.Contents == contents && packs.written == octets {
			continue // it has been removed
		}
		if err != nil {
			return r, fmt.Errorf("account %s@%s: %w", a.LocalPart, a.Domain, err)
		}
		if changed {
			r.Changed++
		}
		r.Accounts++
		m.Accounts = append(m.Accounts, Account{a.Address(), a.Number, a.Created, file, sum})
	}
	if err := packs.finish(root); err != nil {
		return r, err
	}
	r.Octets = packs.written
	return r, m.write(root, recipients)
}

// kindSum is the kind of a record that is the backup's own: the SHA-256 of a content.
const kindSum = 'h'

// writeAccount writes an account's records, its contents into packs where they are not in one, and their sums.
func writeAccount(ctx context.Context, w io.Writer, a *raftpb.Account, src Source, packs *packs, r *Result, meter *progress.Meter) error {
	type sealed struct{ content, size uint64 }
	var contents []sealed
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil {
		return err
	}
	if err := writeRecord(w, []byte{0}, text); err != nil {
		return err
	}
	err = src.Records(ctx, a.Number, func(key, value []byte) error {
		content, size, err := tree.ContentOf(tree.Account(a.Number), key, value)
		if err != nil {
			return err
		}
		if content != 0 {
			contents = append(contents, sealed{content, size})
			meter.Expect(1, size)
		}
		return writeRecord(w, key, value)
	})
	if err != nil {
		return err
	}
	for _, c := range contents {
		i := id{a.Number, a.Created, c.content}
		at, there := packs.found[i]
		if there && at.size != c.size {
			return fmt.Errorf("%w: content %d has %d octets there, and %d here", ErrDamaged, c.content, at.size, c.size)
		}
		if !there {
			err := packs.put(i, c.size, func(fn func([]byte) error) error { return src.Content(ctx, a.Number, c.content, c.size, fn) })
			if err != nil {
				return err
			}
			r.Contents++
			at = packs.found[i]
			meter.Add(1, c.size)
		} else {
			meter.Skip(1, c.size)
		}
		if err := writeRecord(w, binary.BigEndian.AppendUint64([]byte{kindSum}, c.content), at.sum[:]); err != nil {
			return err
		}
	}
	return writeRecord(w, nil, nil)
}

func writeRecord(w io.Writer, key, value []byte) error {
	b := binary.AppendUvarint(nil, uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(len(value)))
	_, err := w.Write(append(b, value...))
	return err
}
