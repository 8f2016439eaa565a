package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// lists measures a folder of many messages: ls -l cold and warm beside the bare disk, and reading its index.
func (b *bench) lists() (err error) {
	const named = 100_000 // the targets' size
	count := named
	if b.quick {
		count = 10_000
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	ours, err := d.addAccounts(1)
	if err != nil {
		return err
	}
	bare, err := b.bareDisk(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bare[0])) }()
	const size = 1 << 10
	if err := errors.Join(b.fill(ours, count, size, false), b.fill(bare, count, size, false)); err != nil {
		return err
	}
	times := map[string][]float64{} // of each round
	for range b.rounds {
		for _, p := range []struct{ name, home string }{{"ext4", bare[0]}, {"mailraft", ours[0]}} {
			if err := dropCaches(); err != nil {
				return err
			}
			var took [3]float64
			for i := range took {
				if took[i], err = ls("-l", filepath.Join(p.home, "new")); err != nil {
					return err
				}
			}
			times[p.name+" cold"] = append(times[p.name+" cold"], took[0])
			times[p.name+" warm"] = append(times[p.name+" warm"], median(took[1:]))
		}
		start := time.Now()
		f, err := os.Open(filepath.Join(ours[0], ".mailraft-index"))
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if n < int64(count)*20 {
			return fmt.Errorf(".mailraft-index has %d octets for %d messages", n, count)
		}
		times["index"] = append(times["index"], time.Since(start).Seconds())
	}
	for _, c := range []struct {
		state string
		limit float64
	}{{"cold", 5}, {"warm", 3}} {
		t := times["mailraft "+c.state]
		ratio := ratios(t, times["ext4 warm"])
		b.table.add(row{what: fmt.Sprintf("ls -l of %d messages, %s", count, c.state), target: fmt.Sprintf("%.0f x ext4's warm time, of %d", c.limit, named),
			figure: seconds(t), beside: fmt.Sprintf("ext4 warm %s (%.1f), cold %s", seconds(times["ext4 warm"]), ratio, seconds(times["ext4 cold"])),
			met: reachedWith(count, named, ratio <= c.limit)})
	}
	b.table.add(row{what: fmt.Sprintf("reading .mailraft-index of %d", count), target: fmt.Sprintf("0.3 s of %d", named), figure: seconds(times["index"]),
		met: reachedWith(count, named, median(times["index"]) <= 0.3)})
	return nil
}

// ls is the time that ls takes with an option.
func ls(option, dir string) (float64, error) {
	cmd := exec.Command("ls", option, dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	start := time.Now()
	err := cmd.Run()
	return time.Since(start).Seconds(), err
}
