package main

import (
	"errors"
	"fmt"
)

const mailboxes = 16

// place is a set of Maildirs on one file system, with what was measured on it.
type place struct {
	name  string
	homes []string
	rates map[string][]float64
}

// deliveries measures 8 KiB deliveries on the mount, on the bare disk and on gocryptfs, in turns.
func (b *bench) deliveries() (err error) {
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	ours, err := d.addAccounts(mailboxes)
	if err != nil {
		return err
	}
	bare, err := b.bareDisk(mailboxes)
	if err != nil {
		return err
	}
	crypt, stop, err := b.gocryptfs(mailboxes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	places := []*place{{name: "ext4", homes: bare}, {name: "gocryptfs", homes: crypt}, {name: "mailraft", homes: ours}}
	ways := []struct {
		name    string
		writers int
		rename  bool
	}{{"link", 16, false}, {"rename", 16, true}, {"one", 1, false}}
	var cpu []float64
	for round := range b.rounds {
		for _, w := range ways {
			for _, p := range places {
				before, err := tree(d.cmd.Process.Pid)
				if err != nil {
					return err
				}
				r, err := b.drive(load{
					Kind: "deliver", Workers: w.writers, Seconds: b.turn.Seconds(), Size: 8 << 10, Homes: p.homes, Rename: w.rename,
					Tag: fmt.Sprint(round, w.name), AsRoot: p.name == "gocryptfs",
				})
				if err != nil {
					return fmt.Errorf("%s on %s: %w", w.name, p.name, err)
				}
				if p.rates == nil {
					p.rates = map[string][]float64{}
				}
				p.rates[w.name] = append(p.rates[w.name], r.rate())
				if p.name == "mailraft" && w.name == "link" {
					after, err := tree(d.cmd.Process.Pid)
					if err != nil {
						return err
					}
					cpu = append(cpu, (after.cpu-before.cpu)/float64(r.Done)*1e3)
				}
			}
		}
	}
	disk, gc, mr := places[0].rates, places[1].rates, places[2].rates
	beside := func(way string) string {
		return fmt.Sprintf("ext4 %.0f (%.2f), gocryptfs %.0f (%.2f)", median(disk[way]), ratios(mr[way], disk[way]), median(gc[way]), ratios(mr[way], gc[way]))
	}
	toDisk, toCrypt := ratios(mr["link"], disk["link"]), ratios(mr["link"], gc["link"])
	b.table.add(row{what: "deliveries by link, 16 writers, 8 KiB", target: "3 x gocryptfs, 0.35 x ext4", figure: rate(mr["link"]), beside: beside("link"),
		met: reached(toDisk >= 0.35 && toCrypt >= 3), note: fmt.Sprintf("%.2f ms CPU of the daemon each", median(cpu))})
	b.table.add(row{what: "deliveries by rename, 16 writers, 8 KiB", target: "0.25 x ext4", figure: rate(mr["rename"]), beside: beside("rename"),
		met: reached(ratios(mr["rename"], disk["rename"]) >= 0.25)})
	b.table.add(row{what: "deliveries by link, 1 writer, 8 KiB", target: "1 x ext4", figure: rate(mr["one"]), beside: beside("one"),
		met: reached(ratios(mr["one"], disk["one"]) >= 1)})
	return nil
}
