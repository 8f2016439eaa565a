package test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailraft/proxy/maildir"
	"mailraft/test/message"
	"mailraft/test/node"
)

// fill puts messages into folders of an account: some new, some read, with flags and keywords, of different dates.
func fillMailbox(t *testing.T, a node.Account, all []message.Message) {
	t.Helper()
	folders := []string{"", ".Sent", ".Work.2024", ".Entw&APw-rfe.x&AC4-y"}
	for _, f := range folders[1:] {
		if err := maildir.CreateFolder(a.Home, f); err != nil {
			t.Fatal(err)
		}
	}
	write(t, maildir.FolderPath(a.Home, ".Sent")+"/dovecot-keywords", "0 work\n3 $Junk\n")
	write(t, a.Home+"/subscriptions", "Sent\nWork.2024\n")
	for i, m := range all {
		d, err := maildir.NewDelivery(a.Home, folders[i%len(folders)])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(message.Canonical(m.Raw)); err != nil {
			t.Fatal(err)
		}
		o := maildir.Options{Recent: i%3 == 0, Date: time.Unix(1_700_000_000+int64(i)*1000, 0)}
		if i%3 != 0 {
			o.Flags = []string{"", "S", "FRS", "DP", "T"}[i%5]
		}
		if i%len(folders) == 1 && i%3 == 1 {
			o.Flags += "ad"
		}
		if _, err := d.Commit(o); err != nil {
			t.Fatal(err)
		}
	}
}

// mailOf is all mail of a Maildir++, in words: folder, place, flags, keywords, date, octets.
func mailOf(t *testing.T, home string) []string {
	t.Helper()
	folders, err := maildir.Folders(home)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range folders {
		dir := maildir.FolderPath(home, f)
		names := map[string]string{}
		text, _ := os.ReadFile(dir + "/dovecot-keywords")
		for line := range strings.Lines(string(text)) {
			var i int
			var name string
			fmt.Sscanf(line, "%d %s", &i, &name)
			names[string(rune('a'+i))] = name
		}
		all = append(all, fmt.Sprintf("folder %q", f))
		for _, box := range []string{"cur", "new"} {
			entries, err := os.ReadDir(dir + "/" + box)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				text, err := os.ReadFile(dir + "/" + box + "/" + e.Name())
				if err != nil {
					t.Fatal(err)
				}
				st, err := e.Info()
				if err != nil {
					t.Fatal(err)
				}
				_, letters, _ := strings.Cut(e.Name(), ":2,")
				var flags []string
				for _, c := range letters {
					if name := names[string(c)]; name != "" {
						flags = append(flags, name)
					} else {
						flags = append(flags, string(c))
					}
				}
				slices.Sort(flags)
				all = append(all, fmt.Sprintf("%q %s %v %d %d %x", f, box, flags, st.ModTime().Unix(), len(text), sha256.Sum256(text)))
			}
		}
	}
	slices.Sort(all)
	return all
}

func sameMail(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%s: %d lines, want %d", what, len(got), len(want))
	shown := 0
	for _, line := range got {
		if !slices.Contains(want, line) && shown < 5 {
			shown++
			t.Log("too much:", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) && shown < 10 {
			shown++
			t.Log("missing:", line)
		}
	}
}

// An account's mail goes out to a maildir, and to mbox files, and comes back into others as it was; again, and nothing doubles.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	alice := n.AddAccount("alice@example.org", "--key", "x25519")
	all, err := message.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	all = append(message.Generated(20), all[:min(len(all), 300)]...)
	fillMailbox(t, alice, all)
	dir := t.TempDir()
	if a := n.Try("", "export", alice.Address, dir+"/maildir"); a.Code != 6 || !strings.Contains(a.Stderr, "--password-stdin") {
		t.Errorf("export of a locked account: %+v", a)
	}
	if a := n.Try("wrong\n", "export", alice.Address, dir+"/maildir", "--password-stdin"); a.Code != 6 {
		t.Errorf("export with a wrong password: %+v", a)
	}
	n.Unlock(alice)
	want := mailOf(t, alice.Home)

	for i, format := range []string{"maildir", "mbox"} {
		to := filepath.Join(dir, format)
		args := []string{"export", alice.Address, to, "--owner", "nobody"}
		if format == "mbox" {
			args = append(args, "--mbox")
		}
		n.Admin(args...)
		if _, err := os.Stat(to + ".part"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: what is not whole stays: %v", format, err)
		}
		if format == "maildir" {
			sameMail(t, "exported", mailOf(t, to), want)
		}
		st, err := os.Stat(to)
		if err != nil || st.Mode().Perm() != 0o700 || st.Sys().(*syscall.Stat_t).Uid != 65534 {
			t.Errorf("%s: %v, %v", format, st, err)
		}
		if a := n.Try("", "export", alice.Address, to); a.Code != 5 {
			t.Errorf("export to where something is: %+v", a)
		}
		b := n.AddAccount(fmt.Sprintf("copy%d@example.org", i), "--key", "x25519")
		n.Admin("import", b.Address, to) // locked
		n.Unlock(b)
		sameMail(t, format, mailOf(t, b.Home), want)
		out := n.Admin("import", b.Address, to)
		if !strings.HasPrefix(out, "imported 0 messages") || !strings.Contains(out, fmt.Sprint(len(all))+" were there already") {
			t.Errorf("import again: %s", out)
		}
		sameMail(t, format+" again", mailOf(t, b.Home), want)
	}
	n.Admin("export", alice.Address, dir+"/inbox.mbox", "--folder", "Work/2024")
	n.Admin("import", "copy0@example.org", dir+"/inbox.mbox", "--folder", "Work/2024")
	n.Admin("import", "copy0@example.org", dir+"/maildir", "--folder", "Old")
	if folders, err := maildir.Folders(filepath.Join(n.Mount, "example.org/copy0")); err != nil || !slices.Contains(folders, ".Old.Work.2024") {
		t.Errorf("%q, %v", folders, err)
	}
	n.Fsck()
}

// Killed in the middle, and run again until it comes to its end; the account is full meanwhile. Nothing is lost, nothing comes twice.
func TestExportAndImportAreCutOff(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	alice := n.AddAccount("alice@example.org", "--key", "x25519")
	bob := n.AddAccount("bob@example.org", "--key", "x25519", "--quota", "600K")
	var all []message.Message
	for i := range 300 {
		all = append(all, message.Message{Raw: message.Text(uint64(i), 4000)})
	}
	fillMailbox(t, alice, all)
	n.Unlock(alice)
	want := mailOf(t, alice.Home)
	to := filepath.Join(t.TempDir(), "maildir")
	killed := 0
	for after := time.Millisecond; ; after = after*3/2 + time.Millisecond {
		a := n.TryFor(after, "export", alice.Address, to)
		if a.Code == 0 {
			break
		}
		killed++
		if a.Code != -1 {
			t.Fatalf("export: %+v", a)
		}
		if _, err := os.Stat(to); err == nil {
			break // killed when all was done: it has to be whole
		}
	}
	sameMail(t, "export", mailOf(t, to), want)

	if a := n.Try("", "import", bob.Address, to); a.Code == 0 || !strings.Contains(a.Stderr, "mailraft account quota") {
		t.Errorf("import into too small an account: %+v", a)
	}
	n.Admin("account", "quota", bob.Address, "none")
	n.Unlock(bob) // for its keywords, some of which may be there
	for after := time.Millisecond; ; after = after*3/2 + time.Millisecond {
		a := n.TryFor(after, "import", bob.Address, to)
		if a.Code == 0 {
			break
		}
		if a.Code != -1 {
			t.Fatalf("import: %+v", a)
		}
		killed++
		for _, lock := range []string{"/subscriptions.lock", "/.Sent/dovecot-keywords.lock"} {
			os.Remove(bob.Home + lock) // as the command says
		}
	}
	sameMail(t, "import", mailOf(t, bob.Home), want)
	t.Logf("killed %d times", killed)
	n.Fsck()
}
