package main

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// memory fills a store with 1,000,000 messages of 4 KiB, and looks how much of that the daemon and its proxies hold in memory: what
// they take with a quarter of it they have to take with all of it.
func (b *bench) memory() (err error) {
	const count, parts, size = 1_000_000, 4, 4 << 10
	const growth = 32 // MiB
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	homes, err := d.addAccounts(mailboxes)
	if err != nil {
		return err
	}
	var marks []float64
	filled := 0.0
	for part := range parts {
		l := load{Kind: "deliver", Workers: 64, Count: count / parts, Size: size, Homes: homes, NoSync: true, Tag: fmt.Sprint("p", part)}
		r, err := b.drive(l)
		if err != nil {
			return err
		}
		filled += r.Elapsed
		mark, err := d.settled()
		if err != nil {
			return err
		}
		marks = append(marks, mark)
	}
	first, last := marks[0], marks[parts-1]
	b.table.add(row{
		what:   fmt.Sprintf("memory with %d messages of %d KiB stored", count, size>>10),
		target: fmt.Sprintf("%d MiB more than with %d", growth, count/parts),
		figure: fmt.Sprintf("%+.0f MiB, %.0f MiB in all", last-first, last),
		beside: fmt.Sprintf("after each %d: %.0f MiB; filled at %.0f/s", count/parts, marks, count/filled),
		met:    reached(last-first < growth),
	})
	return nil
}

// settled is the memory of the daemon and its proxies, in MiB, when they have nothing left to do.
func (d *daemon) settled() (float64, error) {
	// The daemon knows the inodes that the kernel knows.
	if err := dropCaches(); err != nil {
		return 0, err
	}
	// Merging tables goes on after the last delivery.
	const look = 5 * time.Second
	limit := time.Now().Add(5 * time.Minute)
	for before := math.Inf(-1); ; {
		u, err := tree(d.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		if u.cpu-before < 0.05*look.Seconds() {
			break
		}
		if before = u.cpu; time.Now().After(limit) {
			return 0, errors.New("the daemon does not come to rest")
		}
		if err := d.b.wait(look); err != nil {
			return 0, err
		}
	}
	// Some seconds after a login the daemon gives back what its garbage collector had kept for later.
	if err := errors.Join(d.lockAll(1), d.unlockAll(1)); err != nil {
		return 0, err
	}
	least := math.Inf(1)
	for still := 0; still < 10; still++ {
		if err := d.b.wait(time.Second); err != nil {
			return 0, err
		}
		u, err := tree(d.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		if u.resident < least-1 {
			still = 0
		}
		least = min(least, u.resident)
	}
	return least, nil
}
