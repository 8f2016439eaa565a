package test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mailraft/test/message"
	"mailraft/test/node"
)

// place is a Maildir++ and a folder of the disk beside it, for what tools make of it.
type place struct{ mail, out string }

// do runs a script in the Maildir, and answers what it printed and how it ended, without the paths.
func (p place) do(t *testing.T, script string) string {
	t.Helper()
	out, errors, err := tryRun(t, p.mail, "env", "MAIL="+p.mail, "OUT="+p.out, "sh", "-c", script)
	said := fmt.Sprintf("%s%s", out, errors)
	if err != nil {
		said += err.Error() + "\n"
	}
	return strings.NewReplacer(p.mail, "MAIL", p.out, "OUT").Replace(said)
}

// listed prints everything below a folder: where and what it is, its mode, owner, number of names, size and times. Of directories there are
// no sizes (docs/testing.md), and no times, which are those of the last change.
const listed = `find . \( -type d -printf '%P %y %m %U:%G %n\n' -o -printf '%P %y %m %U:%G %n %s %T+\n' \) | LC_ALL=C sort`

// TestTools has what people run on their mail do the same on an unlocked account's Maildir as on a copy of it on the disk: it prints the same,
// and leaves the same.
func TestTools(t *testing.T) {
	t.Parallel()
	for name, debianPackage := range map[string]string{"rsync": "rsync", "mutt": "mutt", "mbsync": "isync", "getfattr": "attr", "tar": "tar"} {
		tool(t, name, debianPackage)
	}
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	mount, disk := place{a.Home, t.TempDir()}, place{filepath.Join(t.TempDir(), "mail"), t.TempDir()}
	fillForTools(t, n, a)
	said := mount.do(t, "cp -a . "+disk.mail+" && date -d -9999sec +%s >"+mount.out+"/then && cp $OUT/then "+disk.out)
	if said += mount.do(t, touched) + disk.do(t, touched); said != "" {
		t.Fatal(said)
	}

	for _, c := range []struct{ name, script string }{
		{"ls -lR", `ls -lR --time-style=full-iso . | sed -E '/^total /d; s/ +/ /g; s/^(d\S+ \S+ \S+ \S+) [0-9]+/\1/'`},
		{"ls -f", `ls -f cur new .Sent/cur | sort`},
		{"cat, wc, md5sum", `find . -type f | LC_ALL=C sort | tee $OUT/all | xargs -d '\n' md5sum; xargs -d '\n' wc -lc <$OUT/all; xargs -d '\n' tail -qc 20 <$OUT/all`},
		{"diff -r", `diff -r . ` + disk.mail + ` && diff -r ` + disk.mail + ` .`},
		{"grep -r", `grep -r '^Subject: ' . | LC_ALL=C sort; grep -rc '^[A-Z]' . | LC_ALL=C sort`},
		{"grep -rl", `grep -rlF 'needle in it' . | LC_ALL=C sort; grep -rl nowhere .`},
		{"find", listed + `; find . -empty | LC_ALL=C sort; find . -links +1 | LC_ALL=C sort; find . -type d -links 2 | LC_ALL=C sort`},
		{"find by time", `for e in '-newer reference' '! -newer reference' '-mtime -3' '-mtime +2' '-newermt 2026-01-01' '-mmin +1441'; do echo "$e"; find . -type f $e | LC_ALL=C sort; done`},
		{"find by size", `for e in '-size +20k' '-size -3000c' '-size 1' '-size 0'; do echo "$e"; find . -type f $e | LC_ALL=C sort; done`},
		{"du of files", `find . -type f -print0 | LC_ALL=C sort -z >$OUT/all; du --apparent-size -B1 -c --files0-from=$OUT/all; du --apparent-size -B1 -lc --files0-from=$OUT/all | tail -1`},
		{"cp -a", `cp -a . $OUT/cp && diff -r . $OUT/cp && cd $OUT/cp && ` + listed},
		{"cp -a into it", `install -d -o 5000 -g 5000 .Copied && cp -a .Sent/. .Copied && diff -r .Sent .Copied && ` + listed},
		{"tar", `tar -cf $OUT/tar . && tar -df $OUT/tar && mkdir $OUT/tarred && tar -xpf $OUT/tar -C $OUT/tarred && diff -r . $OUT/tarred && cd $OUT/tarred && ` + listed},
		{"tar c | tar x", `mkdir $OUT/piped && tar -c . | tar -xp -C $OUT/piped && diff -r . $OUT/piped`},
		{"tar x into it", `tar -cf $OUT/inbox --format=posix cur new tmp && install -d -o 5000 -g 5000 .Unpacked && tar -xpf $OUT/inbox -C .Unpacked && tar -df $OUT/inbox -C .Unpacked && ` + listed},
		{"rsync -a", `rsync -aH ./ $OUT/rsync && diff -r . $OUT/rsync && cd $OUT/rsync && ` + listed},
		{"rsync -a again", `rsync -a --itemize-changes ./ $OUT/rsync; rsync -aHXc --itemize-changes ./ $OUT/rsync | grep -v '^[.h]'`},
		{"rsync -a into it", `rsync -a $OUT/rsync/.Sent/ .Brought && diff -r .Sent .Brought && rsync -a --itemize-changes $OUT/rsync/.Sent/ .Brought; rm .Brought/cur/*,S; rsync -a --out-format='%o %n' $OUT/rsync/.Sent/ .Brought; ` + listed},
		{"rsync --delete --inplace --append", `rsync -a --delete --itemize-changes .Sent/cur/ .Brought/cur; rm -r .Brought/cur/*; rsync -a --inplace .Sent/cur/ .Brought/cur; truncate -s 100 .Brought/cur/*; rsync -a --append .Sent/cur/ .Brought/cur; diff -r .Sent .Brought`},
		{"mv", `mkdir $OUT/away && mv .Brought/cur/* $OUT/away && mv $OUT/away/* .Copied/cur; for m in new/*; do mv $m cur/$(basename $m):2,; done; mv .Unpacked .Renamed && ` + listed},
		{"sed -i, >>, install, touch -r", `sed -i s/needle/thread/ reference && echo more >>reference && touch -r .Sent reference && cat reference && install -m 640 reference installed && cat installed && cp -p reference installed && ` + listed},
		{"getfattr, setfattr", `getfattr -dR . ; setfattr -n user.note -v seen reference && getfattr -d reference && cp -a reference $OUT/reference && getfattr -d --absolute-names $OUT/reference`},
		{"rm", `rm -r .Renamed .Copied .Brought && ` + listed},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, mount.do(t, c.script), disk.do(t, c.script))
			if here := mount.do(t, listed); here == "" || strings.Contains(here, "exit status") {
				t.Fatal(here)
			}
		})
	}
	t.Run("du", func(t *testing.T) { tellsSizes(t, n, mount) })
	atBoth := func(name string, do func(t *testing.T, at place) string) {
		said := map[string]*string{"mount": new(string), "disk": new(string)}
		t.Run(name, func(t *testing.T) {
			for where, at := range map[string]place{"mount": mount, "disk": disk} {
				t.Run(where, func(t *testing.T) {
					t.Parallel() // mbsync waits for the clock
					*said[where] = do(t, at)
				})
			}
		})
		same(t, *said["mount"], *said["disk"])
	}
	atBoth("mutt", muttMoves)
	for _, end := range []string{"Far", "Near"} {
		atBoth("mbsync, the Maildir is "+end, func(t *testing.T, at place) string { return mbsyncs(t, at, end) })
	}
	n.Fsck()
}

// same compares what came of the mount and of the disk, and tells in which lines they differ.
func same(t *testing.T, mount, disk string) {
	t.Helper()
	if mount == disk {
		return
	}
	home := t.TempDir()
	write(t, filepath.Join(home, "mount"), mount)
	write(t, filepath.Join(home, "disk"), disk)
	difference, _, _ := tryRun(t, home, "diff", "-U0", "mount", "disk") // which ends with 1
	t.Errorf("%s", difference)
}

// fillForTools fills an account's Maildir++ as people's are: messages that are new, read, marked and large, folders, an empty one as well.
func fillForTools(t *testing.T, n *node.Node, a node.Account) {
	t.Helper()
	for id := range 5 {
		oneText(t, n, a, id)
	}
	c := logIn(t, n, a)
	must(t, c, "SELECT INBOX")
	must(t, c, `STORE 1:2 +FLAGS (\Seen)`)
	must(t, c, `STORE 2:3 +FLAGS (\Flagged work)`)
	must(t, c, "CREATE Sent")
	must(t, c, "CREATE Sent/2025")
	must(t, c, "SUBSCRIBE Sent")
	for id := range 3 {
		if err := c.Append("Sent", `\Seen`, message.Text(uint64(10+id), 5000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Logout(); err != nil {
		t.Fatal(err)
	}
	oneText(t, n, a, 5)
	send(t, n, a, 6, append(message.Text(6, 300_000), "needle in it\r\n"...))
	n.Unlock(a)
}

// touched makes files that are no messages, a second name of a message, and messages of some days.
const touched = `umask 077; echo 'a needle' >reference; : >.Sent/nothing; chown 5000:5000 reference .Sent/nothing; chmod 640 reference
ln $(ls cur/*,S | head -1) .Sent/cur/1764000000.linked.host:2,
then=$(cat $OUT/then) i=0
for m in cur/* new/*; do touch -d @$((then - i * 86400)).123456789 $m; i=$((i + 1)); done
touch -d @$((then - 3 * 86400 + 9)).987654321 reference
touch -d @$then.5 .Sent/nothing . * .Sent`

// tellsSizes: what the mount tells of sizes where a disk tells of its own blocks (docs/testing.md). A file or directory takes its size in
// blocks of 512 octets, and a directory's size grows with what is in it.
func tellsSizes(t *testing.T, n *node.Node, at place) {
	if said := at.do(t, `find . -printf '%s %b %p\n' | awk '$2 != int(($1 + 511) / 512)'`); said != "" {
		t.Errorf("size, blocks: %s", said)
	}
	if said := at.do(t, `find . -type d | while read d; do echo $(stat -c %s $d) $(ls -A $d | wc -l) $d; done | awk '$1 != 64 * $2'`); said != "" {
		t.Errorf("size, entries: %s", said)
	}
	sizes := at.do(t, `for size in 1 512; do find . -printf '%i %s\n' | sort -u | awk '{n += int(($2 + '$size' - 1) / '$size')} END {print n}'; done`)
	if said := at.do(t, `du -s --apparent-size -B1 . | cut -f1; du -s -B512 . | cut -f1`); said != sizes {
		t.Errorf("du has %q, find %q", said, sizes)
	}
	// GNU find counts on the link count of directories to skip what it needs not look at.
	if said := at.do(t, "find "+n.Mount+" -type d -name cur | wc -l; find . -type d -name cur | wc -l"); strings.Count(said, "\n") != 2 || said[:len(said)/2] != said[len(said)/2:] {
		t.Errorf("directories found from the root and from the account on: %q", said)
	}
}

// messages tells of each message of some folders where it is, its flags, its subject, and its text but for the field that mbsync puts in.
func messages(t *testing.T, root string, folders ...string) string {
	t.Helper()
	var lines []string
	for _, folder := range folders {
		for _, path := range files(t, filepath.Join(root, folder)) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, flags, _ := strings.Cut(path, ":2,")
			lines = append(lines, fmt.Sprintf("%s %q %s %x\n", filepath.Join(folder, filepath.Base(filepath.Dir(path))), flags,
				subjectField.Find(b), sha256.Sum256(message.Canonical(ownField.ReplaceAll(b, nil)))))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

var subjectField = regexp.MustCompile(`(?m)^Subject: [^\r\n]*`)

// muttMoves has mutt read a message, mark one, move one and delete one, and answers what is left.
func muttMoves(t *testing.T, at place) string {
	t.Helper()
	home := t.TempDir()
	for _, what := range []string{"read", "marked", "moved", "gone", "left"} {
		write(t, filepath.Join(at.out, what), string(authored("x@elsewhere.example", what)))
	}
	said := at.do(t, `mkdir -p .Mutt/cur .Mutt/new .Mutt/tmp; cd $OUT; for m in read marked moved gone left; do cp $m $MAIL/.Mutt/tmp/1764000000.$m.host && mv $MAIL/.Mutt/tmp/1764000000.$m.host $MAIL/.Mutt/new; done`)
	if said != "" {
		t.Fatal(said)
	}
	mutt(t, home, at.mail+"/.Mutt", "<limit>~s read<enter><display-message><exit><limit>~A<enter>"+
		"<tag-pattern>~s marked<enter><tag-prefix><flag-message><untag-pattern>~A<enter>"+
		"<tag-pattern>~s moved<enter><tag-prefix><save-message>"+at.mail+"/.Moved<enter><untag-pattern>~A<enter>"+
		"<delete-pattern>~s gone<enter><sync-mailbox><quit>")
	left := messages(t, at.mail, ".Mutt", ".Moved")
	for _, want := range []string{".Moved/", `.Mutt/cur "F" Subject: marked`, `.Mutt/cur "S" Subject: read`, `.Mutt/cur "" Subject: left`} {
		if !strings.Contains(left, want) {
			t.Errorf("mutt has left no %q:\n%s", want, left)
		}
	}
	return left
}

// mbsyncs has mbsync keep the Maildir++ and another Maildir the same, of which the first is the channel's far or near end, and answers what
// both have in the end. Where it is near, it has mbsync's state beside the messages.
func mbsyncs(t *testing.T, at place, end string) string {
	t.Helper()
	had, has := "FS", "FRS" // flags of a message
	if end == "Near" {
		had, has = "F", "FR"
	}
	other, theOther := filepath.Join(at.out, end), map[string]string{"Far": "Near", "Near": "Far"}[end]
	config := write(t, filepath.Join(at.out, "mbsyncrc"), fmt.Sprintf(`
MaildirStore here
Inbox %[1]s
SubFolders Maildir++

MaildirStore there
Path %[2]s/
Inbox %[2]s/INBOX
SubFolders Verbatim

Channel all
%[3]s :here:
%[4]s :there:
Patterns INBOX Sent
Create Both
Expunge Both
SyncState *
`, at.mail, other, end, theOther))
	sync := func(changes string) string {
		t.Helper()
		if said := at.do(t, changes+" && mbsync -c "+config+" -qa"); said != "" {
			t.Fatalf("mbsync: %s", said)
		}
		return messages(t, at.mail, ".", ".Sent") + messages(t, other, "INBOX", "Sent")
	}
	all := sync("mkdir " + other)
	if count := strings.Count(all, "Subject: "); count == 0 || count != 2*len(slices.Concat(files(t, at.mail), files(t, at.mail+"/.Sent"))) {
		t.Errorf("%d messages at both ends:\n%s", count, all)
	}
	write(t, filepath.Join(at.mail, "new", "1764000000.here"+end+".host"), string(authored("x@elsewhere.example", "here")))
	write(t, filepath.Join(other, "INBOX", "new", "1764000000.there"+end+".host"), string(authored("x@elsewhere.example", "there")))
	all = sync("m=$(ls .Sent/cur/*:2,S | head -1) && mv $m ${m%S}FS && m=$(ls " + other + "/INBOX/*/*:2," + had + ") && mv $m ${m%,*}," + has)
	for _, want := range []string{`new "" Subject: here`, `new "" Subject: there`, `INBOX/new "" Subject: here`, `INBOX/new "" Subject: there`,
		`.Sent/cur "FS" `, "\nSent/cur \"FS\" ", `cur "` + has + `a" `, `"` + has + `" Subject`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s after changes at both ends", want)
		}
	}
	if t.Failed() {
		t.Log(all)
	}
	const names = "find . -name '17*' | LC_ALL=C sort"
	before := at.do(t, names)
	sync("true")
	same(t, at.do(t, names), before)
	return all
}
