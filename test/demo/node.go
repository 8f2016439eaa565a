package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// node is a running quickstart.
type node struct {
	dir      string
	process  *exec.Cmd
	ended    chan error
	log      *os.File
	password string   // "": none was printed
	commands []string // those that it printed
}

// startTime is how long a node may take to start on a slow machine.
const startTime = 60 * time.Second

func start(binary, dir string) (*node, error) {
	n := &node{dir: dir, ended: make(chan error, 1)}
	var err error
	if n.log, err = os.CreateTemp(dir, "log-"); err != nil {
		return nil, err
	}
	n.process = exec.Command(binary, "quickstart", ".")
	n.process.Dir = dir
	n.process.Env = os.Environ()
	for _, socket := range []string{"SMTP_LISTEN", "SUBMISSION_LISTEN", "SUBMISSION_LISTEN_TLS", "LMTP_LISTEN", "IMAP_LISTEN", "IMAP_LISTEN_TLS", "POP3_LISTEN", "POP3_LISTEN_TLS"} {
		n.process.Env = append(n.process.Env, "MAILRAFT_"+socket+"=127.0.0.1:0")
	}
	n.process.Stderr = n.log
	out, err := n.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.process.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(startTime, n.kill)
	err = n.listen(out)
	late.Stop()
	go func() { n.ended <- n.process.Wait() }()
	if err != nil {
		n.kill()
		return nil, errors.Join(err, <-n.ended, n.showLog())
	}
	return n, nil
}

// listen takes the password and the commands from what the node prints. A command is an indented line, or more of them where
// they end in "|".
func (n *node) listen(out io.Reader) error {
	lines := bufio.NewScanner(out)
	joined := ""
	for lines.Scan() {
		line := lines.Text()
		text, indented := strings.CutPrefix(line, "  ")
		if !indented {
			continue
		}
		if _, password, ok := strings.Cut(text, "kept nowhere else: "); ok {
			n.password = password
		}
		joined += strings.TrimSpace(text)
		if strings.HasSuffix(joined, "|") {
			joined += " "
			continue
		}
		n.commands = append(n.commands, joined)
		if strings.HasSuffix(joined, " status") { // the last one
			return nil
		}
		joined = ""
	}
	return errors.Join(errors.New("the node did not come up"), lines.Err())
}

// command is the first command printed that has all of these parts.
func (n *node) command(parts ...string) string {
next:
	for _, c := range n.commands {
		for _, part := range parts {
			if !strings.Contains(c, part) {
				continue next
			}
		}
		return c
	}
	return fmt.Sprintf("echo 'no command with %q was printed'; false", parts)
}

// try runs the command printed that begins so. What it prints must have the text.
func (n *node) try(begins, text string) error {
	for _, c := range n.commands {
		if strings.HasPrefix(c, begins) {
			return n.run(c, text)
		}
	}
	return fmt.Errorf("no command was printed that begins with %q", begins)
}

// refused runs the command printed that begins so, which must fail with the text.
func (n *node) refused(begins, text string) error {
	for _, c := range n.commands {
		if strings.HasPrefix(c, begins) {
			return n.run("! "+c, text)
		}
	}
	return fmt.Errorf("no command was printed that begins with %q", begins)
}

// run runs a command line.
func (n *node) run(line, text string) error {
	fmt.Println("  $", strings.ReplaceAll(line, n.password, "PASSWORD"))
	cmd := exec.Command("bash", "-o", "pipefail", "-c", line)
	cmd.Dir = n.dir
	out, err := cmd.CombinedOutput()
	for shown := range strings.Lines(string(out)) {
		fmt.Println("   ", strings.TrimRight(shown, "\r\n"))
	}
	if err == nil && !strings.Contains(string(out), text) {
		err = fmt.Errorf("it did not say %q", text)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", line, err), n.showLog())
	}
	return nil
}

func (n *node) showLog() error {
	b, err := os.ReadFile(n.log.Name())
	if err != nil {
		return err
	}
	return fmt.Errorf("the node's log:\n%s", b)
}

func (n *node) kill() { n.process.Process.Kill() }

// stopTime is how long a node may take to stop.
const stopTime = 30 * time.Second

// stop ends the node as Ctrl-C does, and looks for what it left behind.
func (n *node) stop() error {
	defer n.log.Close()
	if err := n.process.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	late := time.AfterFunc(stopTime, n.kill)
	defer late.Stop()
	if err := <-n.ended; err != nil {
		return errors.Join(fmt.Errorf("stop: %w", err), n.showLog())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if mount := filepath.Join(n.dir, "mail"); strings.Contains(string(mounts), " "+mount+" ") {
		return fmt.Errorf("%s is still mounted", mount)
	}
	return nil
}
