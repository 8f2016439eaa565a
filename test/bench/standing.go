package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// idle measures a daemon that nobody talks to.
func (b *bench) idle() (err error) {
	watch := 20 * time.Second
	if b.quick {
		watch = 5 * time.Second
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if _, err := d.addAccounts(mailboxes); err != nil {
		return err
	}
	if err := b.wait(3 * time.Second); err != nil { // what the start has left to do
		return err
	}
	before, err := tree(d.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if err := b.wait(watch); err != nil {
		return err
	}
	after, err := tree(d.cmd.Process.Pid)
	if err != nil {
		return err
	}
	cpu := (after.cpu - before.cpu) / watch.Seconds() * 100
	b.table.add(row{what: fmt.Sprintf("idle daemon with 4 shards and proxies, %v: CPU", watch), target: "1 % of a core", figure: fmt.Sprintf("%.2f %%", cpu), met: reached(cpu < 1)})
	b.table.add(row{what: "the same: memory", target: "200 MiB resident", figure: fmt.Sprintf("%.0f MiB", after.resident),
		beside: fmt.Sprintf("shared pages counted in each process: %.0f MiB", after.rss), met: reached(after.resident < 200)})
	return nil
}

// restart kills the daemon while mail comes in, with 1 GiB of sealed mail stored, and takes the time until it greets and its mount
// answers.
func (b *bench) restart() (err error) {
	const named = 1 << 30 // the target's size
	octets, rounds := named, 3
	if b.quick {
		octets, rounds = 128<<20, 1
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	homes, err := d.addAccounts(mailboxes)
	if err != nil {
		return err
	}
	const size = 256 << 10
	fill := load{Kind: "deliver", Workers: 16, Count: 16, Size: size, Homes: homes, NoSync: true, Tag: "s"}
	if _, err := b.drive(fill); err != nil { // one of each body
		return err
	}
	samples, err := filesOf(homes)
	if err != nil {
		return err
	}
	sealed := 0
	for _, path := range samples {
		out, err := d.try("", "cat", "--sealed", path)
		if err != nil {
			return err
		}
		sealed += len(out)
	}
	more := octets / sealed
	fill.Count, fill.Tag = more*len(samples), "r"
	if _, err := b.drive(fill); err != nil {
		return err
	}
	stored := sealed * (1 + more)
	var took []float64
	for round := range rounds {
		stormed := make(chan error, 1)
		go func() {
			_, err := b.drive(load{Kind: "deliver", Workers: 16, Seconds: 60, Size: 20 << 10, Homes: homes, NoSync: true, Tag: fmt.Sprint("k", round)})
			stormed <- err
		}()
		if err := b.wait(b.turn + time.Duration(rand.Int64N(int64(b.turn)))); err != nil {
			<-stormed
			return err
		}
		if err := d.kill(); err != nil {
			return err
		}
		<-stormed // it fails: its mount has gone
		start := time.Now()
		if err := d.start(); err != nil {
			return err
		}
		took = append(took, time.Since(start).Seconds())
	}
	folder, err := diskUsage(d.data())
	if err != nil {
		return err
	}
	b.table.add(row{what: fmt.Sprintf("serving again after kill -9 in a storm, %.2f GiB of sealed mail stored", float64(stored)/(1<<30)),
		target: "2 s with 1 GiB", figure: seconds(took), beside: fmt.Sprintf("data folder: %.2f GiB", folder),
		met: reachedWith(stored, named, median(took) <= 2)})
	return nil
}

// diskUsage is what the files below dir occupy, in GiB.
func diskUsage(dir string) (float64, error) {
	var total float64
	err := walkFiles(dir, func(fi os.FileInfo) { total += float64(fi.Size()) })
	return total / (1 << 30), err
}
