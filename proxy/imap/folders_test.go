package imap

import (
	"os"
	"strings"
	"testing"

	"mailraft/proxy/maildir"
)

func TestFolders(t *testing.T) {
	w := newWorld(t)
	c := w.login()
	c.ok("CREATE Sent")
	c.ok("CREATE Work/2024/Q1")
	c.ok("CREATE example.org/")
	c.ok("CREATE &AOk-t&AOk-")
	c.fails("CREATE Sent", "NO [ALREADYEXISTS]")
	c.fails("CREATE inbox", "NO [ALREADYEXISTS]")
	c.fails(`CREATE "a//b"`, "NO [CANNOT]")
	c.fails(`CREATE "/a"`, "NO [CANNOT]")
	c.fails(`CREATE ""`, "NO [CANNOT]")
	c.fails("CREATE "+strings.Repeat("x", 300), "NO [CANNOT]")
	c.fails(`CREATE Old (USE (\Archive))`, "NO [USEATTR]")
	c.ok(`CREATE Archive (USE (\Archive))`)
	for _, dir := range []string{".Sent", ".Work.2024.Q1", ".example&AC4-org", ".&AOk-t&AOk-"} {
		if _, err := os.Stat(w.home + "/" + dir + "/cur"); err != nil {
			t.Error(err)
		}
	}
	c.gives(`LIST "" *`, `\Archive) "/" "Archive"`, `INBOX`, `\Sent) "/" "Sent"`,
		`(\NonExistent \Noselect \HasChildren) "/" "Work"`, `"Work/2024"`, `"Work/2024/Q1"`, `"example.org"`, `\HasNoChildren) "/" "&AOk-t&AOk-"`)
	if got := c.ok(`LIST "" %`); len(got) != 6 || contains(got, "2024") {
		t.Errorf("LIST %%: %q", got)
	}
	if got := c.ok(`LIST Work/ %`); len(got) != 1 || !contains(got, `"Work/2024"`) {
		t.Errorf("LIST Work/ %%: %q", got)
	}
	c.gives(`LIST "" ""`, `* LIST (\Noselect) "/" ""`)
	c.gives(`LIST "" inBOX`, "INBOX")
	if got := c.ok(`LIST (SPECIAL-USE) "" *`); len(got) != 2 {
		t.Errorf("SPECIAL-USE: %q", got)
	}
	c.gives(`LIST "" (INBOX Sent) RETURN (STATUS (MESSAGES UIDNEXT))`, "LIST", `* STATUS INBOX (MESSAGES 0 UIDNEXT 1)`, `"Sent"`, "STATUS")
	c.gives("NAMESPACE", `* NAMESPACE (("" "/")) NIL NIL`)

	c.fails("SELECT Nowhere", "NO [NONEXISTENT]")
	c.fails("STATUS Work (MESSAGES)", "NO [NONEXISTENT]")
	c.fails("DELETE INBOX", "NO [CANNOT]")
	c.fails("DELETE Nowhere", "NO [NONEXISTENT]")
	c.fails("DELETE Work", "NO [HASCHILDREN]")
	c.fails("RENAME Nowhere Somewhere", "NO [NONEXISTENT]")
	c.fails("RENAME Sent example.org", "NO [ALREADYEXISTS]")
	c.fails("RENAME Work/2024/Q1 Work/2024/Q1/below", "NO [CANNOT]")
	c.ok("RENAME Work/2024/Q1 Play/Chess")
	c.gives(`LIST "" Play/*`, `"Play/Chess"`)
	c.ok("DELETE Play/Chess")
	if got := c.ok(`LIST "" Play*`); len(got) != 0 {
		t.Errorf("after DELETE: %q", got)
	}
}

func TestRenameInbox(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "")
	w.deliver("", testMessage(2), "S")
	c := w.login()
	c.ok("RENAME INBOX Old")
	c.gives("STATUS INBOX (MESSAGES)", "MESSAGES 0")
	c.gives("STATUS Old (MESSAGES UNSEEN)", "MESSAGES 2 UNSEEN 1")
}

func TestFoldersOfOthers(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Übersicht") // UTF-8, as some programs write it
	w.mkdir(".INBOX.Lists")
	w.mkdir(".INBOX")    // would hide the real one
	w.mkdir(".bad\xffx") // nothing that a name can stand for
	w.mkdir(".a&b")      // not modified UTF-7
	w.deliver(".Übersicht", testMessage(1), "")
	c := w.login()
	c.gives(`LIST "" *`, "INBOX", `"INBOX/Lists"`, `"a&-b"`, `"&ANw-bersicht"`)
	if got := c.ok(`LIST "" *`); len(got) != 4 {
		t.Errorf("LIST: %q", got)
	}
	c.gives("SELECT &ANw-bersicht", "* 1 EXISTS")
	c.ok("SELECT a&-b")
	c.ok("UNSELECT")
	c.ok("ENABLE IMAP4rev2")
	c.gives(`LIST "" *`, `"Übersicht"`)
	c.ok("DELETE &ANw-bersicht")
}

func TestSubscriptions(t *testing.T) {
	w := newWorld(t)
	c := w.login()
	c.ok("CREATE A/B")
	c.ok("SUBSCRIBE A/B")
	c.ok("SUBSCRIBE INBOX")
	c.ok("SUBSCRIBE Gone")
	c.ok("SUBSCRIBE Gone")
	if got := mustReadFile(t, w.home+"/subscriptions"); got != "A.B\nINBOX\nGone\n" {
		t.Errorf("file: %q", got)
	}
	c.gives(`LSUB "" *`, `* LSUB () "/" "A/B"`, `(\Noselect) "/" "Gone"`, `* LSUB () "/" INBOX`)
	c.gives(`LSUB "" %`, `* LSUB (\Noselect) "/" "A"`)
	c.gives(`LIST (SUBSCRIBED) "" *`, `(\Subscribed \HasNoChildren) "/" "A/B"`, `(\NonExistent \Subscribed`, "INBOX")
	c.gives(`LIST (SUBSCRIBED RECURSIVEMATCH) "" %`, `"A" (CHILDINFO ("SUBSCRIBED"))`)
	c.gives(`LIST "" * RETURN (SUBSCRIBED CHILDREN)`, `(\Subscribed`)
	c.ok("UNSUBSCRIBE Gone")
	c.ok("UNSUBSCRIBE Never")
	c.ok("UNSUBSCRIBE A/B")
	c.ok("UNSUBSCRIBE INBOX")
	if got := mustReadFile(t, w.home+"/subscriptions"); got != "" {
		t.Errorf("file: %q", got)
	}

	// As newer Dovecots write it.
	if err := os.WriteFile(w.home+"/subscriptions", []byte("V\t2\n\nA\tB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.gives(`LSUB "" *`, `"A/B"`)
}

// A lock left behind by a crash does not lock for ever, and nobody's is taken away.
func TestStaleLock(t *testing.T) {
	w := newWorld(t)
	lock := w.home + "/subscriptions.lock"
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := os.Chtimes(lock, longAgo, longAgo)
	if old != nil {
		t.Fatal(old)
	}
	w.login().ok("SUBSCRIBE INBOX")
	if _, err := os.Stat(lock); !os.IsNotExist(err) {
		t.Errorf("lock is left: %v", err)
	}
}

func TestNames(t *testing.T) {
	for name, folder := range map[string]string{
		"INBOX": "", "inbox": "", "Sent": ".Sent", "a/b": ".a.b", "inbox/x": ".INBOX.x", "x & y": ".x &- y", "日本": ".&ZeVnLA-",
		"a.b/c": ".a&AC4-b.c", "😀": ".&2D3eAA-", "a..": ".a&AC4ALg-",
	} {
		got, err := folderOf(name)
		if err != nil || got != folder {
			t.Errorf("folderOf(%q) = %q, %v", name, got, err)
		}
		back, ok := nameOf(folder)
		if want := strings.Replace(strings.Replace(name, "inbox/", "INBOX/", 1), "inbox", "INBOX", 1); !ok || back != want {
			t.Errorf("nameOf(%q) = %q, %v", folder, back, ok)
		}
	}
	for _, name := range []string{"", "/", "a//b", "a/", "\x00", "a\n", "\xff", strings.Repeat("é", 200)} {
		if got, err := folderOf(name); err == nil {
			t.Errorf("folderOf(%q) = %q", name, got)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"INBOX", "a/b", "a.b", "&", "&-", "é", "&AOk-", "a&b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		folder, err := folderOf(name)
		if err == nil {
			if back, ok := nameOf(folder); ok && !strings.EqualFold(back, name) {
				t.Errorf("%q -> %q -> %q", name, folder, back)
			}
		}
		if decoded, ok := maildir.DecodeLevel(name); ok && maildir.EncodeLevel(decoded) != name {
			t.Errorf("two spellings of %q: %q and %q", decoded, name, maildir.EncodeLevel(decoded))
		}
	})
}

func TestMatches(t *testing.T) {
	for _, m := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "a/b", true}, {"%", "a/b", false}, {"%/%", "a/b", true}, {"a*", "a/b", true}, {"a%", "a/b", false}, {"a%b", "axb", true},
		{"", "a", false}, {"a", "a", true}, {"a", "b", false}, {"*b", "a/b", true}, {"%b", "a/b", false}, {"*%", "a/b", true}, {"a/b", "a/b", true},
		{strings.Repeat("*a", 200) + "b", strings.Repeat("a", 250), false}, // exponential for those who backtrack
	} {
		if got := matches(m.pattern, m.name); got != m.want {
			t.Errorf("matches(%.20q, %.20q) = %v", m.pattern, m.name, got)
		}
	}
}
