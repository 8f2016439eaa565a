package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fill delivers count messages to the homes, as fast as it goes.
func (b *bench) fill(homes []string, count, size int, asRoot bool) error {
	_, err := b.drive(load{Kind: "deliver", Workers: 16, Count: count, Size: size, Homes: homes, NoSync: true, AsRoot: asRoot, Tag: "f"})
	return err
}

// filesOf lists the files in new of the homes.
func filesOf(homes []string) ([]string, error) {
	var files []string
	for _, h := range homes {
		list, err := filesIn(filepath.Join(h, "new"))
		if err != nil {
			return nil, err
		}
		files = append(files, list...)
	}
	return files, nil
}

func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var files []string
	for _, e := range entries {
		files = append(files, filepath.Join(dir, e.Name()))
	}
	return files, err
}

// walkFiles calls fn for each regular file below dir.
func walkFiles(dir string, fn func(fs.FileInfo)) error {
	return filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			fn(fi)
		}
		return err
	})
}

// reads measures open, read and close of 8 KiB messages with 4 threads: cold beside gocryptfs, warm beside the floor.
func (b *bench) reads() (err error) {
	const size, threads = floorSize, 4
	count := floorFiles
	if b.quick {
		count /= 2
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	ours, err := d.addAccounts(mailboxes)
	if err != nil {
		return err
	}
	crypt, stopCrypt, err := b.gocryptfs(mailboxes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopCrypt()) }()
	floorList, stopFloor, err := b.startFloor()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopFloor()) }()

	if err := errors.Join(b.fill(ours, count, size, false), b.fill(crypt, count, size, true)); err != nil {
		return err
	}
	places := []struct {
		name   string
		files  []string
		asRoot bool
	}{{name: "mailraft"}, {name: "gocryptfs", asRoot: true}, {name: "floor", files: floorList[:count]}}
	for i, homes := range [][]string{ours, crypt} {
		if places[i].files, err = filesOf(homes); err != nil {
			return err
		}
		if n := len(places[i].files); n != count {
			return fmt.Errorf("%s has %d files of %d", places[i].name, n, count)
		}
	}
	cold, warm := map[string][]float64{}, map[string][]float64{}
	for range b.rounds {
		for _, p := range places {
			if err := dropCaches(); err != nil {
				return err
			}
			l := load{Kind: "read", Workers: threads, Files: p.files, Size: size, AsRoot: p.asRoot}
			r, err := b.drive(l)
			if err != nil {
				return err
			}
			cold[p.name] = append(cold[p.name], r.rate())
			l.Seconds = b.turn.Seconds()
			if r, err = b.drive(l); err != nil {
				return err
			}
			warm[p.name] = append(warm[p.name], r.rate())
		}
	}
	crypto, still := ratios(cold["mailraft"], cold["gocryptfs"]), ratios(warm["mailraft"], warm["floor"])
	b.table.add(row{what: "open+read+close, 8 KiB sealed, 4 threads, cold", target: "2 x gocryptfs", figure: rate(cold["mailraft"]),
		beside: fmt.Sprintf("gocryptfs %.0f (%.2f), go-fuse doing nothing %.0f (%.2f)", median(cold["gocryptfs"]), crypto,
			median(cold["floor"]), ratios(cold["mailraft"], cold["floor"])), met: reached(crypto >= 2)})
	b.table.add(row{what: "the same, in the kernel's cache", target: "0.8 x go-fuse doing nothing", figure: rate(warm["mailraft"]),
		beside: fmt.Sprintf("go-fuse doing nothing %.0f (%.2f), gocryptfs %.0f", median(warm["floor"]), still, median(warm["gocryptfs"])),
		met:    reached(still >= 0.8)})
	return nil
}
