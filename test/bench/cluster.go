package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cluster is three nodes on this machine, n1, n2 and n3.
type cluster []*daemon

// cluster makes one, whose nodes all have a copy of each shard.
func (b *bench) cluster(shards int) (c cluster, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	for i := range 3 {
		address, err := freeAddress()
		if err != nil {
			return c, err
		}
		d, err := b.folder(b.program, "--node", fmt.Sprint("n", i+1), "--cluster-listen", address, "--shards", fmt.Sprint(shards))
		if err != nil {
			return c, err
		}
		if i > 0 {
			token, err := c[0].try("", "token")
			if err == nil {
				_, err = d.try("", append([]string{"join", strings.TrimSpace(string(token))}, d.folders()...)...)
			}
			if err != nil {
				return c, err
			}
		}
		c = append(c, d)
		if err := d.start(); err != nil {
			return c, err
		}
	}
	for { // until all vote in all groups
		s, err := c[0].shards()
		if err != nil {
			return c, err
		}
		if len(s) == shards+1 && !slices.ContainsFunc(s, func(s shard) bool { return s.votes() < len(c) }) {
			return c, nil
		}
		if err := b.wait(100 * time.Millisecond); err != nil {
			return c, err
		}
	}
}

func (c cluster) stop() (err error) {
	for _, d := range c {
		if d.cmd != nil {
			err = errors.Join(err, d.stop())
		}
	}
	return err
}

// used is what all nodes with their proxies use.
func (c cluster) used() (all usage, err error) {
	for _, d := range c {
		u, err := tree(d.cmd.Process.Pid)
		if err != nil {
			return all, err
		}
		all.cpu += u.cpu
		all.resident += u.resident
	}
	return all, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// shard is one as status shows it; the directory is number 0.
type shard struct {
	Shard    int
	Leader   string
	Replicas []struct {
		Node           string
		Voter, Joining bool
		Problem        string
	}
}

func (s shard) votes() (n int) {
	for _, r := range s.Replicas {
		if r.Voter && !r.Joining && r.Problem == "" {
			n++
		}
	}
	return n
}

func (d *daemon) shards() ([]shard, error) {
	out, err := d.try("", "status", "--json")
	if err != nil && len(out) == 0 {
		return nil, err
	}
	var s struct{ Shards []shard }
	return s.Shards, json.Unmarshal(out, &s)
}

// gluster brings up GlusterFS with three bricks on this disk, with n Maildirs; no homes: there is no script for it.
func (b *bench) gluster(n int) (homes []string, stop func() error, err error) {
	script, base := b.peerScripts(), filepath.Join(b.dir, "gluster")
	if _, err := os.Stat(script); errors.Is(err, os.ErrNotExist) {
		return nil, func() error { return nil }, nil
	}
	stop = func() error {
		_, err := peerScript(script, "gluster3", "down", base)
		return err
	}
	dir, err := peerScript(script, "gluster3", "up", base)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		homes, err = maildirs(dir, n)
	}
	if err != nil {
		err = errors.Join(err, stop())
	}
	return homes, stop, err
}

// clusterDeliveries measures 8 KiB deliveries on one node's mount, beside a node that is alone and GlusterFS, in turns.
func (b *bench) clusterDeliveries() (err error) {
	c, err := b.cluster(4)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	three, err := c[0].addAccounts(mailboxes)
	if err != nil {
		return err
	}
	alone, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone.stop()) }()
	one, err := alone.addAccounts(mailboxes)
	if err != nil {
		return err
	}
	gluster, stop, err := b.gluster(mailboxes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	places := []*place{{name: "one node", homes: one}, {name: "three nodes", homes: three}, {name: "GlusterFS x 3", homes: gluster}}
	for _, p := range places {
		p.rates = map[string][]float64{}
	}
	ways := map[string]int{"16": 16, "1": 1}
	cpu := map[string][]float64{}
	var syncs, roundTrips []float64
	for round := range b.rounds {
		for way, writers := range ways {
			for _, p := range places {
				if len(p.homes) == 0 {
					continue
				}
				before, err := c.used()
				if err != nil {
					return err
				}
				r, err := b.drive(load{Kind: "deliver", Workers: writers, Seconds: b.turn.Seconds(), Size: 8 << 10, Homes: p.homes, Tag: fmt.Sprint(round, ".", way)})
				if err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
				after, err := c.used()
				if err != nil {
					return err
				}
				p.rates[way] = append(p.rates[way], r.rate())
				p.rates["p50 "+way] = append(p.rates["p50 "+way], r.Times["p50"])
				if p.name == "three nodes" {
					cpu[way] = append(cpu[way], (after.cpu-before.cpu)/float64(r.Done)*1e3)
				}
			}
		}
		s, err := syncTime(b.dir)
		if err != nil {
			return err
		}
		rt, err := roundTrip()
		if err != nil {
			return err
		}
		syncs, roundTrips = append(syncs, s), append(roundTrips, rt)
	}
	single, ours, peer := places[0].rates, places[1].rates, places[2].rates
	for _, x := range []struct {
		way, writers, target string
		ofPeer, ofSingle     float64
	}{{"16", "16 writers", "10 x GlusterFS, 0.5 x one node", 10, 0.5}, {"1", "1 writer", "5 x GlusterFS", 5, 0}} {
		r := row{what: "three nodes: deliveries by link, " + x.writers + ", 8 KiB", target: x.target, figure: rate(ours[x.way]),
			beside: fmt.Sprintf("one node %.0f (%.2f)", median(single[x.way]), ratios(ours[x.way], single[x.way])),
			note:   fmt.Sprintf("%.2f ms CPU of the three daemons each", median(cpu[x.way]))}
		if len(peer[x.way]) > 0 {
			toPeer := ratios(ours[x.way], peer[x.way])
			r.beside += fmt.Sprintf(", GlusterFS x 3 %.0f (%.2f)", median(peer[x.way]), toPeer)
			r.met = reached(toPeer >= x.ofPeer && ratios(ours[x.way], single[x.way]) >= x.ofSingle)
		}
		b.table.add(r)
	}
	limit := median(single["p50 1"]) + 2*median(roundTrips) + median(syncs)
	b.table.add(row{what: "the same, 1 writer: p50 of a delivery", target: "one node's, two round trips and an fsync", figure: seconds(ours["p50 1"]),
		beside: fmt.Sprintf("one node %s, round trip %.0f us, fsync %.0f us: %.2f ms", seconds(single["p50 1"]), median(roundTrips)*1e6, median(syncs)*1e6, limit*1e3),
		met:    reached(median(ours["p50 1"]) <= limit)})
	return nil
}

// clusterMail measures what a message costs that comes by LMTP to each of the nodes in turn: CPU of all nodes with their proxies.
func (b *bench) clusterMail() (err error) {
	c, err := b.cluster(4)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if _, err := c[0].addAccounts(mailboxes); err != nil {
		return err
	}
	var to []string
	for i := range mailboxes {
		to = append(to, fmt.Sprintf("u%d@%s", i, domain))
	}
	var rates, cpu []float64
	for range b.rounds {
		for _, d := range c {
			before, err := c.used()
			if err != nil {
				return err
			}
			r, err := b.drive(load{Kind: "lmtp", Workers: 16, Seconds: b.turn.Seconds(), Size: 20 << 10, Address: d.listeners["lmtp"], Recipients: to})
			if err != nil {
				return err
			}
			after, err := c.used()
			if err != nil {
				return err
			}
			rates = append(rates, r.rate())
			cpu = append(cpu, (after.cpu-before.cpu)/float64(r.Done)*1e3)
		}
	}
	b.table.add(row{what: "three nodes: CPU a message by LMTP, 16 connections to one node, 20 KiB, all processes", figure: fmt.Sprintf("%.2f ms", median(cpu)),
		beside: rate(rates)})
	return nil
}

// roundTrip is the median time for an octet to go through the loopback and back, by TCP.
func roundTrip() (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var took []float64
	var octet [1]byte
	for range 500 {
		start := time.Now()
		if _, err := c.Write(octet[:]); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, octet[:]); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start).Seconds())
	}
	return median(took), nil
}

// clusterLists measures a listing, by ls -f of the names and by ls -l, on a node that does not lead the folder's shard. Beside it stands what
// ls takes for itself: on a tmpfs, which has all in the kernel's memory.
func (b *bench) clusterLists() (err error) {
	const named = 10_000 // the target's size
	count := named
	if b.quick {
		count = 2000
	}
	c, err := b.cluster(4)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	ours, err := c[0].addAccounts(1)
	if err != nil {
		return err
	}
	follower, err := c.follower("u0")
	if err != nil {
		return err
	}
	gluster, stop, err := b.gluster(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := b.fill(ours, count, 1<<10, false); err != nil {
		return err
	}
	memory, forget, err := b.tmpfs()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, forget()) }()
	if err := b.fill(memory, count, 1<<10, false); err != nil {
		return err
	}
	homes := map[string]string{"ours": follower.home("u0"), "tmpfs": memory[0]}
	if len(gluster) > 0 {
		if err := b.fill(gluster, count, 1<<10, false); err != nil {
			return err
		}
		homes["GlusterFS"] = gluster[0]
	}
	times := map[string][]float64{}
	for range b.rounds {
		for name, home := range homes {
			for _, list := range listings {
				if list.cold {
					if err := dropCaches(); err != nil {
						return err
					}
				}
				took, err := ls(list.option, filepath.Join(home, "new"))
				if err != nil {
					return err
				}
				times[name+list.what] = append(times[name+list.what], took)
			}
		}
	}
	for _, list := range listings {
		r := row{what: fmt.Sprintf("three nodes: %s, of %d messages on a follower", list.what, count), target: fmt.Sprintf("20 x GlusterFS, of %d", named),
			figure: seconds(times["ours"+list.what]), beside: "tmpfs " + seconds(times["tmpfs"+list.what])}
		if peer := times["GlusterFS"+list.what]; len(peer) > 0 {
			ratio := ratios(peer, times["ours"+list.what])
			r.beside += fmt.Sprintf(", GlusterFS x 3 %s (%.1f x)", seconds(peer), ratio)
			r.met = reachedWith(count, named, ratio >= 20)
		}
		b.table.add(r)
	}
	return nil
}

// listings are the ways of listing a folder, in this order.
var listings = []struct {
	what, option string
	cold         bool // nothing of the folder is in the kernel's caches
}{{"ls -f, cold", "-f", true}, {"ls -f, warm", "-f", false}, {"ls -l, cold", "-l", true}, {"ls -l, warm", "-l", false}}

// tmpfs gives a home in the kernel's memory.
func (b *bench) tmpfs() (homes []string, stop func() error, err error) {
	dir := filepath.Join(b.dir, "tmpfs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return nil, nil, fmt.Errorf("mounting a tmpfs on %s: %w", dir, err)
	}
	stop = func() error { return errors.Join(unix.Unmount(dir, 0), os.Remove(dir)) }
	if homes, err = maildirs(dir, 1); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return homes, stop, nil
}

// follower finds a node that does not lead the shard of a user.
func (c cluster) follower(user string) (*daemon, error) {
	out, err := c[0].try("", "account", "quota", user+"@"+domain, "--json")
	if err != nil {
		return nil, err
	}
	var account struct{ Shard int }
	if err := json.Unmarshal(out, &account); err != nil {
		return nil, err
	}
	shards, err := c[0].shards()
	if err != nil {
		return nil, err
	}
	for _, s := range shards {
		for i, d := range c {
			if s.Shard == account.Shard && s.Leader != fmt.Sprint("n", i+1) {
				return d, nil
			}
		}
	}
	return nil, fmt.Errorf("no node follows in shard %d", account.Shard)
}

// clusterIdle measures nodes that nobody talks to, and how soon what one of them acknowledged is found on another.
func (b *bench) clusterIdle() (err error) {
	watch := 20 * time.Second
	if b.quick {
		watch = 5 * time.Second
	}
	for _, shards := range []int{4, 16, 64} {
		if err := b.idleShards(shards, watch); err != nil {
			return fmt.Errorf("%d shards: %w", shards, err)
		}
	}
	return nil
}

func (b *bench) idleShards(shards int, watch time.Duration) (err error) {
	c, err := b.cluster(shards)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if _, err := c[0].addAccounts(mailboxes); err != nil {
		return err
	}
	if err := b.wait(15 * time.Second); err != nil { // leaders are spread meanwhile
		return err
	}
	before, err := c.used()
	if err != nil {
		return err
	}
	if err := b.wait(watch); err != nil {
		return err
	}
	after, err := c.used()
	if err != nil {
		return err
	}
	nodes := float64(len(c))
	cpu, resident := (after.cpu-before.cpu)/watch.Seconds()*100/nodes, after.resident/nodes
	verdictOf := func(ok bool) verdict {
		if shards != 16 {
			return open
		}
		return reached(ok)
	}
	b.table.add(row{what: fmt.Sprintf("three idle nodes with %d shards and proxies, %v: CPU of a node", shards, watch), target: "1 % of a core with 16",
		figure: fmt.Sprintf("%.2f %%", cpu), met: verdictOf(cpu < 1)})
	b.table.add(row{what: "the same: memory of a node", target: "200 MiB resident with 16", figure: fmt.Sprintf("%.0f MiB", resident), met: verdictOf(resident < 200)})
	found, gone, err := c.lag(300)
	if err != nil {
		return err
	}
	b.table.add(row{what: "the same: from the acknowledgement until another node has the message", target: "p99 under 5 ms with 16",
		figure: spread(found), met: verdictOf(found[len(found)*99/100] < 5e-3)})
	b.table.add(row{what: "the same: from a removal's acknowledgement until another node finds the name no longer", figure: spread(gone)})
	return nil
}

func spread(sorted []float64) string {
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, most %.2f ms of %d", median(sorted)*1e3, sorted[len(sorted)*99/100]*1e3, slices.Max(sorted)*1e3, len(sorted))
}

// lag delivers messages on one node after the other, now and then, and removes them. It has another find each message at once, and the name
// until it is gone there, and takes the times from the acknowledgements, in seconds, the shortest first. What is not found has the node ask
// the leader, so the first is longer than what it lags behind; a name is found for as long as it is there by what the node has applied.
func (c cluster) lag(trials int) (found, gone []float64, err error) {
	for i := range trials {
		from, to := c[i%3], c[(i+1+i/3%2)%3]
		user, name := fmt.Sprint("u", i%mailboxes), fmt.Sprintf("18000.lag.%d", i)
		tmp := filepath.Join(from.home(user), "tmp", name)
		if err := os.WriteFile(tmp, message(8<<10, uint64(i)), 0o600); err != nil {
			return nil, nil, err
		}
		if err := os.Link(tmp, filepath.Join(from.home(user), "new", name)); err != nil {
			return nil, nil, err
		}
		acknowledged := time.Now()
		var st syscall.Stat_t
		there := filepath.Join(to.home(user), "new", name)
		err := syscall.Stat(there, &st)
		found = append(found, time.Since(acknowledged).Seconds())
		if err := errors.Join(err, os.Remove(tmp), os.Remove(filepath.Join(from.home(user), "new", name))); err != nil {
			return nil, nil, err
		}
		acknowledged = time.Now()
		for err == nil {
			err = syscall.Stat(there, &st)
		}
		gone = append(gone, time.Since(acknowledged).Seconds())
		if err != syscall.ENOENT {
			return nil, nil, fmt.Errorf("stat %s: %w", there, err)
		}
		time.Sleep(time.Duration(10+math.Mod(float64(i)*7, 20)) * time.Millisecond)
	}
	slices.Sort(found)
	slices.Sort(gone)
	return found, gone, nil
}
