package test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// Without the password a mailbox can be listed and not read; and no line of any message, no password and no private key lies in
// any octet that is stored.
func TestLocked(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	var all []message.Message
	for i, m := range everything(t) {
		if i%4 == 0 { // each line of each is looked for in all that is stored, four times
			all = append(all, m)
		}
	}
	secrets := newNeedles()

	// A message that is on its way, large enough to be spilled.
	pending := message.Text(77, 24<<20)
	secrets.addLines("the message on its way", pending)
	halfway := beginDelivery(t, n, a, pending)

	deliver(t, func() (*client.SMTP, error) { return client.DialLMTP(n.LMTP) }, 4, all, a.Address)
	n.Unlock(a)
	for _, path := range files(t, a.Home) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		secrets.addLines(filepath.Base(path), b)
	}
	draft := filepath.Join(a.Home, "draft")
	if err := os.WriteFile(draft, message.Text(78, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets.addLines("the draft", message.Text(78, 100_000))
	leaveOutCommon(t, secrets)
	secrets.add("the password", []byte(strings.TrimPrefix(a.Password, "secret ")))
	secrets.add("a private key", []byte("AGE-SECRET-KEY-1"))
	secrets.add("a private key", []byte("AGE-SECRET-KEY-PQ"))
	byIMAP(t, n, a, "INBOX").mustHave(all)
	n.Lock(a)

	t.Run("listed", func(t *testing.T) { listedNotRead(t, n, a) })
	t.Run("search finds", func(t *testing.T) { findsPlanted(t, secrets) })
	t.Run("running", func(t *testing.T) {
		nothingIn(t, secrets, n.Data)
		staged := false
		for _, path := range nothingOpen(t, secrets, n, n.PID()) {
			staged = staged || strings.HasPrefix(path, filepath.Join(n.Data, "staging")+"/")
		}
		if !staged {
			t.Error("the message on its way is in no file: it should be larger")
		}
		for _, proxy := range []string{"smtp", "imap", "pop3"} {
			nothingOpen(t, secrets, n, n.Proxy(proxy))
		}
	})
	halfway.finish(t)
	t.Run("killed", func(t *testing.T) {
		n.Kill()
		nothingIn(t, secrets, n.Data)
		entries, err := os.ReadDir(n.Run)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "shards" { // the mounts in it are dead
				nothingIn(t, secrets, filepath.Join(n.Run, e.Name()))
			}
		}
		n.Start()
		listedNotRead(t, n, a)
	})
	n.Stop()
	nothingIn(t, secrets, n.Data)
	nothingIn(t, secrets, n.Run)
	nothingIn(t, secrets, n.Mount)
}

// A mailbox is readable while its owner is logged in, by whichever way, and for the grace after that.
func TestUnlockedWhileLoggedIn(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Flags("--unlock-grace", "100ms"))
	a, b := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.org")
	raw := oneText(t, n, a, 1)
	oneText(t, n, b, 1)
	path := files(t, a.Home)[0]
	readable := func() bool {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, syscall.ENOKEY) {
			t.Fatal(err)
		}
		return err == nil && bytes.HasSuffix(b, raw)
	}
	first, second := logIn(t, n, a), logInPOP3(t, n, a)
	if !readable() {
		t.Error("not readable while its owner is logged in")
	}
	listedNotRead(t, n, b)
	if err := first.Logout(); err != nil {
		t.Fatal(err)
	}
	if !readable() {
		t.Error("not readable while the second session lasts")
	}
	if err := second.Close(); err != nil { // without a goodbye
		t.Fatal(err)
	}
	n.Eventually("locked after the last session", func() bool { return !readable() })

	// The admin can end it, sessions and all.
	c := logIn(t, n, a)
	must(t, c, "SELECT INBOX")
	n.Lock(a)
	if readable() {
		t.Error("readable after lock")
	}
	if _, err := c.Command("FETCH 1 BODY.PEEK[]"); err == nil {
		t.Error("a session outlives the lock")
	}
	// And no wrong password begins it.
	if err := tryLogIn(t, n, node.Account{Address: a.Address, Password: b.Password}); err == nil {
		t.Error("another's password lets in")
	}
	if answer := n.Try("wrong\n", "unlock", a.Address, "--password-stdin"); answer.Code == 0 {
		t.Errorf("a wrong password unlocks: %+v", answer)
	}
	if readable() {
		t.Error("readable after wrong passwords")
	}
}

// With a new password the mail that is there stays readable, and the old password is worth nothing: nor is what it has opened.
func TestNewPassword(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	raw := oneText(t, n, a, 1)
	others, err := client.DialIMAP(n.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	if err := others.Login(a.Address, a.Password); err != nil {
		t.Fatal(err)
	}
	changed := a
	changed.Password = "another " + a.Password
	n.AdminWith(a.Password+"\n"+changed.Password+"\n", "account", "passwd", a.Address, "--password-stdin")
	if r, err := others.Response(); err != nil || !strings.HasPrefix(r.Text, "* BYE") {
		t.Errorf("a session of the old password goes on: %q, %v", r.Text, err)
	}
	if err := tryLogIn(t, n, a); err == nil {
		t.Error("the old password lets in")
	}
	if box := byIMAP(t, n, changed, "INBOX"); !bytes.Equal(box.read[1], raw) {
		t.Errorf("read with the new password: %d messages", len(box.read))
	}
}

// tryLogIn tries to log in to IMAP.
func tryLogIn(t *testing.T, n *node.Node, a node.Account) error {
	t.Helper()
	c, err := client.DialIMAP(n.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Login(a.Address, a.Password)
}

// half is a delivery of which half is sent.
type half struct {
	*client.SMTP
	rest []byte
}

func beginDelivery(t *testing.T, n *node.Node, a node.Account, raw []byte) *half {
	t.Helper()
	s, err := client.DialSMTP(n.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, command := range []string{"MAIL FROM:<half@sender.example>", "RCPT TO:<" + a.Address + ">", "DATA"} {
		if r, err := s.Command("%s", command); err != nil || r.Code() != "250" && r.Code() != "354" {
			t.Fatalf("%s: %q, %v", command, r, err)
		}
	}
	wire := client.Stuffed(raw)
	if err := s.Send(wire[:len(wire)/2]); err != nil {
		t.Fatal(err)
	}
	return &half{s, wire[len(wire)/2:]}
}

func (h *half) finish(t *testing.T) {
	t.Helper()
	if err := h.Send(h.rest); err != nil {
		t.Fatal(err)
	}
	if r, err := h.Reply(); err != nil || !r.OK() {
		t.Fatalf("%q, %v", r, err)
	}
}

// listedNotRead has the programs that people use look at a locked mailbox.
func listedNotRead(t *testing.T, n *node.Node, a node.Account) {
	t.Helper()
	paths := files(t, a.Home)
	if len(paths) == 0 {
		t.Fatal("the mailbox is empty")
	}
	out, err := exec.Command("ls", "-lR", a.Home).CombinedOutput()
	if err != nil {
		t.Errorf("ls -lR: %v\n%.500s", err, out)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		if !bytes.Contains(out, []byte(name)) {
			t.Errorf("ls -lR does not list %s", name)
		}
		fi, err := os.Stat(path)
		if err != nil || !strings.Contains(name, fmt.Sprintf(",S=%d", fi.Size())) {
			t.Errorf("stat %s: %v, %v", name, fi, err)
		}
		if f, err := os.Open(path); !errors.Is(err, syscall.ENOKEY) {
			t.Errorf("open %s: %v, want ENOKEY", name, err)
			if err == nil {
				f.Close()
			}
		}
	}
	if out, err := exec.Command("cat", paths[0]).CombinedOutput(); err == nil || !strings.Contains(string(out), "Required key not available") {
		t.Errorf("cat: %v\n%.500s", err, out)
	}
	if answer := n.Try("", "cat", paths[0]); answer.Code == 0 || !strings.Contains(answer.Stderr, "unlock") || answer.Stdout != "" {
		t.Errorf("mailraft cat: %+v", answer)
	}
	// Names can be changed, and messages removed, without a key.
	renamed := paths[0] + "x"
	if err := errors.Join(os.Rename(paths[0], renamed), os.Rename(renamed, paths[0])); err != nil {
		t.Error(err)
	}
}

// leaveOutCommon leaves out the pieces of lines that a node holds that never had mail.
func leaveOutCommon(t *testing.T, secrets *needles) {
	t.Helper()
	n := node.Start(t)
	n.AddAccount("alice@example.org")
	running, _ := secrets.inFolder(t, n.Data)
	n.Stop()
	stopped, _ := secrets.inFolder(t, n.Data)
	secrets.leaveOut(append(running, stopped...))
	for _, e := range secrets.list {
		if e.leftOut {
			t.Logf("not looked for, since it is where no mail is: %q", e.text())
		}
	}
}

// findsPlanted shows that the search finds what it looks for, wherever it begins.
func findsPlanted(t *testing.T, secrets *needles) {
	folder := t.TempDir()
	random := rand.New(rand.NewPCG(1, 1))
	junk := make([]byte, 3<<20)
	for i := range junk {
		junk[i] = byte(random.Uint32())
	}
	for _, e := range someNeedles(t, secrets) {
		planted := e.text()
		for _, at := range []int{0, 1, 1<<20 - 7, 1<<20 + 3, len(junk) - len(planted)} {
			b := bytes.Clone(junk)
			copy(b[at:], planted)
			path := filepath.Join(folder, "file")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			finds, size := secrets.inFolder(t, folder)
			is := func(f found) bool { return f.offset == int64(at) && f.text == string(planted) } // others may be a part of it
			if !slices.ContainsFunc(finds, is) || size != int64(len(junk)) {
				t.Errorf("%q planted at %d, found: %v in %d octets", planted, at, finds, size)
			}
		}
	}
	f, err := os.CreateTemp(folder, "open")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(secrets.list[0].text()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if finds, _, _ := secrets.inOpenFiles(t, os.Getpid()); len(finds) != 1 {
		t.Errorf("planted in a file without a name, found: %v", finds)
	}
}

// someNeedles are one of each length.
func someNeedles(t *testing.T, secrets *needles) (some []needle) {
	t.Helper()
	for octets := needleMin; octets <= needleMax; octets++ {
		i := slices.IndexFunc(secrets.list, func(e needle) bool { return e.octets == int32(octets) })
		if i < 0 {
			t.Fatalf("no line of %d octets is looked for", octets)
		}
		some = append(some, secrets.list[i])
	}
	return some
}

func nothingIn(t *testing.T, secrets *needles, folder string) {
	t.Helper()
	finds, size := secrets.inFolder(t, folder)
	tell(t, finds)
	t.Logf("%d needles searched for in the %d octets of %s", len(secrets.list), size, filepath.Base(folder))
}

func nothingOpen(t *testing.T, secrets *needles, n *node.Node, pid int) []string {
	t.Helper()
	finds, files, size := secrets.inOpenFiles(t, pid, n.Mount, filepath.Join(n.Run, "shards"))
	tell(t, finds)
	t.Logf("%d needles searched for in %d open files of %d octets", len(secrets.list), len(files), size)
	return files
}

// tell tells of some finds.
func tell(t *testing.T, finds []found) {
	t.Helper()
	for _, f := range finds[:min(len(finds), 20)] {
		t.Error(f)
	}
	if len(finds) > 20 {
		t.Errorf("and %d more", len(finds)-20)
	}
}
