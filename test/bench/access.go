package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// access measures IMAP and POP3 on a folder of 10,000 messages.
func (b *bench) access() (err error) {
	const count, size, conns = 10_000, 8 << 10, 4
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	homes, err := d.addAccounts(1)
	if err != nil {
		return err
	}
	if err := b.fill(homes, count, size, false); err != nil {
		return err
	}
	user := "u0@" + domain
	// The first session moves the messages from new to cur; it is not measured.
	if _, err := b.drive(load{Kind: "imap", Address: d.listeners["imap"], User: user, Pass: password, Size: count}); err != nil {
		return err
	}
	files, err := filesOf(homes)
	if err != nil {
		return err
	}
	if files, err = appendCur(files, homes[0]); err != nil {
		return err
	}
	rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	var selects, again, flags, bodies, mount, uidl, uidlAgain []float64
	for range b.rounds {
		r, err := b.drive(load{Kind: "imap", Address: d.listeners["imap"], User: user, Pass: password, Size: count})
		if err != nil {
			return err
		}
		selects = append(selects, r.Times["select"])
		again = append(again, r.Times["again"])
		flags = append(flags, r.Items["flags"]/r.Times["flags"])
		if r, err = b.drive(load{Kind: "read", Workers: conns, Seconds: b.turn.Seconds(), Files: files, Size: size}); err != nil {
			return err
		}
		mount = append(mount, r.rate())
		if r, err = b.drive(load{Kind: "bodies", Workers: conns, Seconds: b.turn.Seconds(), Address: d.listeners["imap"], User: user, Pass: password, Size: count}); err != nil {
			return err
		}
		bodies = append(bodies, r.rate())
		if r, err = b.drive(load{Kind: "pop3", Address: d.listeners["pop3"], User: user, Pass: password, Size: count}); err != nil {
			return err
		}
		uidl = append(uidl, r.Times["uidl"])
		uidlAgain = append(uidlAgain, r.Times["again"])
	}
	b.table.add(row{what: "IMAP SELECT of 10,000, new session, warm", target: "100 ms", figure: seconds(selects), beside: "a session's second: " + seconds(again), met: reached(median(selects) <= 0.1)})
	b.table.add(row{what: "IMAP FETCH 1:* (FLAGS)", target: "200,000 items/s", figure: rate(flags), met: reached(median(flags) >= 200_000)})
	ratio := ratios(bodies, mount)
	b.table.add(row{what: "IMAP BODY.PEEK[] at random, 4 connections", target: "0.5 x mount", figure: rate(bodies),
		beside: fmt.Sprintf("open+read+close on the mount %.0f (%.2f)", median(mount), ratio), met: reached(ratio >= 0.5)})
	b.table.add(row{what: "POP3 UIDL of 10,000", target: "100 ms", figure: seconds(uidl), beside: "a session's second: " + seconds(uidlAgain), met: reached(median(uidl) <= 0.1)})
	return nil
}

// appendCur appends the files in cur of a home.
func appendCur(files []string, home string) ([]string, error) {
	cur, err := filesIn(home + "/cur")
	return slices.Concat(files, cur), err
}
