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
	count := 100_000
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
	times := map[string][]float64{}
	for range b.rounds {
		for name, home := range map[string]string{"mailraft": ours[0], "ext4": bare[0]} {
			if err := dropCaches(); err != nil {
				return err
			}
			for _, state := range []string{" cold", " warm", " warm"} {
				t, err := ls(filepath.Join(home, "new"))
				if err != nil {
					return err
				}
				times[name+state] = append(times[name+state], t)
			}
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
	floor := median(times["ext4 warm"])
	for _, c := range []struct {
		state string
		limit float64
	}{{"cold", 5}, {"warm", 3}} {
		t := times["mailraft "+c.state]
		b.table.add(row{what: fmt.Sprintf("ls -l of %d messages, %s", count, c.state), target: fmt.Sprintf("%.0f x ext4's warm time", c.limit),
			figure: seconds(t), beside: fmt.Sprintf("ext4 warm %s (%.1f), cold %s", seconds(times["ext4 warm"]), median(t)/floor, seconds(times["ext4 cold"])),
			met: reached(median(t) <= c.limit*floor)})
	}
	b.table.add(row{what: fmt.Sprintf("reading .mailraft-index of %d", count), target: "0.3 s", figure: seconds(times["index"]),
		met: reached(median(times["index"]) <= 0.3)})
	return nil
}

// ls is the time that ls -l takes.
func ls(dir string) (float64, error) {
	cmd := exec.Command("ls", "-l", dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	start := time.Now()
	err := cmd.Run()
	return time.Since(start).Seconds(), err
}
