package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// logins measures logins at the IMAP port, over TLS, and what a storm of wrong passwords does to who is logged in.
func (b *bench) logins() (err error) {
	const users, stored = 16, 1000
	once, count, watch := 10, 200, 20*time.Second
	if b.quick {
		once, count, watch = 5, 50, 8*time.Second
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	homes, err := d.addAccounts(users)
	if err != nil {
		return err
	}
	if err := b.fill(homes[:1], stored, 8<<10, false); err != nil {
		return err
	}
	all := make([]string, users)
	for i := range all {
		all[i] = fmt.Sprintf("u%d@%s", i, domain)
	}
	login := load{Kind: "logins", Workers: 1, Address: d.listeners["imaps"], Users: all[:1], Pass: password}

	var cold []float64
	for range once {
		if err := d.lockAll(1); err != nil {
			return err
		}
		l := login
		l.Count = 1
		r, err := b.drive(l)
		if err != nil {
			return err
		}
		cold = append(cold, r.Times["login"])
	}
	b.table.add(row{what: "login by PLAIN, the account locked: Argon2id", figure: seconds(cold)})

	if err := d.unlockAll(1); err != nil {
		return err
	}
	for _, how := range []struct {
		what  string
		proof bool
	}{{"the same, the account unlocked", false}, {"login by SCRAM-SHA-256", true}} {
		l := login
		l.Proof, l.Count = how.proof, count
		cpu, r, err := d.costs(l)
		if err != nil {
			return err
		}
		b.table.add(row{what: how.what, figure: fmt.Sprintf("%.1f ms", r.Times["login"]*1e3),
			beside: fmt.Sprintf("with the session, TLS and all: %.1f ms, %.2f ms CPU of daemon and proxies", r.Times["p50"]*1e3, cpu/float64(r.Done)*1e3)})
	}

	paced := login
	paced.Users, paced.Workers, paced.Rate, paced.Seconds = all, 16, 200, watch.Seconds()
	cpu, r, err := d.costs(paced)
	if err != nil {
		return err
	}
	share := cpu / r.Elapsed
	b.table.add(row{what: fmt.Sprintf("200 logins/s by PLAIN over TLS, %d accounts that are unlocked, %v: CPU of daemon and proxies", users, watch), target: "0.5 of a core",
		figure: fmt.Sprintf("%.2f of a core", share), beside: fmt.Sprintf("%.0f/s, login p99 with the session %.1f ms", r.rate(), r.Times["p99"]*1e3),
		met: reached(share < 0.5 && r.rate() > 195)})
	return b.storm(d, load{Kind: "fetches", Workers: 1, Address: d.listeners["imaps"], User: all[0], Pass: password, Size: stored,
		Rate: 100, Seconds: watch.Seconds()})
}

// storm measures FETCH alone, and while wrong passwords come from many addresses.
func (b *bench) storm(d *daemon, fetch load) error {
	alone, calm, err := d.peak(fetch)
	if err != nil {
		return err
	}
	const guessers = 64
	stormed := make(chan error, 1)
	var guesses result
	go func() {
		var err error
		guesses, err = b.drive(load{Kind: "guesses", Workers: guessers, Address: fetch.Address, Seconds: fetch.Seconds + 2})
		stormed <- err
	}()
	if err := b.wait(2 * time.Second); err != nil { // until all of them wait for their turns
		return errors.Join(err, <-stormed)
	}
	during, stormy, err := d.peak(fetch)
	if err := errors.Join(err, <-stormed); err != nil {
		return err
	}
	b.table.add(row{what: "IMAP FETCH of 8 KiB, 100/s, in a storm of wrong passwords: p50, p99", target: "as without",
		figure: fmt.Sprintf("%.1f ms, %.1f ms", during.Times["p50"]*1e3, during.Times["p99"]*1e3),
		beside: fmt.Sprintf("alone %.1f ms, %.1f ms; %.0f guesses/s of %d at once", alone.Times["p50"]*1e3, alone.Times["p99"]*1e3, guesses.rate(), guessers),
		met:    reached(during.Times["p99"] < 2*alone.Times["p99"])})
	b.table.add(row{what: "the same: most memory of the daemon", target: "64 MiB a processor more", figure: fmt.Sprintf("%.0f MiB", stormy),
		beside: fmt.Sprintf("alone %.0f MiB", calm), met: reached(stormy-calm < 2*64*float64(runtime.NumCPU()))})
	return nil
}

// costs is the CPU time that the daemon and its proxies take for a load, in seconds.
func (d *daemon) costs(l load) (cpu float64, r result, err error) {
	before, err := tree(d.cmd.Process.Pid)
	if err != nil {
		return 0, r, err
	}
	if r, err = d.b.drive(l); err != nil {
		return 0, r, err
	}
	after, err := tree(d.cmd.Process.Pid)
	return after.cpu - before.cpu, r, err
}

// peak is the most memory that the daemon had resident during a load, in MiB: VmHWM, reset before it (proc_pid_status(5), proc_pid_clear_refs(5)).
func (d *daemon) peak(l load) (r result, most float64, err error) {
	folder := fmt.Sprintf("/proc/%d/", d.cmd.Process.Pid)
	if err := os.WriteFile(folder+"clear_refs", []byte("5"), 0); err != nil {
		return r, 0, err
	}
	if r, err = d.b.drive(l); err != nil {
		return r, 0, err
	}
	status, err := os.ReadFile(folder + "status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return r, kib / 1024, err
		}
	}
	return r, 0, errors.Join(err, errors.New("no VmHWM"))
}
