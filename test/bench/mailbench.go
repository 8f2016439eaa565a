package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// shared is the folder with the scripts that bring up peers, and with mailbench, unless -shared names one: it may lie beside the
// checkout.
func shared() string {
	if dir := os.Getenv("MAILRAFT_SHARED"); dir != "" {
		return dir
	}
	return filepath.Join("..", "shared")
}

// peerPhases are what mailbench does, in this order, to the messages of one run.
var peerPhases = []struct{ name, phase, what string }{
	{"deliver", "fs-deliver", "deliveries"},
	{"flags", "fs-flags", "renames new to cur with a flag"},
	{"read", "fs-read", "open+read+close, out of the kernel's caches"},
	{"unlink", "fs-unlink", "removals"},
}

// peers has mailbench, a driver that knows nothing of us, do the same work on the bare disk, on gocryptfs, on GlusterFS with three
// bricks, and on the mount, in turns.
func (b *bench) peers() (err error) {
	const what = "mailbench beside ext4, gocryptfs and GlusterFS"
	script := b.peerScripts()
	for _, path := range []string{script, filepath.Join(b.shared, "mailbench", "go.mod")} {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			b.table.add(row{what: what, note: "not measured: there is no " + path + "; -shared names the folder"})
			return nil
		} else if err != nil {
			return err
		}
	}
	mailbench, err := b.buildMailbench()
	if err != nil {
		return err
	}
	const users, writers = 10, 4
	count := 1000
	if b.quick {
		count = 200
	}
	type peer struct {
		name, dir string
		args      []string
		rates     map[string][]float64 // of each phase
	}
	var peers []*peer
	base := filepath.Join(b.dir, "peers")
	for _, p := range []struct{ script, name string }{{"ext4", "ext4"}, {"gocryptfs", "gocryptfs"}, {"gluster3", "GlusterFS x 3"}} {
		defer func() { // also of what came up in part
			_, derr := peerScript(script, p.script, "down", base)
			err = errors.Join(err, derr)
		}()
		dir, err := peerScript(script, p.script, "up", base)
		if err != nil {
			return err
		}
		peers = append(peers, &peer{name: p.name, dir: dir})
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if _, err := d.addAccounts(users); err != nil {
		return err
	}
	accounts := []string{"-maildirs", domain + "/u%d"}
	ours := &peer{name: "mailraft", dir: d.mount(), args: append(accounts, "-move", "link")}
	renamed := &peer{name: "by rename", dir: d.mount(), args: accounts}
	peers = append(peers, ours, renamed)

	for range b.rounds {
		for _, p := range peers {
			rates, err := b.mailbench(mailbench, count, append([]string{"-dir", p.dir, "-c", fmt.Sprint(writers), "-users", fmt.Sprint(users)}, p.args...)...)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if p.rates == nil {
				p.rates = map[string][]float64{}
			}
			for phase, rate := range rates {
				p.rates[phase] = append(p.rates[phase], rate)
			}
		}
	}
	for _, ph := range peerPhases {
		var beside []string
		for _, p := range peers {
			if p != ours && (p != renamed || ph.name == "deliver") {
				beside = append(beside, fmt.Sprintf("%s %.0f (%.2f)", p.name, median(p.rates[ph.phase]), ratios(ours.rates[ph.phase], p.rates[ph.phase])))
			}
		}
		b.table.add(row{what: fmt.Sprintf("mailbench, %d clients, %d messages of 54 KiB on average: %s", writers, count, ph.what),
			figure: rate(ours.rates[ph.phase]), beside: strings.Join(beside, ", ")})
	}
	return nil
}

func (b *bench) peerScripts() string { return filepath.Join(b.shared, "peers", "peer.sh") }

// peerScript brings a peer up or takes it away, and answers the last line that it says.
func peerScript(script, name, verb, base string) (string, error) {
	cmd := exec.Command("bash", script, name, verb, base)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt would leave half of it
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s %s: %w: %s", filepath.Base(script), name, verb, err, bytes.TrimSpace(stderr.Bytes()))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}

// buildMailbench builds mailbench from a copy: it is a module of its own, in a folder that may be read-only.
func (b *bench) buildMailbench() (string, error) {
	source, program := filepath.Join(b.dir, "mailbench.source"), filepath.Join(b.dir, "mailbench")
	if err := os.CopyFS(source, os.DirFS(filepath.Join(b.shared, "mailbench"))); err != nil {
		return "", err
	}
	_, err := goTool("build", "-C", source, "-o", program, ".")
	return program, err
}

// mailbench runs it once, and answers what each phase did in a second.
func (b *bench) mailbench(program string, count int, args ...string) (map[string]float64, error) {
	said := filepath.Join(b.dir, "mailbench.json")
	defer os.Remove(said)
	var phases []string
	for _, ph := range peerPhases {
		phases = append(phases, ph.name)
	}
	cmd := exec.CommandContext(b.ctx, program, append([]string{"fs", "-json", said, "-n", fmt.Sprint(count), "-drop-caches", "-phases", strings.Join(phases, ",")}, args...)...)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1") // as drive has it, and on each peer alike
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mailbench: %w: %s", err, bytes.TrimSpace(out))
	}
	f, err := os.Open(said)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rates := map[string]float64{}
	for in := json.NewDecoder(f); in.More(); {
		var line struct {
			Phase string
			Ops   int
			Rate  float64 `json:"ops_per_s"`
		}
		if err := in.Decode(&line); err != nil {
			return nil, fmt.Errorf("mailbench said: %w", err)
		}
		if line.Ops != count {
			return nil, fmt.Errorf("mailbench did %d of %d: %s", line.Ops, count, line.Phase)
		}
		rates[line.Phase] = line.Rate
	}
	for _, ph := range peerPhases {
		if rates[ph.phase] == 0 {
			return nil, fmt.Errorf("mailbench said nothing of %s", ph.phase)
		}
	}
	return rates, nil
}
