package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case driveArg:
			end(drive(os.Stdin, os.Stdout))
		case floorArg:
			end(serveFloor(os.Args[2], os.Stdin, os.Stdout))
		}
	}
	b := &bench{rounds: 5, turn: 1500 * time.Millisecond, out: os.Stdout}
	run := flag.String("run", ".", "measure what matches the `regexp`")
	quick := flag.Bool("quick", false, "fewer and shorter rounds, smaller folders")
	list := flag.Bool("list", false, "list what there is to measure")
	ofCluster := flag.Bool("cluster", false, "measure three nodes instead of one")
	flag.StringVar(&b.program, "mailraft", "bin/mailraft", "the `program` to measure")
	flag.StringVar(&b.base, "dir", "/var/tmp", "a `folder` on the disk to measure on, that every user can reach")
	flag.StringVar(&b.shared, "shared", shared(), "a `folder` with peers/peer.sh and mailbench/, for the part peers (MAILRAFT_SHARED)")
	flag.BoolVar(&b.million, "million", true, "measure memory with 1,000,000 messages stored (some ten minutes; never with -quick)")
	flag.Parse()
	if *quick {
		b.quick, b.rounds, b.turn = true, 3, 700*time.Millisecond
	}
	measurements := ofOneNode
	if *ofCluster {
		measurements = ofThreeNodes
	}
	if *list {
		for _, m := range measurements {
			fmt.Printf("%-10s %s\n", m.name, m.what)
		}
		return
	}
	// What is interrupted takes its mounts away all the same.
	var stop context.CancelFunc
	b.ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	selected, err := regexp.Compile(*run)
	if err == nil {
		err = b.run(measurements, selected)
	}
	end(err)
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// measurement is something to measure: what main's -run selects.
type measurement struct {
	name, what string
	fn         func(*bench) error
}

var ofOneNode = []measurement{
	{"deliver", "deliveries on the mount, by link and by rename, 16 writers and 1", (*bench).deliveries},
	{"smtp", "LMTP and SMTP, 16 connections, with the CPU that a message costs", (*bench).mail},
	{"read", "open, read and close, cold and in the kernel's cache", (*bench).reads},
	{"list", "a folder of many messages: ls -l, .mailraft-index", (*bench).lists},
	{"access", "IMAP and POP3 on a folder of 10,000", (*bench).access},
	{"login", "logins by PLAIN and SCRAM over TLS, 200 a second, and a storm of wrong passwords", (*bench).logins},
	{"peers", "deliveries, flags, reads and removals beside ext4, gocryptfs and GlusterFS, all by mailbench", (*bench).peers},
	{"accounts", "accounts from a file", (*bench).accounts},
	{"idle", "what a daemon with nothing to do costs", (*bench).idle},
	{"restart", "serving again after kill -9, with much stored", (*bench).restart},
	{million, "memory with 1,000,000 messages stored", (*bench).memory},
}

var ofThreeNodes = []measurement{
	{"deliver", "deliveries on the mount, 16 writers and 1, beside one node and GlusterFS, and the CPU that a message costs", (*bench).clusterDeliveries},
	{"lmtp", "the CPU that a message by LMTP costs, in all processes of three nodes", (*bench).clusterMail},
	{"list", "listing 10,000 messages on a node that does not lead, beside GlusterFS and a tmpfs", (*bench).clusterLists},
	{"idle", "what three nodes with nothing to do cost, with 4, 16 and 64 shards, and how soon a node has what another acknowledged", (*bench).clusterIdle},
}

const million = "million"

// bench is one run of this program.
type bench struct {
	ctx            context.Context // ends when the run is interrupted
	program, base  string
	shared         string
	quick, million bool
	rounds         int
	turn           time.Duration // how long one thing is measured in a round
	out            *os.File

	dir   string // all that this run makes
	table table
}

func (b *bench) run(measurements []measurement, selected *regexp.Regexp) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("it mounts file systems: run it as root")
	}
	if b.program, err = filepath.Abs(b.program); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(b.base, "mailraft-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if err := b.describe(); err != nil {
		return err
	}
	ran, failed := 0, []string(nil)
	for _, m := range measurements {
		if !selected.MatchString(m.name) || m.name == million && (b.quick || !b.million) || b.ctx.Err() != nil {
			continue
		}
		ran++
		start := time.Now()
		if err := m.fn(b); err != nil {
			b.table.add(row{what: m.name, note: "failed: " + err.Error()})
			failed = append(failed, m.name)
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", m.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s took %.0f s\n", time.Now().Format(time.TimeOnly), m.name, time.Since(start).Seconds())
	}
	switch err := b.table.print(b.out); {
	case err != nil:
		return err
	case b.ctx.Err() != nil:
		return errors.New("interrupted")
	case len(failed) > 0:
		return fmt.Errorf("could not measure: %s", strings.Join(failed, ", "))
	case ran == 0:
		return errors.New("nothing of that name is measured (-list lists what is)")
	}
	return nil
}

// wait is for what only time brings.
func (b *bench) wait(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}
