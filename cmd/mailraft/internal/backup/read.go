package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
	"google.golang.org/protobuf/proto"

	"mailraft/cmd/mailraft/internal/progress"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Backup is a folder that is read.
type Backup struct {
	root  string
	keys  []age.Identity
	packs *packs
}

// Open opens a backup for reading: what its records are encrypted to must be among the identities.
func Open(root string, keys []age.Identity) (*Backup, error) {
	p, err := openPacks(root)
	if err != nil {
		return nil, err
	}
	return &Backup{root, keys, p}, nil
}

// Verify reads all that is in the folder, and reports each thing that is damaged. What no manifest needs any more is read as well.
func (b *Backup) Verify(ctx context.Context, report func(error), meter *progress.Meter) error {
	whole := map[id][sha256.Size]byte{}
	packs := map[string]bool{}
	for _, at := range b.packs.found {
		packs[at.pack] = true
		meter.Expect(1, at.size)
	}
	for name := range packs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.packs.scan(name, true, func(i id, at place) { whole[i] = at.sum; meter.Add(1, at.size) }); err != nil {
			report(err)
		}
	}
	manifests, err := names(b.root)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, name := range manifests {
		m, err := ReadManifest(b.root, name, b.keys)
		if err != nil {
			report(err)
			continue
		}
		for _, a := range m.Accounts {
			if err := ctx.Err(); err != nil {
				return err
			}
			if done[a.File] {
				continue
			}
			done[a.File] = true
			_, err := b.account(a, func([]byte, []byte) error { return nil }, func(i id, sum [sha256.Size]byte) error {
				if whole[i] != sum {
					return fmt.Errorf("%w: content %d of %s is missing or another", ErrDamaged, i.content, a.Address)
				}
				return nil
			})
			if err != nil {
				report(err)
			}
		}
	}
	return nil
}

// account reads an account's file: its record of the directory, its other records, and for each content its sum.
func (b *Backup) account(a Account, record func(key, value []byte) error, content func(id, [sha256.Size]byte) error) (*raftpb.Account, error) {
	path := filepath.Join(b.root, accountsDir, filepath.Base(a.File))
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer f.Close()
	h := sha256.New()
	dec, err := age.Decrypt(bufio.NewReaderSize(io.TeeReader(f, h), 256<<10), b.keys...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	account := new(raftpb.Account)
	r := bufio.NewReaderSize(dec, 256<<10)
	for {
		key, value, err := readRecord(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
		}
		switch {
		case key == nil:
			if _, err := r.ReadByte(); err != io.EOF {
				return nil, fmt.Errorf("%w: %s: there is something behind its end: %v", ErrDamaged, path, err)
			}
			if _, err := io.Copy(io.Discard, io.TeeReader(f, h)); err != nil {
				return nil, err
			}
			if hex.EncodeToString(h.Sum(nil)) != a.SHA256 {
				return nil, fmt.Errorf("%w: %s is another than its manifest says", ErrDamaged, path)
			}
			return account, nil
		case len(key) == 1 && key[0] == 0:
			if err := proto.Unmarshal(value, account); err != nil || account.Number != a.Number || account.Created != a.Created {
				return nil, fmt.Errorf("%w: %s is of another account: %v", ErrDamaged, path, err)
			}
		case key[0] == kindSum:
			if len(key) != 9 || len(value) != sha256.Size {
				return nil, fmt.Errorf("%w: %s: sum of a content", ErrDamaged, path)
			}
			if err := content(id{a.Number, a.Created, binary.BigEndian.Uint64(key[1:])}, [sha256.Size]byte(value)); err != nil {
				return nil, err
			}
		default:
			if err := record(key, value); err != nil {
				return nil, err
			}
		}
	}
}

// readRecord reads what writeRecord wrote; the last has no key.
func readRecord(r *bufio.Reader) (key, value []byte, err error) {
	for _, field := range []*[]byte{&key, &value} {
		n, err := binary.ReadUvarint(r)
		if err == nil && n > 1<<20 {
			err = errors.New("a record is too long")
		}
		if err == nil && n > 0 {
			*field = make([]byte, n)
			_, err = io.ReadFull(r, *field)
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return key, value, nil
}

// Restore makes the manifest's domains, accounts and aliases in a store; only "" is all of them, else the one account of that
// address, with its domain. Errors of a store that has them: raftstore.ErrExists.
func (b *Backup) Restore(ctx context.Context, store *raftstore.Store, m *Manifest, only string, meter *progress.Meter) (accounts int, err error) {
	d := store.Directory()
	var list []Account
	for _, a := range m.Accounts {
		if only == "" || a.Address == only {
			list = append(list, a)
		}
	}
	if only != "" && len(list) == 0 {
		return 0, fmt.Errorf("the backup of %s does not have %s: %w", m.Taken.Format("2006-01-02 15:04"), only, raftstore.ErrNoSuchAccount)
	}
	for _, name := range m.Domains {
		if only != "" && !bytes.HasSuffix([]byte(only), []byte("@"+name)) {
			continue
		}
		if err := d.AddDomain(ctx, name); err != nil && !(only != "" && errors.Is(err, raftstore.ErrExists)) {
			return 0, err
		}
	}
	for _, a := range list {
		if err := b.restoreAccount(ctx, d, a, meter); err != nil {
			return accounts, err
		}
		accounts++
	}
	if only != "" {
		return accounts, nil
	}
	return accounts, b.restoreAliases(ctx, d, m.Aliases)
}

// restoreAliases adds aliases; one that stands for others comes after them.
func (b *Backup) restoreAliases(ctx context.Context, d *raftstore.Directory, left []Alias) error {
	for len(left) > 0 {
		var again []Alias
		var last error
		for _, a := range left {
			if err := d.AddAlias(ctx, a.Address, a.Targets); errors.Is(err, raftstore.ErrNoSuchAccount) || errors.Is(err, raftstore.ErrNoSuchDomain) {
				again, last = append(again, a), err
			} else if err != nil {
				return err
			}
		}
		if len(again) == len(left) {
			return last
		}
		left = again
	}
	return nil
}

func (b *Backup) restoreAccount(ctx context.Context, d *raftstore.Directory, a Account, meter *progress.Meter) error {
	nothing := func([]byte, []byte) error { return nil }
	// Read whole before anything is made of it; the second time it goes in.
	record, err := b.account(a, nothing, func(i id, _ [sha256.Size]byte) error {
		meter.Expect(1, b.packs.found[i].size)
		return nil
	})
	if err != nil {
		return err
	}
	return d.RestoreAccount(ctx, record, func(put func(key, value []byte) error) error {
		_, err := b.account(a, put, func(i id, sum [sha256.Size]byte) error {
			size, err := b.content(i, sum, put)
			meter.Add(1, size)
			return err
		})
		return err
	})
}

// content puts the pieces of a content.
func (b *Backup) content(i id, sum [sha256.Size]byte, put func(key, value []byte) error) (uint64, error) {
	r, at, err := b.packs.read(i)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	h := sha256.New()
	for n := uint32(0); uint64(n)*tree.MaxPiece < at.size; n++ {
		piece := make([]byte, min(tree.MaxPiece, at.size-uint64(n)*tree.MaxPiece))
		if _, err := io.ReadFull(r, piece); err != nil {
			return 0, fmt.Errorf("%w: %s: %v", ErrDamaged, filepath.Join(b.packs.dir, at.pack), err)
		}
		h.Write(piece)
		if err := put(tree.PieceKey(i.content, n), piece); err != nil {
			return 0, err
		}
	}
	if [sha256.Size]byte(h.Sum(nil)) != sum {
		return 0, fmt.Errorf("%w: %s, content %d of account %d", ErrDamaged, filepath.Join(b.packs.dir, at.pack), i.content, i.account)
	}
	return at.size, nil
}
