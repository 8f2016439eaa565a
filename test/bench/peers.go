package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maildirs makes n Maildirs of the mail user's below dir, as the daemon's accounts have them.
func maildirs(dir string, n int) ([]string, error) {
	var homes []string
	for i := range n {
		home := filepath.Join(dir, fmt.Sprint("u", i))
		for _, sub := range []string{"", "tmp", "new", "cur"} {
			path := filepath.Join(home, sub)
			if err := errors.Join(os.MkdirAll(path, 0o700), os.Chown(path, mailUser, mailUser)); err != nil {
				return nil, err
			}
		}
		homes = append(homes, home)
	}
	return homes, nil
}

// ext4 is the bare disk: a folder on it, whatever its file system is.
func (b *bench) bareDisk(n int) ([]string, error) {
	dir := filepath.Join(b.dir, "bare")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return maildirs(dir, n)
}

// gocryptfs mounts Debian's gocryptfs over a folder of the same disk: the encrypted peer. Loads are driven on it as root: other
// users get EPERM from version 2.3 when they make files from many threads at once, and it does less for root.
func (b *bench) gocryptfs(n int) (homes []string, stop func() error, err error) {
	if err := install("gocryptfs"); err != nil {
		return nil, nil, err
	}
	cipher, mnt := filepath.Join(b.dir, "gocryptfs.cipher"), filepath.Join(b.dir, "gocryptfs")
	if err := errors.Join(os.Mkdir(cipher, 0o700), os.Mkdir(mnt, 0o755)); err != nil {
		return nil, nil, err
	}
	for _, args := range [][]string{
		{"-q", "-init", "-scryptn", "10", "-extpass", "echo bench", cipher},
		{"-q", "-allow_other", "-extpass", "echo bench", cipher, mnt},
	} {
		if out, err := exec.Command("gocryptfs", args...).CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("gocryptfs %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	stop = func() error {
		out, err := exec.Command("umount", mnt).CombinedOutput()
		if err != nil {
			return fmt.Errorf("umount: %w: %s", err, out)
		}
		return errors.Join(os.RemoveAll(cipher), os.Remove(mnt))
	}
	if err := os.Chmod(mnt, 0o755); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	if homes, err = maildirs(mnt, n); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return homes, stop, nil
}

// install installs a Debian package if its program is missing.
func install(name string) error {
	if _, err := exec.LookPath(name); err == nil {
		return nil
	}
	cmd := exec.Command("sh", "-c", "apt-get install -y --no-install-recommends "+name+" || { apt-get update && apt-get install -y --no-install-recommends "+name+"; }")
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w: %s", name, err, out)
	}
	return nil
}
