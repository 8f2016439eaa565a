package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	domain   = "bench.test"
	password = "correct horse battery"
)

// daemon is a running `mailraft serve` with a data folder of its own.
type daemon struct {
	b       *bench
	program string
	flags   []string // of serve, beside those that all have
	dir     string
	cmd     *exec.Cmd
	done    chan error
	log     *os.File

	listeners map[string]string // protocol -> host:port
}

// daemon starts a daemon in a new folder; its start after a kill goes on with what is there.
func (b *bench) daemon() (*daemon, error) { return b.daemonOf(b.program) }

// daemonOf is daemon, of another program than the one to measure.
func (b *bench) daemonOf(program string) (*daemon, error) {
	d, err := b.folder(program)
	if err != nil {
		return nil, err
	}
	if err := d.start(); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// folder makes the folder of a daemon that is to be started.
func (b *bench) folder(program string, flags ...string) (*daemon, error) {
	dir, err := os.MkdirTemp(b.dir, "node-")
	if err != nil {
		return nil, err
	}
	d := &daemon{b: b, program: program, flags: flags, dir: dir}
	return d, errors.Join(os.Chmod(dir, 0o755), os.Mkdir(d.mount(), 0o755))
}

// folders are the flags that say where the daemon's folders are.
func (d *daemon) folders() []string {
	return append([]string{"--data", d.data(), "--mount", d.mount(), "--run", d.run()}, d.flags...)
}

func (d *daemon) mount() string { return filepath.Join(d.dir, "mail") }
func (d *daemon) data() string  { return filepath.Join(d.dir, "data") }

func (d *daemon) home(user string) string { return filepath.Join(d.mount(), domain, user) }

// start returns when the daemon serves: its proxies listen and its mount answers.
func (d *daemon) start() error {
	var err error
	if d.log, err = os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	const any = "127.0.0.1:0"
	d.cmd = exec.Command(d.program, append(append([]string{"serve"}, d.folders()...), "--hostname", "localhost",
		"--log-format", "json", "--smtp-listen", any, "--lmtp-listen", any, "--imap-listen", any, "--imap-listen-tls", any,
		"--submission-listen", any, "--submission-listen-tls", any, "--pop3-listen", any, "--pop3-listen-tls", any)...)
	d.cmd.Dir = "/"
	d.cmd.Stderr = d.log
	// A group of its own: an interrupt from the terminal is for this program, which then stops the daemon.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.done = make(chan error, 1)
	go func() { d.done <- d.cmd.Wait() }()
	limit := time.Now().Add(time.Minute)
	for {
		if err = d.learn(); err == nil {
			return nil
		}
		select {
		case err := <-d.done:
			d.done <- err
			return fmt.Errorf("the daemon ended: %w\n%s", err, d.tail())
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(limit) {
			return fmt.Errorf("the daemon does not serve: %w\n%s", err, d.tail())
		}
	}
}

func (d *daemon) run() string { return filepath.Join(d.dir, "run") }

// learn asks where the daemon listens, and for a greeting of each.
func (d *daemon) learn() error {
	out, err := d.try("", "status", "--json")
	if err != nil && len(out) == 0 {
		return err
	}
	var s struct {
		Listeners []struct{ Protocol, Address string }
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return err
	}
	d.listeners = map[string]string{}
	for _, l := range s.Listeners {
		if !strings.HasPrefix(l.Address, "unix:") {
			d.listeners[l.Protocol] = l.Address
		}
	}
	for _, p := range []string{"smtp", "lmtp", "imap", "pop3"} {
		if err := greet(d.listeners[p]); err != nil {
			return fmt.Errorf("%s at %q: %w", p, d.listeners[p], err)
		}
	}
	var here, above syscall.Stat_t
	if err := errors.Join(syscall.Stat(d.mount(), &here), syscall.Stat(d.dir, &above)); err != nil {
		return err
	}
	if here.Dev == above.Dev {
		return errors.New("nothing is mounted")
	}
	return nil
}

func greet(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

// try runs a command of the admin's.
func (d *daemon) try(stdin string, args ...string) ([]byte, error) {
	cmd := exec.Command(d.program, args...)
	cmd.Env = append(os.Environ(), "MAILRAFT_SOCKET="+filepath.Join(d.run(), "admin.sock"))
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("mailraft %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// addAccounts adds u0, u1, ... and answers their homes. They are unlocked.
func (d *daemon) addAccounts(n int) ([]string, error) {
	if _, err := d.try("", "domain", "add", domain); err != nil {
		return nil, err
	}
	var addresses []string
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("u%d@%s", i, domain))
	}
	if _, err := d.try(strings.Repeat(password+"\n", n), append([]string{"account", "add", "--password-stdin"}, addresses...)...); err != nil {
		return nil, err
	}
	var homes []string
	for i := range n {
		homes = append(homes, d.home(fmt.Sprint("u", i)))
	}
	return homes, d.unlockAll(n)
}

func (d *daemon) unlock(address string) error {
	_, err := d.try(password+"\n", "unlock", address, "--password-stdin", "--for", "2h")
	return err
}

// lockAll locks u0 to u(n-1), and unlockAll unlocks them.
func (d *daemon) lockAll(n int) error {
	for i := range n {
		if _, err := d.try("", "lock", fmt.Sprintf("u%d@%s", i, domain)); err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) unlockAll(n int) error {
	for i := range n {
		if err := d.unlock(fmt.Sprintf("u%d@%s", i, domain)); err != nil {
			return err
		}
	}
	return nil
}

// kill is kill -9.
func (d *daemon) kill() error {
	if err := d.cmd.Process.Kill(); err != nil {
		return err
	}
	<-d.done
	return d.log.Close()
}

// stop stops the daemon and removes all that it had.
func (d *daemon) stop() error {
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	select {
	case werr := <-d.done:
		if werr != nil {
			err = errors.Join(err, fmt.Errorf("the daemon stopped badly: %w\n%s", werr, d.tail()))
		}
	case <-ctx.Done():
		d.cmd.Process.Kill()
		<-d.done
		err = errors.Join(err, fmt.Errorf("the daemon did not stop in a minute"))
	}
	d.log.Close()
	if err != nil {
		syscall.Unmount(d.mount(), syscall.MNT_DETACH)
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// tail is the end of the daemon's log.
func (d *daemon) tail() string {
	b, _ := os.ReadFile(filepath.Join(d.dir, "log"))
	return string(b[max(0, len(b)-2000):])
}
