package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// clientTime is how long a mail program may take.
const clientTime = 2 * time.Minute

// tool is the path of a program, which the Debian package holds.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, debianPackage)
	}
	return path
}

// run runs a program in a folder that is its home, and returns what it wrote to standard output. It has to succeed.
func run(t *testing.T, home string, command ...string) []byte {
	t.Helper()
	out, errors, err := tryRun(t, home, command...)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(command, " "), err, out, errors)
	}
	return out
}

func tryRun(t *testing.T, home string, command ...string) (stdout, stderr []byte, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "LC_ALL=C.UTF-8", "TERM=xterm")
	cmd.WaitDelay = time.Second // for what a killed program leaves running
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	err = cmd.Run()
	return out.Bytes(), errors.Bytes(), err
}

// write writes a file that only its owner may read, as mail programs want their configuration.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func hostPort(address string) (host, port string) {
	host, port, _ = strings.Cut(address, ":")
	return host, port
}

// certificate is the PEM file of the certificate that the daemon made for itself.
func certificate(t *testing.T, n *node.Node) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(n.Data, "tls", "*.crt"))
	if err != nil || len(found) != 1 {
		t.Fatalf("certificates: %q, %v", found, err)
	}
	return found[0]
}

func TestCurl(t *testing.T) {
	t.Parallel()
	curl := tool(t, "curl", "curl")
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	home := t.TempDir()
	ask := func(args ...string) []byte {
		t.Helper()
		netrc := write(t, filepath.Join(home, "netrc"), fmt.Sprintf("machine localhost login %s password %q\n", a.Address, a.Password))
		return run(t, home, append([]string{curl, "--silent", "--show-error", "--max-time", "60", "--netrc-file", netrc, "--cacert", certificate(t, n)}, args...)...)
	}
	local := func(address string) string { return strings.Replace(address, "127.0.0.1", "localhost", 1) }

	var all []message.Message
	for i, how := range [][]string{{"smtp", n.SMTP}, {"smtp", n.SMTP, "--ssl-reqd"}} {
		raw := message.Text(uint64(i), 50_000)
		file := write(t, filepath.Join(home, "message"), string(raw))
		ask(append([]string{how[0] + "://" + local(how[1]) + "/client.example", "--no-netrc", "--mail-from", senderOf(i), "--mail-rcpt", a.Address, "--upload-file", file}, how[2:]...)...)
		all = append(all, message.Message{Name: strings.Join(how, " "), Raw: raw})
	}
	for _, how := range [][]string{{"imap", n.IMAP}, {"imap", n.IMAP, "--ssl-reqd"}, {"imaps", n.IMAPS}} {
		url := how[0] + "://" + local(how[1])
		box := newMailbox(t, strings.Join(how, " "))
		for uid := range all {
			box.take(ask(append(how[2:], fmt.Sprintf("%s/INBOX;UID=%d", url, uid+1))...))
		}
		box.mustHave(all)
		if out := ask(append(how[2:], url+"/", "--request", "LIST \"\" *")...); !bytes.Contains(out, []byte("INBOX")) {
			t.Errorf("%s: LIST: %s", url, out)
		}
	}
	for _, how := range [][]string{{"pop3", n.POP3}, {"pop3", n.POP3, "--ssl-reqd"}, {"pop3s", n.POP3S}} {
		url := how[0] + "://" + local(how[1])
		box := newMailbox(t, strings.Join(how, " "))
		for number := range all {
			box.take(ask(append(how[2:], fmt.Sprintf("%s/%d", url, number+1))...))
		}
		box.mustHave(all)
	}
	// Into a folder, and away.
	upload := write(t, filepath.Join(home, "draft"), "Subject: draft\r\n\r\nbody\r\n")
	imap := "imap://" + local(n.IMAP)
	ask(imap+"/", "--request", "CREATE Drafts2")
	ask(imap+"/Drafts2", "--upload-file", upload)
	if out := ask(imap + "/Drafts2;UID=1"); string(out) != "Subject: draft\r\n\r\nbody\r\n" {
		t.Errorf("from Drafts2: %q", out)
	}
	ask(imap+"/INBOX", "--request", "STORE 1 +FLAGS \\Deleted")
	ask(imap+"/INBOX", "--request", "EXPUNGE")
	if out := ask(imap+"/INBOX", "--request", "SEARCH ALL"); strings.TrimSpace(string(out)) != "* SEARCH 1" {
		t.Errorf("after the expunge: %s", out)
	}
	if _, _, err := tryRun(t, home, curl, "--silent", "--user", a.Address+":wrong", imap+"/INBOX"); err == nil {
		t.Error("a wrong password lets curl in")
	}
}

func TestSwaks(t *testing.T) {
	t.Parallel()
	swaks := tool(t, "swaks", "swaks")
	n := node.Start(t)
	a, b := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.org")
	home := t.TempDir()
	raw := message.Text(1, 20_000)
	data := write(t, filepath.Join(home, "message"), strings.TrimSuffix(string(raw), "\r\n")) // swaks ends the last line itself
	var all []message.Message
	for i, how := range []string{"--protocol ESMTP", "--protocol SMTP", "--pipeline", "--protocol LMTP"} {
		server := n.SMTP
		if strings.HasSuffix(how, "LMTP") {
			server = n.LMTP
		}
		command := append([]string{swaks, "--server", server, "--from", senderOf(i), "--to", a.Address + "," + b.Address, "--data", "@" + data}, strings.Fields(how)...)
		run(t, home, command...)
		all = append(all, message.Message{Name: how, Raw: raw})
	}
	byIMAP(t, n, a, "INBOX").mustHave(all)
	byPOP3(t, n, b).mustHave(all)
	out, _, err := tryRun(t, home, swaks, "--server", n.SMTP, "--from", "x@sender.example", "--to", "nobody@example.org")
	if err == nil || !bytes.Contains(out, []byte("<** 550 5.1.1")) {
		t.Errorf("to nobody: %v\n%s", err, out)
	}
}

// mbsync keeps a maildir of its own and the server's mailbox the same, whichever of them was changed.
func TestMbsync(t *testing.T) {
	t.Parallel()
	mbsync := tool(t, "mbsync", "isync")
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	home := t.TempDir()
	host, port := hostPort(n.IMAPS)
	local := filepath.Join(home, "Mail")
	write(t, filepath.Join(home, ".mbsyncrc"), fmt.Sprintf(`
IMAPAccount server
Host %s
Port %s
User %s
Pass "%s"
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account server

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
`, strings.Replace(host, "127.0.0.1", "localhost", 1), port, a.Address, a.Password, certificate(t, n), local, local))
	if err := os.Mkdir(local, 0o700); err != nil {
		t.Fatal(err)
	}
	sync := func() {
		t.Helper()
		run(t, home, mbsync, "--all")
	}
	inbox := filepath.Join(local, "INBOX")

	// Pull: everything that is there, hostile messages as well, but for those that the program itself does not take, or not as
	// they are: with NULs, with bare CRs, or without an end of the header.
	var all []message.Message
	for _, m := range message.Generated(0) {
		below := append([]byte("\r\n"), message.Canonical(m.Raw)...)
		if len(m.Raw) < 200_000 && bytes.IndexByte(m.Raw, 0) < 0 && bytes.Contains(below, []byte("\r\n\r\n")) &&
			bytes.Count(below, []byte("\r")) == bytes.Count(below, []byte("\r\n")) {
			all = append(all, m)
		}
	}
	deliver(t, func() (*client.SMTP, error) { return client.DialLMTP(n.LMTP) }, 1, all, a.Address)
	sync()
	if got := len(files(t, inbox)); got != len(all) {
		t.Errorf("pulled %d messages of %d", got, len(all))
	}
	pulled := newMailbox(t, "mbsync")
	for _, path := range files(t, inbox) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pulled.take(message.Canonical(ownField.ReplaceAll(b, nil))) // it keeps LF line ends
	}
	pulled.mustHave(all)

	// Push: a message, a flag, a deletion, a folder.
	write(t, filepath.Join(inbox, "cur", "1764000000.1.near:2,S"), "Subject: pushed\n\nfrom the near side\n")
	run(t, home, "mkdir", "-p", local+"/Far.Away/cur", local+"/Far.Away/new", local+"/Far.Away/tmp")
	write(t, filepath.Join(local, "Far.Away", "new", "1764000001.1.near"), "Subject: in a folder\n\nbody\n")
	near := files(t, inbox)
	var flagged, deleted string
	for _, path := range near {
		name := filepath.Base(path)
		if strings.Contains(name, ".near") {
			continue
		}
		if flagged == "" {
			flagged = name
			key, _, _ := strings.Cut(name, ":2,")
			if err := os.Rename(path, filepath.Join(inbox, "cur", key+":2,FS")); err != nil {
				t.Fatal(err)
			}
		} else if deleted == "" {
			deleted = name
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	sync()
	c := logIn(t, n, a)
	must(t, c, "SELECT INBOX")
	for search, want := range map[string]int{"ALL": len(all), "FLAGGED": 1, "SUBJECT pushed SEEN": 1, "SEEN": 2} {
		out := texts(must(t, c, "UID SEARCH %s", search))
		if got := len(strings.Fields(out)) - 2; got != want {
			t.Errorf("after the push, SEARCH %s finds %d, want %d", search, got, want)
		}
	}
	if out := texts(must(t, c, "STATUS Far.Away (MESSAGES)")); !strings.Contains(out, "MESSAGES 1") {
		t.Errorf("the pushed folder: %s", out)
	}

	// Pull what changed there: a flag, a deletion, a new message.
	must(t, c, "UID STORE 5 +FLAGS (\\Answered)")
	must(t, c, "UID STORE 6 +FLAGS (\\Deleted)")
	must(t, c, "EXPUNGE")
	oneText(t, n, a, 9999)
	sync()
	if got := len(files(t, inbox)); got != len(all) {
		t.Errorf("after the second pull: %d messages, want %d", got, len(all))
	}
	answered := 0
	for _, path := range files(t, inbox) {
		if _, flags, _ := strings.Cut(filepath.Base(path), ":2,"); strings.Contains(flags, "R") {
			answered++
		}
	}
	if answered != 1 {
		t.Errorf("%d messages are answered, want 1", answered)
	}
	before := listing(t, local)
	sync()
	if after := listing(t, local); before != after {
		t.Errorf("a sync of what is the same changed\n%s\nto\n%s", before, after)
	}
}

// ownField is what mbsync puts in each message that it copies.
var ownField = regexp.MustCompile(`(?m)^X-TUID: .{12}\r?\n`)

// listing is the names of all messages below a maildir.
func listing(t *testing.T, root string) string {
	t.Helper()
	return string(run(t, root, "find", ".", "-path", "*/cur/*", "-o", "-path", "*/new/*"))
}

func TestFetchmail(t *testing.T) {
	t.Parallel()
	fetchmail := tool(t, "fetchmail", "fetchmail")
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	host, _ := hostPort(n.POP3)
	for _, how := range []struct{ protocol, address, options string }{
		{"pop3", n.POP3, "sslproto ''"},
		{"pop3", n.POP3, "sslproto 'auto' sslcertck sslcertfile '" + certificate(t, n) + "'"},
		{"pop3", n.POP3S, "ssl sslcertck sslcertfile '" + certificate(t, n) + "'"},
		{"imap", n.IMAP, "sslproto ''"},
		{"imap", n.IMAPS, "ssl sslcertck sslcertfile '" + certificate(t, n) + "'"},
	} {
		t.Run(how.protocol+" "+how.options[:4], func(t *testing.T) {
			home := t.TempDir()
			var want []message.Message
			for id := range 5 {
				want = append(want, message.Message{Name: fmt.Sprint(id), Raw: oneText(t, n, a, id)})
			}
			_, port := hostPort(how.address)
			got := filepath.Join(home, "got")
			if err := os.Mkdir(got, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(home, ".fetchmailrc"), fmt.Sprintf(
				"set no bouncemail\npoll %s protocol %s service %s\n user %q password %q is 'root' here\n fetchall no rewrite no mimedecode %s\n mda \"cat > %s/$(mktemp -u XXXXXXXX)\"\n",
				strings.Replace(host, "127.0.0.1", "localhost", 1), how.protocol, port, a.Address, a.Password, how.options, got))
			run(t, home, fetchmail, "--verbose", "--nosyslog", "--pidfile", filepath.Join(home, "pid"))
			entries, err := os.ReadDir(got)
			if err != nil {
				t.Fatal(err)
			}
			box := newMailbox(t, "fetchmail")
			for _, e := range entries {
				b, err := os.ReadFile(filepath.Join(got, e.Name()))
				if err != nil {
					t.Fatal(err)
				}
				box.take(withoutOwnTrace(message.Canonical(b)))
			}
			box.mustHave(want)
			if left := files(t, a.Home); len(left) > 0 {
				t.Errorf("fetched and still there: %d", len(left))
			}
		})
	}
}

// withoutOwnTrace takes off the Received line that fetchmail puts in: behind the server's Return-Path, of which it keeps the first.
func withoutOwnTrace(b []byte) []byte {
	at := bytes.Index(b, []byte("Received: from localhost"))
	if at < 0 {
		return b
	}
	end := at
	for {
		end += bytes.Index(b[end:], []byte("\r\n")) + 2
		if b[end] != '\t' && b[end] != ' ' {
			return append(b[:at:at], b[end:]...)
		}
	}
}

// mutt reads the mount as the maildir that it is.
func TestMutt(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	home := t.TempDir()
	raw := oneText(t, n, a, 1)
	oneText(t, n, a, 2)
	saved := filepath.Join(home, "saved")
	n.Unlock(a)
	mutt(t, home, a.Home, "<pipe-message>cat > "+saved+"<enter><flag-message><next-entry><delete-message><sync-mailbox><quit>")
	b, err := os.ReadFile(saved)
	if err != nil {
		screen, _ := os.ReadFile(filepath.Join(home, "typescript"))
		t.Fatalf("mutt did not pipe the message: %v\n%q", err, screen)
	}
	if !bytes.HasSuffix(message.Canonical(b), raw) {
		if id, _, err := identify(message.Canonical(b)); err != nil || id != 2 {
			t.Errorf("mutt piped %.200q", b)
		}
	}
	left := files(t, a.Home)
	if len(left) != 1 || !strings.HasSuffix(left[0], "F") && !strings.HasSuffix(left[0], "FS") || !strings.Contains(left[0], "/cur/") {
		t.Errorf("after a deletion and a flag: %q", left)
	}
	// Another mailbox beside it, with a copy.
	mutt(t, home, a.Home, "<copy-message>"+a.Home+"/.Kept<enter><sync-mailbox><quit>")
	if kept := files(t, a.Home+"/.Kept"); len(kept) != 1 {
		t.Errorf("copied: %q", kept)
	}
	c := logIn(t, n, a)
	if out := texts(must(t, c, "STATUS Kept (MESSAGES)")); !strings.Contains(out, "MESSAGES 1") {
		t.Errorf("mutt's copy by IMAP: %s", out)
	}
	must(t, c, "SELECT INBOX")
	if out := texts(must(t, c, "SEARCH FLAGGED")); strings.TrimSpace(out) != "* SEARCH 1" {
		t.Errorf("mutt's flag by IMAP: %s", out)
	}
}

// mutt has mutt open a Maildir and press some keys. Its home has what its screen showed, in "typescript".
func mutt(t *testing.T, home, maildir, keys string) {
	t.Helper()
	program, script := tool(t, "mutt", "mutt"), tool(t, "script", "bsdutils")
	write(t, filepath.Join(home, "muttrc"), `
set mbox_type=Maildir
set folder=.
set quit=yes
set delete=yes
set move=no
set confirmappend=no
set confirmcreate=no
set wait_key=no
set sort=mailbox-order
set pipe_decode=no
set ispell=true
set sendmail=true
set header_cache=""
`)
	command := fmt.Sprintf("%s -F %s/muttrc -f %s -e 'push \"%s\"'", program, home, maildir, keys)
	run(t, home, script, "--quiet", "--return", "--command", command, filepath.Join(home, "typescript"))
}
