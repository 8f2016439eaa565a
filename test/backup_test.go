package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"mailraft/proxy/maildir"
	"mailraft/test/message"
	"mailraft/test/node"
)

// identity makes a key that backups are encrypted to.
func identity(t *testing.T) (recipient, file string) {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), write(t, filepath.Join(t.TempDir(), "backup.key"), id.String()+"\n")
}

// backupResult is what a run says of itself.
type backupResult struct{ Accounts, Changed, Contents, Octets int }

func backUp(t *testing.T, n *node.Node, dir string, args ...string) (r backupResult) {
	t.Helper()
	out := n.Admin(append([]string{"backup", dir, "--json", "--quiet"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// indexOf is the index of a folder as the mount shows it.
func indexOf(t *testing.T, a node.Account, folder string) *maildir.Index {
	t.Helper()
	x, err := maildir.ReadIndex(maildir.FolderPath(a.Home, folder))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// restored makes a node of a backup, and starts it.
func restored(t *testing.T, dir, key string) *node.Node {
	t.Helper()
	m := node.New(t)
	if a := m.Try("", "restore", dir, "--identity-file", key, "--data", m.Data, "--quiet"); a.Code != 0 {
		t.Fatalf("restore: %+v", a)
	}
	m.FsckStopped()
	m.Start()
	return m
}

// moved is an account of a node on another.
func moved(a node.Account, m *node.Node) node.Account {
	local, domain, _ := strings.Cut(a.Address, "@")
	a.Home = filepath.Join(m.Mount, domain, local)
	return a
}

// A backup is taken while mail comes in, and a node made of it: what was acknowledged before is there as it was, and can be read with
// the old password.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	alice, bob := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.net", "--key", "x25519", "--quota", "1G")
	n.Admin("alias", "add", "board@example.org", "alice@example.org", "bob@example.net")
	n.Admin("alias", "add", "all@example.net", "board@example.org")
	fillMailbox(t, alice, append(message.Generated(5), message.Message{Raw: message.Text(9, 3<<20)}))
	for i := range 20 {
		send(t, n, bob, i, message.Text(uint64(i), 2000))
	}
	folders := []string{"", ".Sent", ".Work.2024", ".Entw&APw-rfe.x&AC4-y"}
	var before []*maildir.Index
	for _, f := range folders {
		before = append(before, indexOf(t, alice, f))
	}
	n.Unlock(alice)
	mail := mailOf(t, alice.Home)

	dir := t.TempDir() + "/backup"
	recipient, key := identity(t)
	if a := n.Try("", "backup", dir); a.Code != 2 || !strings.Contains(a.Stderr, "--recipient") {
		t.Errorf("backup to nobody: %+v", a)
	}
	stop := make(chan struct{})
	var deliveries sync.WaitGroup
	deliveries.Add(1)
	go func() {
		defer deliveries.Done()
		for i := 100; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			d, err := maildir.NewDelivery(bob.Home, "")
			if err == nil {
				d.Write(message.Text(uint64(i), 3000))
				_, err = d.Commit(maildir.Options{Recent: true})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	first := backUp(t, n, dir, "--recipient", recipient)
	close(stop)
	deliveries.Wait()
	if first.Accounts != 2 || first.Changed != 2 || first.Contents < 20 {
		t.Errorf("%+v", first)
	}
	send(t, n, bob, 1, message.Text(1000, 5000))
	n.Admin("backup", dir, "--quiet")
	send(t, n, bob, 2, message.Text(1001, 5000))
	if third := backUp(t, n, dir); third.Accounts != 2 || third.Changed != 1 || third.Contents != 1 || third.Octets > 10_000 {
		t.Errorf("one message later: %+v", third)
	}
	if same := backUp(t, n, dir); same.Changed != 0 || same.Contents != 0 || same.Octets != 0 {
		t.Errorf("nothing later: %+v", same)
	}
	bobs := indexOf(t, bob, "")
	n.Admin("backup", dir, "--verify", "--identity-file", key, "--quiet")
	for _, word := range []string{"alice", "Entw", "board"} {
		out, _ := exec.Command("grep", "-rla", word, dir).Output()
		if len(out) > 0 {
			t.Errorf("%q stands in the backup: %s", word, out)
		}
	}
	n.Stop()

	m := restored(t, dir, key)
	alice, bob = moved(alice, m), moved(bob, m)
	for i, f := range folders {
		after := indexOf(t, alice, f)
		if after.UIDValidity != before[i].UIDValidity || after.UIDNext != before[i].UIDNext || after.HighestModSeq != before[i].HighestModSeq || len(after.Messages) != len(before[i].Messages) {
			t.Fatalf("%q: %+v, want %+v", f, after, before[i])
		}
		for j, msg := range after.Messages {
			if msg != before[i].Messages[j] {
				t.Errorf("%q: %+v, want %+v", f, msg, before[i].Messages[j])
			}
		}
	}
	if after := indexOf(t, bob, ""); len(after.Messages) != len(bobs.Messages) || after.UIDNext != bobs.UIDNext {
		t.Errorf("%d messages, want %d", len(after.Messages), len(bobs.Messages))
	}
	m.Unlock(alice)
	sameMail(t, "restored", mailOf(t, alice.Home), mail)
	send(t, m, alice, 77, message.Text(77, 100))
	if after := indexOf(t, alice, ""); after.HighestModSeq <= before[0].HighestModSeq || after.UIDNext != before[0].UIDNext+1 {
		t.Errorf("after a new message: %+v, before %+v", after.HighestModSeq, before[0].HighestModSeq)
	}
	if x, err := maildir.ReadIndexSince(alice.Home, before[0].HighestModSeq); err != nil || len(x.Messages) != 1 || x.Since == 0 {
		t.Errorf("what came since the backup: %+v, %v", x, err)
	}
	if out := m.Admin("alias", "list"); !strings.Contains(out, "board@example.org") || !strings.Contains(out, "all@example.net") {
		t.Errorf("aliases: %s", out)
	}
	carol := m.AddAccount("carol@example.org")
	send(t, m, carol, 1, message.Text(1, 100))
	m.Fsck()

	// One account goes back into the node that it is gone from.
	mail = mailOf(t, alice.Home)
	if a := m.Try("", "restore", dir, "--identity-file", key, "--data", m.Data, "--account", alice.Address); a.Code != 6 {
		t.Errorf("restore while the daemon runs: %+v", a)
	}
	m.Admin("backup", dir, "--account", alice.Address)
	m.Admin("alias", "remove", "all@example.net")
	m.Admin("alias", "remove", "board@example.org")
	m.Admin("account", "remove", alice.Address, "--yes")
	m.Stop()
	restore := []string{"restore", dir, "--identity-file", key, "--data", m.Data}
	if a := m.Try("", restore...); a.Code == 0 {
		t.Errorf("restore of all into a node that is in use: %+v", a)
	}
	m.Admin(append(restore, "--account", alice.Address)...)
	if a := m.Try("", append(restore, "--account", alice.Address)...); a.Code != 5 {
		t.Errorf("restore of an account that is there: %+v", a)
	}
	m.FsckStopped()
	m.Start()
	m.Unlock(alice)
	sameMail(t, "one account restored", mailOf(t, alice.Home), mail)
	m.Fsck()
}

// A damaged pack is found, and named, by --verify and by restore.
func TestBackupIsDamaged(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	alice := n.AddAccount("alice@example.org", "--key", "x25519")
	for i := range 5 {
		send(t, n, alice, i, message.Text(uint64(i), 2000))
	}
	dir := t.TempDir() + "/backup"
	recipient, key := identity(t)
	n.Admin("backup", dir, "--recipient", recipient)
	packs, err := filepath.Glob(dir + "/packs/*.pack")
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	good, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		"bit": append(bytes.Clone(good[:len(good)-100]), append([]byte{good[len(good)-100] ^ 1}, good[len(good)-99:]...)...),
		"cut": good[:len(good)-100],
	} {
		write(t, packs[0], string(bad))
		if a := n.Try("", "backup", dir, "--verify", "--identity-file", key); a.Code != 1 || !strings.Contains(a.Stdout, filepath.Base(packs[0])) {
			t.Errorf("%s: verify: %+v", what, a)
		}
		data := t.TempDir() + "/data"
		if a := n.Try("", "restore", dir, "--identity-file", key, "--data", data); a.Code == 0 || !strings.Contains(a.Stderr, filepath.Base(packs[0])) {
			t.Errorf("%s: restore: %+v", what, a)
		}
	}
}

// Killed in the middle, both end well when they are run again.
func TestBackupAndRestoreAreCutOff(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	alice := n.AddAccount("alice@example.org", "--key", "x25519")
	var all []message.Message
	for i := range 300 {
		all = append(all, message.Message{Raw: message.Text(uint64(i), 4000)})
	}
	fillMailbox(t, alice, all)
	n.Unlock(alice)
	want := mailOf(t, alice.Home)
	dir := t.TempDir() + "/backup"
	recipient, key := identity(t)
	m := node.New(t)
	killed := 0
	until := func(args ...string) {
		t.Helper()
		for after := 5 * time.Millisecond; ; after = after * 3 / 2 {
			a := n.TryFor(after, args...)
			if a.Code == 0 {
				return
			}
			if a.Code != -1 {
				if _, err := os.Stat(m.Data + "/node"); err == nil && args[0] == "restore" {
					return // killed when all was done
				}
				t.Fatalf("%s: %+v", args[0], a)
			}
			killed++
		}
	}
	until("backup", dir, "--recipient", recipient)
	n.Admin("backup", dir, "--verify", "--identity-file", key)
	until("restore", dir, "--identity-file", key, "--data", m.Data)
	t.Logf("killed %d times", killed)
	m.FsckStopped()
	m.Start()
	alice = moved(alice, m)
	m.Unlock(alice)
	sameMail(t, "restored", mailOf(t, alice.Home), want)
}
