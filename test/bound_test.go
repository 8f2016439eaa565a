package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mailraft/test/node"
)

// catAs is cat(1), run as a user.
func catAs(t *testing.T, uid uint32, path string) (text []byte, refused string) {
	t.Helper()
	cmd := exec.Command("cat", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(said.String()), ": ")
	return text, lines[len(lines)-1]
}

// With unlock_bound a login lets the mail user read and nobody else, root neither; an admin's unlock lets whom he says.
func TestUnlockedForTheMailUser(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Flags("--unlock-bound", "--unlock-grace", "200ms"))
	if err := os.Chmod(filepath.Dir(n.Mount), 0o711); err != nil { // others go through it
		t.Fatal(err)
	}
	n.Start()
	const mailUser, root = 5000, 0
	const denied, noKey = "Permission denied", "Required key not available"
	a := n.AddAccount("alice@example.org")
	raw := oneText(t, n, a, 1)
	path := files(t, a.Home)[0]
	want := func(when string, uid uint32, refused string) {
		t.Helper()
		text, said := catAs(t, uid, path)
		if said != refused || refused == "" && !bytes.HasSuffix(text, raw) || refused != "" && len(text) > 0 {
			t.Errorf("%s: user %d reads %d octets, %q; want %q", when, uid, len(text), said, refused)
		}
	}
	want("locked", mailUser, noKey)

	c := logIn(t, n, a)
	must(t, c, "SELECT INBOX")
	if got := byIMAP(t, n, a, "INBOX").read[1]; !bytes.Equal(got, raw) {
		t.Errorf("IMAP: %s", difference(got, raw))
	}
	want("logged in", mailUser, "")
	want("logged in", root, denied)
	if answer := n.Try("", "cat", path); answer.Code == 0 || !strings.Contains(answer.Stderr, "mailraft unlock alice@example.org --uid root") {
		t.Errorf("mailraft cat: %+v", answer)
	}
	if status := n.Try("", "status", "--json").Stdout; !strings.Contains(status, `"uids":[5000]`) {
		t.Errorf("status: %s", status)
	}
	exported := filepath.Join(t.TempDir(), "mail")
	if answer := n.Try("", "export", a.Address, exported, "--quiet"); answer.Code == 0 {
		t.Errorf("exported as root without the password: %+v", answer)
	}
	n.AdminWith(a.Password+"\n", "export", a.Address, exported, "--quiet", "--password-stdin")
	if all := files(t, exported); len(all) != 1 {
		t.Errorf("exported: %v", all)
	}

	n.AdminWith(a.Password+"\n", "unlock", a.Address, "--password-stdin", "--uid", "root")
	want("unlocked for root too", root, "")
	want("unlocked for root too", mailUser, "")
	if err := c.Logout(); err != nil {
		t.Fatal(err)
	}
	n.Eventually("unlocked for root alone", func() bool { _, said := catAs(t, mailUser, path); return said == denied })
	want("unlocked for root alone", root, "")
	n.Lock(a)
	want("locked", root, noKey)

	if answer := n.Try(a.Password+"\n", "unlock", a.Address, "--password-stdin", "--uid", "no-such-user"); answer.Code != 2 {
		t.Errorf("for a user that is none: %+v", answer)
	}
	// So does a login through another server.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(a.Address + "\x00" + a.Password + "\x00\x00"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	check := exec.Command(node.Program(t), "checkpassword", "--auth-socket", n.Run+"/auth.sock", "true")
	check.ExtraFiles = []*os.File{r}
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want("logged in by checkpassword", mailUser, "")
	want("logged in by checkpassword", root, denied)
}
