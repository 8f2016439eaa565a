// Command cluster shows three nodes on one machine, on one screen: a message goes in at one and comes out at another, a node is killed,
// and mail goes on. Everything lies in a temporary folder; it takes some ten seconds.
//
//	go run ./test/demo/cluster -mailraft bin/mailraft
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	domain   = "cluster.example"
	address  = "alice@" + domain
	password = "correct-horse-battery"
	patience = 30 * time.Second
)

func main() {
	program := flag.String("mailraft", "bin/mailraft", "the program")
	flag.Parse()
	if err := show(*program); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// member is a node of the demo.
type member struct {
	program, dir, name string
	port, smtp         string
	process            *exec.Cmd
}

func show(program string) (err error) {
	program, err = filepath.Abs(program)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mailraft-demo-")
	if err != nil {
		return err
	}
	var nodes []*member
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.stop())
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	for i := range 3 {
		n := &member{program: program, name: fmt.Sprint("n", i+1), dir: filepath.Join(dir, fmt.Sprint("n", i+1))}
		nodes = append(nodes, n)
		if n.port, err = freePort(); err != nil {
			return err
		}
		if n.smtp, err = freePort(); err != nil {
			return err
		}
		if i > 0 {
			token, err := nodes[0].ask("", "token")
			if err != nil {
				return err
			}
			say("%s joins with a token of n1", n.name)
			if _, err := n.ask("", append([]string{"join", strings.TrimSpace(token)}, n.options()...)...); err != nil {
				return err
			}
		} else {
			say("n1 begins a cluster")
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	if err := until("all three vote", func() bool {
		list, err := n1.ask("", "shard", "list")
		return err == nil && strings.Count(list, "n1,n2,n3") == 4
	}); err != nil {
		return err
	}
	for _, a := range [][]string{{"domain", "add", domain}, {"account", "add", address, "--password-stdin"}} {
		if _, err := n2.ask(password+"\n", a...); err != nil {
			return err
		}
	}
	say("n2 made the account %s", address)
	if err := n1.send("first"); err != nil {
		return err
	}
	if err := n3.lists(1); err != nil {
		return err
	}
	list, err := n3.ask("", "shard", "list")
	if err != nil {
		return err
	}
	fmt.Print(list)
	say("n1 is killed")
	if err := n1.kill(); err != nil {
		return err
	}
	begun := time.Now()
	if err := until("mail goes on", func() bool { return n2.send("second") == nil }); err != nil {
		return err
	}
	say("n2 took a message %v after that", time.Since(begun).Round(time.Millisecond))
	if err := n3.lists(2); err != nil {
		return err
	}
	say("n1 is started again")
	if err := n1.start(); err != nil {
		return err
	}
	if err := until("n1 has it all", func() bool { return n1.lists(2) == nil }); err != nil {
		return err
	}
	say("done")
	return nil
}

func say(format string, args ...any) { fmt.Printf("== "+format+"\n", args...) }

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func until(what string, so func() bool) error {
	for end := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s: not after %v", what, patience)
		}
	}
	return nil
}

func (n *member) mount() string { return filepath.Join(n.dir, "mail") }

func (n *member) options() []string {
	return []string{
		"--data", filepath.Join(n.dir, "data"), "--mount", n.mount(), "--run", filepath.Join(n.dir, "run"), "--hostname", "localhost",
		"--node", n.name, "--cluster-listen", n.port, "--smtp-listen", n.smtp, "--lmtp-listen", "unix:lmtp.sock",
		"--submission-listen", "127.0.0.1:0", "--submission-listen-tls", "127.0.0.1:0",
		"--imap-listen", "127.0.0.1:0", "--imap-listen-tls", "127.0.0.1:0", "--pop3-listen", "127.0.0.1:0", "--pop3-listen-tls", "127.0.0.1:0",
	}
}

// ask runs a command of the admin's.
func (n *member) ask(input string, args ...string) (string, error) {
	cmd := exec.Command(n.program, args...)
	cmd.Env = append(os.Environ(), "MAILRAFT_SOCKET="+filepath.Join(n.dir, "run", "admin.sock"))
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("mailraft %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

// start starts the node, and returns when it serves.
func (n *member) start() error {
	if err := os.MkdirAll(n.mount(), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.process = exec.Command(n.program, append([]string{"serve"}, n.options()...)...)
	n.process.Stderr = log
	n.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is the demo's, which stops it
	if err := n.process.Start(); err != nil {
		return err
	}
	return until(n.name+" serves (its log is "+log.Name()+")", func() bool {
		_, err := n.ask("", "status")
		return err == nil
	})
}

func (n *member) kill() error {
	err := n.process.Process.Kill()
	n.process.Wait()
	n.process = nil
	return err
}

func (n *member) stop() error {
	if n.process == nil {
		syscall.Unmount(n.mount(), syscall.MNT_DETACH)
		return nil
	}
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return n.process.Wait()
}

// send hands the node a message by SMTP.
func (n *member) send(subject string) error {
	c, err := smtp.Dial(n.smtp)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(c.Mail("bob@example.org"), c.Rcpt(address)); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "Subject: %s\r\n\r\nText.\r\n", subject); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	say("%s took the message %q by SMTP", n.name, subject)
	return c.Quit()
}

// lists makes sure that there are so many messages.
func (n *member) lists(want int) error {
	dir := filepath.Join(n.mount(), domain, "alice", "new")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) != want {
		return fmt.Errorf("%s has %d messages in %s, not %d", n.name, len(entries), dir, want)
	}
	say("%s lists %d:", n.name, want)
	for _, e := range entries {
		fmt.Println("  ", e.Name())
	}
	return nil
}
