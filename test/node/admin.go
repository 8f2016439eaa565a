package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Answer is how a command ended.
type Answer struct {
	Stdout, Stderr string
	Code           int
}

// Try runs a command of the admin's, with a text as its standard input.
func (n *Node) Try(stdin string, args ...string) Answer {
	n.t.Helper()
	return n.run(exec.Command(n.program, args...), stdin)
}

func (n *Node) run(cmd *exec.Cmd, stdin string) Answer {
	n.t.Helper()
	// A command with the race detector would look for races a second longer when it is done.
	cmd.Env = append(os.Environ(), "MAILRAFT_SOCKET="+filepath.Join(n.Run, "admin.sock"), "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, context.DeadlineExceeded) {
		n.t.Fatal(err)
	}
	return Answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// TryFor runs a command of the admin's that is killed (SIGKILL) when it has taken so long: then Answer.Code is -1.
func (n *Node) TryFor(most time.Duration, args ...string) Answer {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	return n.run(exec.CommandContext(ctx, n.program, args...), "")
}

// Admin runs a command of the admin's, which has to succeed, and returns what it wrote.
func (n *Node) Admin(args ...string) string {
	n.t.Helper()
	return n.AdminWith("", args...)
}

// AdminWith is Admin with a text as the command's standard input.
func (n *Node) AdminWith(stdin string, args ...string) string {
	n.t.Helper()
	a := n.Try(stdin, args...)
	if a.Code != 0 {
		n.t.Fatalf("mailraft %s: exit code %d\n%s%s", strings.Join(args, " "), a.Code, a.Stdout, a.Stderr)
	}
	return a.Stdout
}

// Account is a mailbox of a node.
type Account struct {
	Address, Password string
	Home              string // its Maildir++ on the mount
}

// AddAccount adds an account, its domain as well when that is not there, with a password that is nowhere else. flags go to the
// command.
func (n *Node) AddAccount(address string, flags ...string) Account {
	n.t.Helper()
	local, domain, _ := strings.Cut(address, "@")
	if !strings.Contains("\n"+n.Admin("domain", "list"), "\n"+domain+"\n") {
		n.Admin("domain", "add", domain)
	}
	a := Account{Address: address, Password: "secret " + rand.Text(), Home: filepath.Join(n.Mount, domain, local)}
	n.AdminWith(a.Password+"\n", append([]string{"account", "add", address, "--password-stdin"}, flags...)...)
	return a
}

// Unlock unlocks an account.
func (n *Node) Unlock(a Account) {
	n.t.Helper()
	n.AdminWith(a.Password+"\n", "unlock", a.Address, "--password-stdin", "--for", "1h")
}

// Lock locks an account.
func (n *Node) Lock(a Account) {
	n.t.Helper()
	n.Admin("lock", a.Address)
}

// Status is what the daemon says of itself.
type Status struct {
	Problems []string
	Proxies  []struct {
		Name     string
		PID      int
		Restarts int
	}
	Listeners []struct{ Protocol, Address string }
	Unlocked  []struct{ Address string }
	Shards    []struct { // the directory is number 0
		Shard    int
		Replicas []struct {
			Node           string
			Voter, Joining bool
		}
	}
}

// Status asks the daemon. Problems fail the test, but those of a cluster's node.
func (n *Node) Status() Status {
	n.t.Helper()
	var s Status
	a := n.Try("", "status", "--json")
	if err := json.Unmarshal([]byte(a.Stdout), &s); err != nil {
		n.t.Fatalf("mailraft status: exit code %d, %v\n%s", a.Code, err, a.Stderr)
	}
	if len(s.Problems) > 0 && n.Name == "" { // other nodes may be down
		n.t.Fatalf("problems: %s", strings.Join(s.Problems, "; "))
	}
	return s
}

// learn takes the addresses that the daemon listens at.
func (n *Node) learn() {
	n.t.Helper()
	for _, l := range n.Status().Listeners {
		if strings.HasPrefix(l.Address, "unix:") {
			continue
		}
		switch l.Protocol {
		case "smtp":
			n.SMTP = l.Address
		case "submission":
			n.Submission = l.Address
		case "submissions":
			n.Submissions = l.Address
		case "lmtp":
			n.LMTP = l.Address
		case "imap":
			n.IMAP = l.Address
		case "imaps":
			n.IMAPS = l.Address
		case "pop3":
			n.POP3 = l.Address
		case "pop3s":
			n.POP3S = l.Address
		}
	}
}

// IsUnlocked says whether the daemon has the account's key.
func (n *Node) IsUnlocked(a Account) bool {
	n.t.Helper()
	for _, u := range n.Status().Unlocked {
		if u.Address == a.Address {
			return true
		}
	}
	return false
}

// Proxy is the process number of a proxy: "smtp", "imap" or "pop3".
func (n *Node) Proxy(name string) int {
	n.t.Helper()
	for _, p := range n.Status().Proxies {
		if p.Name == name && p.PID != 0 {
			return p.PID
		}
	}
	n.t.Fatalf("no %s proxy runs", name)
	return 0
}

// KillProxy kills a proxy (SIGKILL), and returns when another one was started in its place.
func (n *Node) KillProxy(name string) {
	n.t.Helper()
	pid, mark := n.Proxy(name), n.Mark()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	n.AwaitLog(mark, "child started", "child", name)
}

// Fsck has the daemon check all that it stores, and fails the test with what is wrong.
func (n *Node) Fsck() {
	n.t.Helper()
	if a := n.Try("", "fsck"); a.Code != 0 {
		n.t.Errorf("mailraft fsck: exit code %d\n%s%s", a.Code, a.Stdout, a.Stderr)
	}
}

// FsckStopped checks the data folder of a daemon that does not run.
func (n *Node) FsckStopped() {
	n.t.Helper()
	if a := n.Try("", "fsck", "--data", n.Data); a.Code != 0 {
		n.t.Errorf("mailraft fsck --data: exit code %d\n%s%s", a.Code, a.Stdout, a.Stderr)
	}
}

// Eventually asks again and again until it is so. It is for what no event tells of; whatever has one is to be awaited instead.
func (n *Node) Eventually(what string, isSo func() bool) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(patience); !isSo(); <-tick.C {
		if time.Now().After(late) {
			n.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
