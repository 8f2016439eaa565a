package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

// accounts adds 1,000 of them from a file. The passwords' Argon2id is apart: what it alone costs on all processors is measured
// here and taken off.
func (b *bench) accounts() (err error) {
	count := 1000
	if b.quick {
		count = 100
	}
	d, err := b.daemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if _, err := d.try("", "domain", "add", domain); err != nil {
		return err
	}
	var list strings.Builder
	for i := range count {
		fmt.Fprintf(&list, "a%d@%s,%s\n", i, domain, password)
	}
	path := filepath.Join(d.dir, "accounts.csv")
	if err := os.WriteFile(path, []byte(list.String()), 0o600); err != nil {
		return err
	}
	hash := argonTime(16) * float64(count)
	start := time.Now()
	if _, err := d.try("", "account", "add", "--key", "x25519", "--from", path); err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	out, err := d.try("", "account", "list", domain)
	if err != nil {
		return err
	}
	if n := strings.Count(string(out), "@"+domain); n != count {
		return fmt.Errorf("%d accounts are listed of %d", n, count)
	}
	b.table.add(row{what: fmt.Sprintf("%d accounts from a file, X25519", count), target: fmt.Sprintf("%d s, Argon2id apart", 60*count/1000),
		figure: fmt.Sprintf("%.1f s", max(took-hash, 0)), beside: fmt.Sprintf("%.1f s in all, of which Argon2id %.1f s", took, hash),
		met: reached(took-hash <= 60*float64(count)/1000)})
	return nil
}

// argonTime is how long one password takes when all processors do nothing else, in seconds: RFC 9106's second recommended
// option, as the daemon has it.
func argonTime(n int) float64 {
	start := time.Now()
	var wg sync.WaitGroup
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	for range runtime.NumCPU() {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range work {
				argon2.IDKey([]byte(password), make([]byte, 16), 3, 64<<10, 4, 32)
			}
		}()
	}
	wg.Wait()
	return time.Since(start).Seconds() / float64(n)
}
