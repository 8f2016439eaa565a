package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mailraft/test/node"
)

// The first account's password is printed once and kept nowhere: a quickstart that cannot print it makes no account, and the next
// start still has a password to tell.
func TestQuickstartTellsThePassword(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", fmt.Sprintf("mailraft-%d-", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var exit *exec.ExitError
	cmd := quickstart(t, dir)
	cmd.Stdout = full
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("with nowhere to print to, it ended: %v", err)
	}

	cmd = quickstart(t, dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	password, wrote := "", ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		wrote += lines.Text() + "\n"
		if _, p, ok := strings.Cut(lines.Text(), "kept nowhere else: "); ok {
			password = p
		}
		if strings.HasSuffix(lines.Text(), " status") {
			break // the last line
		}
	}
	if password == "" {
		t.Errorf("no password was printed:\n%s", wrote)
	}
	unlock := exec.Command(cmd.Path, "-c", filepath.Join(dir, "mailraft.toml"), "unlock", "alice@localhost", "--password-stdin")
	unlock.Stdin = strings.NewReader(password + "\n")
	if out, err := unlock.CombinedOutput(); err != nil {
		t.Errorf("with the password that was printed: %v\n%s", err, out)
	}
	aliases := exec.Command(cmd.Path, "-c", filepath.Join(dir, "mailraft.toml"), "alias", "list")
	if out, err := aliases.CombinedOutput(); err != nil || !strings.Contains(string(out), "postmaster@localhost") {
		t.Errorf("no postmaster: %v\n%s", err, out)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// quickstart is the command on free ports.
func quickstart(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, node.Program(t), "quickstart", dir)
	cmd.Env = os.Environ()
	for _, option := range []string{"SMTP_LISTEN", "SUBMISSION_LISTEN", "SUBMISSION_LISTEN_TLS", "LMTP_LISTEN", "IMAP_LISTEN", "IMAP_LISTEN_TLS", "POP3_LISTEN", "POP3_LISTEN_TLS"} {
		cmd.Env = append(cmd.Env, "MAILRAFT_"+option+"=127.0.0.1:0")
	}
	return cmd
}
