package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
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
//
// Cold is out of the kernel's caches. It is measured twice in a round of ours: when the messages came in while their accounts were
// locked, or were last opened before that, each content's key has to be unwrapped with the account's; after that the daemon may
// know it for as long as the account stays unlocked.
func (b *bench) reads() (err error) {
	const size, threads, accounts = floorSize, 4, 4
	count := floorFiles
	if b.quick {
		count /= 2
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	ours, err := d.addAccounts(accounts)
	if err != nil {
		return err
	}
	crypt, stopCrypt, err := b.gocryptfs(accounts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopCrypt()) }()
	floorList, stopFloor, err := b.startFloor()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopFloor()) }()

	if err := errors.Join(d.lockAll(accounts), b.fill(ours, count, size, false), b.fill(crypt, count, size, true)); err != nil {
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
	first, cold, warm := []float64(nil), map[string][]float64{}, map[string][]float64{}
	for range b.rounds {
		// After the last login the daemon gives memory back, once: not while it is measured.
		if err := errors.Join(d.lockAll(accounts), d.unlockAll(accounts), b.wait(5*time.Second)); err != nil {
			return err
		}
		for _, p := range places {
			l := load{Kind: "read", Workers: threads, Files: p.files, Size: size, AsRoot: p.asRoot}
			once := func() (float64, error) {
				if err := dropCaches(); err != nil {
					return 0, err
				}
				r, err := b.drive(l)
				return r.rate(), err
			}
			if p.name == "mailraft" {
				r, err := once()
				if err != nil {
					return err
				}
				first = append(first, r)
			}
			r, err := once()
			if err != nil {
				return err
			}
			cold[p.name] = append(cold[p.name], r)
			l.Seconds = b.turn.Seconds()
			again, err := b.drive(l)
			if err != nil {
				return err
			}
			warm[p.name] = append(warm[p.name], again.rate())
		}
	}
	beside := func(ours []float64) string {
		return fmt.Sprintf("gocryptfs %.0f (%.2f), go-fuse doing nothing %.0f (%.2f)", median(cold["gocryptfs"]), ratios(ours, cold["gocryptfs"]),
			median(cold["floor"]), ratios(ours, cold["floor"]))
	}
	still := ratios(warm["mailraft"], warm["floor"])
	b.table.add(row{what: "open+read+close, 8 KiB sealed, 4 threads, cold, first since unlocking", figure: rate(first), beside: beside(first)})
	b.table.add(row{what: "the same, cold, opened before", target: "2 x gocryptfs", figure: rate(cold["mailraft"]), beside: beside(cold["mailraft"]),
		met: reached(ratios(cold["mailraft"], cold["gocryptfs"]) >= 2)})
	b.table.add(row{what: "the same, in the kernel's cache", target: "0.8 x go-fuse doing nothing", figure: rate(warm["mailraft"]),
		beside: fmt.Sprintf("go-fuse doing nothing %.0f (%.2f), gocryptfs %.0f", median(warm["floor"]), still, median(warm["gocryptfs"])),
		met:    reached(still >= 0.8)})
	return nil
}
