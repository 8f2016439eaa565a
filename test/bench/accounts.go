package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// accounts adds many of them from a file. What Argon2id makes of a password takes longer than all else together, and differs from
// minute to minute by more than that; so it is not subtracted: the program is built once more, with the cheapest parameters that a
// slot's record may have.
func (b *bench) accounts() error {
	const count = 1000
	cheap, err := b.buildCheap()
	if err != nil {
		return err
	}
	var took []float64
	for range min(3, b.rounds) {
		t, err := b.addFromFile(cheap, count)
		if err != nil {
			return err
		}
		took = append(took, t)
	}
	const some = 100 // the hashes of 1,000 take minutes
	whole, err := b.addFromFile(b.program, some)
	if err != nil {
		return err
	}
	b.table.add(row{what: fmt.Sprintf("%d accounts from a file, X25519, with the cheapest Argon2id", count), target: "60 s, Argon2id apart",
		figure: seconds(took), beside: fmt.Sprintf("%d with the program's own Argon2id: %.1f s", some, whole), met: reached(median(took) <= 60)})
	return nil
}

// addFromFile is the time that `account add --from` takes in a daemon that has no accounts.
func (b *bench) addFromFile(program string, count int) (took float64, err error) {
	d, err := b.daemonOf(program)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if _, err := d.try("", "domain", "add", domain); err != nil {
		return 0, err
	}
	var list strings.Builder
	for i := range count {
		fmt.Fprintf(&list, "a%d@%s,%s\n", i, domain, password)
	}
	path := filepath.Join(d.dir, "accounts.csv")
	if err := os.WriteFile(path, []byte(list.String()), 0o600); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := d.try("", "account", "add", "--key", "x25519", "--from", path); err != nil {
		return 0, err
	}
	took = time.Since(start).Seconds()
	out, err := d.try("", "account", "list", domain)
	if err != nil {
		return 0, err
	}
	if n := strings.Count(string(out), "@"+domain); n != count {
		return 0, fmt.Errorf("%d accounts are listed of %d", n, count)
	}
	return took, nil
}

var slotDefaults = regexp.MustCompile(`(?m)^var DefaultParams = Params\{.*\}$`)

// buildCheap builds the program with one line of its source replaced: what a new slot's password costs.
func (b *bench) buildCheap() (string, error) {
	dir, err := goTool("list", "-f", "{{.Dir}}", "mailraft/fs/seal/slot")
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(dir), "slot.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	if n := len(slotDefaults.FindAll(text, -1)); n != 1 {
		return "", fmt.Errorf("%s has DefaultParams %d times", source, n)
	}
	text = slotDefaults.ReplaceAll(text, []byte("var DefaultParams = Params{Passes: 1, Memory: MinMemory, Threads: 1}"))
	replacement, overlay, program := filepath.Join(b.dir, "slot.go"), filepath.Join(b.dir, "overlay.json"), filepath.Join(b.dir, "mailraft-cheap")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: replacement}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(replacement, text, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	_, err = goTool("build", "-overlay", overlay, "-o", program, "mailraft/cmd/mailraft")
	return program, err
}

// goTool runs the go command as the Makefile's build does: for static programs.
func goTool(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}
