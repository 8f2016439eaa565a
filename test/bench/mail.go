package main

import (
	"errors"
	"fmt"
)

// mail measures LMTP and SMTP with 20 KiB messages beside deliveries of that size on the mount.
func (b *bench) mail() (err error) {
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	homes, err := d.addAccounts(mailboxes)
	if err != nil {
		return err
	}
	var to []string
	for i := range homes {
		to = append(to, fmt.Sprintf("u%d@%s", i, domain))
	}
	const size = 20 << 10
	rates, cpu := map[string][]float64{}, map[string][]float64{}
	for round := range b.rounds {
		for _, kind := range []string{"deliver", "lmtp", "smtp"} {
			before, err := tree(d.cmd.Process.Pid)
			if err != nil {
				return err
			}
			r, err := b.drive(load{
				Kind: kind, Workers: 16, Seconds: b.turn.Seconds(), Size: size, Homes: homes, Tag: fmt.Sprint("m", round),
				Address: d.listeners[kind], Recipients: to,
			})
			if err != nil {
				return err
			}
			after, err := tree(d.cmd.Process.Pid)
			if err != nil {
				return err
			}
			rates[kind] = append(rates[kind], r.rate())
			cpu[kind] = append(cpu[kind], (after.cpu-before.cpu)/float64(r.Done)*1e3)
		}
	}
	for _, kind := range []string{"lmtp", "smtp"} {
		ratio := ratios(rates[kind], rates["deliver"])
		b.table.add(row{what: kind + ", 16 connections, 20 KiB", target: "0.5 x mount, 1,000/s", figure: rate(rates[kind]),
			beside: fmt.Sprintf("mount by link %.0f (%.2f)", median(rates["deliver"]), ratio),
			met:    reached(ratio >= 0.5 && median(rates[kind]) > 1000)})
	}
	b.table.add(row{what: "CPU a message by LMTP, all processes", target: "1.2 ms", figure: fmt.Sprintf("%.2f ms", median(cpu["lmtp"])),
		beside: fmt.Sprintf("SMTP %.2f ms, mount %.2f ms", median(cpu["smtp"]), median(cpu["deliver"])), met: reached(median(cpu["lmtp"]) <= 1.2)})
	return nil
}
