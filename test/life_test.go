package test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mailraft/test/message"
	"mailraft/test/node"
)

// A second daemon on the same data folder is told so and ends; the first one goes on.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	elsewhere := t.TempDir()
	if err := os.Mkdir(filepath.Join(elsewhere, "mail"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string][]string{
		"same mount":    n.Command(),
		"another mount": append(n.Command(), "--mount", filepath.Join(elsewhere, "mail"), "--run", filepath.Join(elsewhere, "run")),
	} {
		_, wrote, err := tryRun(t, elsewhere, command...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() <= 0 {
			t.Errorf("%s: the second daemon ended: %v", name, err)
		}
		if !strings.Contains(string(wrote), n.Data) || strings.Contains(string(wrote), "panic") {
			t.Errorf("%s: the second daemon does not say which folder is in use: %s", name, wrote)
		}
	}
	oneText(t, n, a, 1)
	if got := len(files(t, a.Home)); got != 1 {
		t.Errorf("%d messages", got)
	}
	if n.Logged("serving") != 1 {
		t.Error("the first daemon did not go on undisturbed")
	}
}

// SIGTERM ends the daemon, and leaves no mount, whoever uses it.
func TestStopInUse(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Flags("--stop-timeout", "2s"))
	a := n.AddAccount("alice@example.org")
	raw := oneText(t, n, a, 1)
	n.Unlock(a)
	f, err := os.Open(files(t, a.Home)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	folder, err := os.Open(a.Home)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	c := logIn(t, n, a)
	must(t, c, "SELECT INBOX")
	if _, err := c.Idle(); err != nil {
		t.Fatal(err)
	}
	logInPOP3(t, n, a)
	half := beginDelivery(t, n, a, message.Text(2, 4<<20))

	n.Stop()
	if err := half.Send(half.rest); err == nil {
		if r, err := half.Reply(); err == nil && r.OK() {
			t.Errorf("a daemon that has ended took a message: %s", r)
		}
	}
	n.Start()
	n.Unlock(a)
	if box := byMount(t, a); len(box.read) != 1 || !bytes.Equal(box.read[1], raw) {
		t.Errorf("%d messages after the restart", len(box.read))
	}
}

// A daemon that is killed leaves a mount that answers nothing but an error, and the next one takes it away.
func TestDeadMount(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	oneText(t, n, a, 1)
	n.Unlock(a)
	f, err := os.Open(files(t, a.Home)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n.Kill()
	if !n.Mounted() {
		t.Error("the mount is gone with the daemon: this test has to be thought over")
	}
	// What the kernel remembers it may still answer; a listing it has to ask for.
	if _, err := os.ReadDir(a.Home); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("listing of the dead mount: %v, want ENOTCONN", err)
	}
	n.Start()
	if got := len(files(t, a.Home)); got != 1 {
		t.Errorf("%d messages", got)
	}
	if n.IsUnlocked(a) {
		t.Error("a new daemon knows a key")
	}
	if _, err := os.Open(files(t, a.Home)[0]); !errors.Is(err, syscall.ENOKEY) {
		t.Errorf("open after the crash: %v, want ENOKEY", err)
	}
}

// Proxies parse what strangers send: they run as the mail user without privileges, and have neither a FUSE device nor a file of the
// data folder open.
func TestProxiesHaveLittle(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	logIn(t, n, a)
	for _, name := range []string{"smtp", "imap", "pop3"} {
		pid := n.Proxy(name)
		for field, want := range map[string]string{
			"Uid": "5000 5000 5000 5000", "Gid": "5000 5000 5000 5000", "Groups": "", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
			"NoNewPrivs": "1",
		} {
			if got := n.ProcessField(pid, field); got != want {
				t.Errorf("%s proxy: %s is %q, want %q", name, field, got, want)
			}
		}
		for _, path := range n.OpenFiles(pid) {
			if path == "/dev/fuse" || path == n.Data || strings.HasPrefix(path, n.Data+"/") {
				t.Errorf("the %s proxy has %s open", name, path)
			}
		}
	}
	if len(n.OpenFiles(n.PID())) == 0 {
		t.Error("no file of the daemon is seen to be open")
	}
}
