package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// snippets are the files that a page of the documentation shows, by what their first line says: "# " and the name.
func snippets(t *testing.T, page string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for i, block := range strings.Split(string(b), "\n```") {
		if i%2 == 0 {
			continue
		}
		name, text, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(block), "# "), "\n")
		all[name] = text + "\n"
	}
	return all
}

// server is another mail server, with folders of its own in place of the system's, and a node beside it.
type server struct {
	t     *testing.T
	dir   string
	files map[string]string // what the documentation has
	paths []string          // of the system, each with what it is here
	node  *node.Node
}

// newServer makes the folders of a server, in which every user finds what is for it. More paths may be added to it.
func newServer(t *testing.T, page string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &server{t: t, dir: dir, files: snippets(t, page)}
}

// startNode starts the node with the options of the page that no flag sets, and an account.
func (s *server) startNode(flags ...string) node.Account {
	s.t.Helper()
	s.beside(node.New(s.t, node.Flags(append(s.nodeFlags(), flags...)...)))
	s.node.Start()
	return s.node.AddAccount("alice@example.org")
}

// nodeFlags are the flags of a node beside which the server runs: its options are the page's.
func (s *server) nodeFlags() []string {
	s.t.Helper()
	s.write("mailraft.toml", "/etc/mailraft/mailraft.toml")
	return []string{"--config", s.dir + "/mailraft.toml", "--unlock-grace", "2s"}
}

// beside has the server run beside a node.
func (s *server) beside(n *node.Node) {
	s.t.Helper()
	s.node = n
	if err := os.Chmod(filepath.Dir(n.Mount), 0o711); err != nil { // as /mail and /run are
		s.t.Fatal(err)
	}
	s.paths = append(s.paths, "/run/mailraft", n.Run, "/mail\n", n.Mount+"\n")
}

// text is a file of the page, with this server's paths.
func (s *server) text(name string) string {
	s.t.Helper()
	text, ok := s.files[name]
	if !ok {
		s.t.Fatalf("the page has no %q", name)
	}
	return strings.NewReplacer(s.paths...).Replace(text)
}

// write writes files of the page into one here.
func (s *server) write(to string, names ...string) {
	s.t.Helper()
	var b strings.Builder
	for _, name := range names {
		b.WriteString(s.text(name))
	}
	write(s.t, filepath.Join(s.dir, to), b.String())
}

// run runs the server in the foreground until the test ends, at the latest with this process.
func (s *server) run(command ...string) {
	s.t.Helper()
	started, done := make(chan error), make(chan struct{})
	cmd := exec.Command(command[0], command[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Minute
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	go func() {
		runtime.LockOSThread() // whose end the kernel takes for this process's
		started <- cmd.Start()
		cmd.Wait()
		close(done)
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-done
		if s.t.Failed() {
			log, _ := os.ReadFile(s.dir + "/log")
			s.t.Logf("%s said:\n%s%s", command[0], said.Bytes(), log)
		}
	})
}

// freePort is a port of the loopback that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// listens waits until somebody listens at a port.
func (s *server) listens(port string) {
	s.t.Helper()
	s.node.Eventually("somebody listens at "+port, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// locked waits until the account is locked again.
func (s *server) locked(a node.Account) {
	s.t.Helper()
	s.node.Eventually("the account is locked again", func() bool { return !s.node.IsUnlocked(a) })
}

// postfix is Debian's Postfix with the page's configuration for one way of delivery.
type postfix struct {
	*server
	account          node.Account
	smtp, submission string // ports
}

func startPostfix(t *testing.T, way string) *postfix {
	t.Helper()
	s := newServer(t, "postfix.md")
	p := &postfix{server: s, smtp: freePort(t), submission: freePort(t)}
	s.paths = []string{
		"/var/spool/postfix", s.dir + "/q", "/etc/postfix", s.dir,
		"submission inet", "127.0.0.1:" + p.submission + " inet",
	}
	newCertificate(t, s.dir+"/tls.crt", s.dir+"/tls.key", "localhost")
	join(t, s.dir+"/tls.pem", s.dir+"/tls.key", s.dir+"/tls.crt")
	for _, folder := range []string{"q", "data"} {
		if err := os.Mkdir(filepath.Join(s.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "/", "chown", "postfix", s.dir+"/data")
	write(t, s.dir+"/main.cf", fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/q
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
myhostname = mx.example.net
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_peername_lookup = no
alias_maps =
`, s.dir))
	b, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		t.Fatal(err)
	}
	master := strings.Replace(string(b), "\nsmtp      inet", "\n127.0.0.1:"+p.smtp+" inet", 1)
	write(t, s.dir+"/master.cf", master+s.text("/etc/postfix/master.cf"))
	run(t, "/", "postfix", "-c", s.dir, "check") // makes the folders
	p.account = s.startNode("--lmtp-listen", "127.0.0.1:0,unix:"+s.dir+"/q/private/mailraft")
	s.write("snippet.cf", "/etc/postfix/main.cf", way)
	join(t, s.dir+"/main.cf", s.dir+"/main.cf", s.dir+"/snippet.cf")
	if strings.Contains(way, "virtual") {
		p.makeTable()
	}
	s.run("/usr/lib/postfix/sbin/master", "-c", s.dir, "-d")
	s.listens(p.smtp)
	s.listens(p.submission)
	return p
}

// makeTable runs the page's script that tells Postfix of the accounts.
func (p *postfix) makeTable() {
	p.t.Helper()
	script := write(p.t, p.dir+"/table", p.text("/usr/local/sbin/mailraft-postfix"))
	cmd := exec.Command("sh", "-e", script)
	cmd.Env = append(os.Environ(),
		"MAILRAFT_SOCKET="+p.node.Run+"/admin.sock", "MAIL_CONFIG="+p.dir, "PATH="+filepath.Dir(node.Program(p.t))+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
}

// holds says whether a message ends with the one that was sent, whatever ends the lines: other servers make their own of them.
func holds(got, sent []byte) bool {
	plain := func(b []byte) string { return strings.TrimRight(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n") }
	return strings.HasSuffix(plain(got), plain(sent))
}

func join(t *testing.T, to string, from ...string) {
	t.Helper()
	var all []byte
	for _, f := range from {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	write(t, to, string(all))
}

// swaks sends a message, and returns what was said and how it ended.
func (p *postfix) swaks(port string, args ...string) (string, int) {
	p.t.Helper()
	cmd := exec.Command("swaks", append([]string{"--server", "127.0.0.1", "--port", port, "--timeout", "60"}, args...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestPostfix runs Debian's Postfix with the configuration of docs/postfix.md: users log in with their passwords to send, mail comes
// into the mount.
func TestPostfix(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"/etc/postfix/main.cf, for LMTP", "/etc/postfix/main.cf, for virtual(8)"} {
		t.Run(way[strings.LastIndex(way, " ")+1:], func(t *testing.T) {
			t.Parallel()
			p := startPostfix(t, way)
			a := p.account
			text := write(t, p.dir+"/message", string(message.Text(7, 3000)))
			for _, mechanism := range []string{"PLAIN", "LOGIN"} {
				args := []string{"--tls", "--auth", mechanism, "--auth-user", a.Address, "--from", a.Address, "--to", a.Address, "--data", "@" + text}
				if out, code := p.swaks(p.submission, append(args, "--auth-password", "wrong")...); code != 28 {
					t.Errorf("%s with a wrong password: exit code %d\n%s", mechanism, code, out)
				}
				if p.node.IsUnlocked(a) {
					t.Error("unlocked by a wrong password")
				}
				had := len(files(t, a.Home))
				out, code := p.swaks(p.submission, append(args, "--auth-password", a.Password)...)
				if code != 0 {
					t.Fatalf("%s with the password: exit code %d\n%s", mechanism, code, out)
				}
				if !p.node.IsUnlocked(a) {
					t.Error("the login has not unlocked the account")
				}
				p.node.Eventually("the message is delivered", func() bool { return len(files(t, a.Home)) == had+1 })
				p.locked(a)
			}
			for password, in := range map[string]bool{a.Password: true, "wrong": false} {
				said := gsasl(t, a.Address, "smtp", "127.0.0.1:"+p.submission, "SCRAM-SHA-256", "TLS1.3", password)
				if (said == "in") != in || p.node.IsUnlocked(a) != in {
					t.Errorf("SCRAM with the password %q: %s", password, said)
				}
				p.node.Lock(a)
			}
			if out, code := p.swaks(p.submission, "--tls", "--from", a.Address, "--to", a.Address); code != 24 {
				t.Errorf("nobody may send: exit code %d\n%s", code, out)
			}
			if out, code := p.swaks(p.smtp, "--from", "bob@example.net", "--to", "nobody@example.org"); code != 24 || !strings.Contains(out, "550") {
				t.Errorf("to nobody: exit code %d\n%s", code, out)
			}
			if out, code := p.swaks(p.smtp, "--from", "bob@example.net", "--to", a.Address, "--data", "@"+text); code != 0 {
				t.Errorf("from the world: exit code %d\n%s", code, out)
			}
			p.node.Eventually("the message is delivered", func() bool { return len(files(t, a.Home)) == 3 })
			if p.node.IsUnlocked(a) {
				t.Error("a delivery unlocks the account")
			}
			c := logIn(t, p.node, a)
			defer c.Close()
			must(t, c, "SELECT INBOX")
			for i := range 3 {
				r := must(t, c, "UID FETCH %d BODY.PEEK[]", i+1)
				if len(r) == 0 || len(r[0].Literals) == 0 || !holds(r[0].Literals[0], message.Text(7, 3000)) {
					t.Errorf("message %d is another: %v", i+1, r)
				}
			}
		})
	}
}

// dovecot is Debian's Dovecot with the page's configuration.
type dovecot struct {
	*server
	imaps, pop3s string // addresses
	lmtp         string // "unix:" and a path
	trust        *tls.Config
}

// newDovecot makes the folders of one.
func newDovecot(t *testing.T) *dovecot {
	t.Helper()
	s := newServer(t, "dovecot.md")
	s.paths = []string{
		"/etc/dovecot", s.dir, "/usr/local/bin/mailraft", s.dir + "/mailraft", "/var/lib/dovecot", s.dir + "/lib",
		"/var/spool/postfix/private", s.dir,
	}
	return &dovecot{server: s, lmtp: "unix:" + s.dir + "/dovecot-lmtp"}
}

// start starts it beside its node, which runs.
func (d *dovecot) start() {
	t := d.t
	t.Helper()
	imaps, pop3s := freePort(t), freePort(t)
	newCertificate(t, d.dir+"/tls.crt", d.dir+"/tls.key", "localhost")
	program, err := os.ReadFile(node.Program(t))
	if err == nil {
		err = os.WriteFile(d.dir+"/mailraft", program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, "/", "sh", "-ec", d.text("once"))
	d.write("dovecot.conf", "/etc/dovecot/dovecot.conf", "/etc/dovecot/dovecot.conf, for LMTP")
	write(t, d.dir+"/main.conf", fmt.Sprintf(`!include %[1]s/dovecot.conf
base_dir = %[1]s/base
state_dir = %[1]s/state
log_path = %[1]s/log
listen = 127.0.0.1
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = %[2]s
  }
}
service pop3-login {
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = %[3]s
  }
}
`, d.dir, imaps, pop3s))
	d.run("dovecot", "-F", "-c", d.dir+"/main.conf")
	d.listens(imaps)
	d.listens(pop3s)
	d.imaps, d.pop3s = "127.0.0.1:"+imaps, "127.0.0.1:"+pop3s
	if d.trust, err = client.Trust(d.dir+"/tls.crt", "localhost"); err != nil {
		t.Fatal(err)
	}
}

// TestDovecot runs Debian's Dovecot with the configuration of docs/dovecot.md.
func TestDovecot(t *testing.T) {
	t.Parallel()
	s := newDovecot(t)
	a := s.startNode()
	s.start()
	send(t, s.node, a, 1, message.Text(1, 3000)) // by our MX, to a locked account
	lmtp, err := client.DialLMTP(s.lmtp)
	if err != nil {
		t.Fatal(err)
	}
	answers, refused, err := lmtp.Deliver("bob@example.net", message.Text(2, 3000), a.Address, "nobody@example.org")
	if err != nil || len(answers) != 1 || !answers[0].OK() || !refused["nobody@example.org"].Begins("550") {
		t.Fatal("LMTP:", answers, refused, err)
	}
	lmtp.Quit()
	if s.node.IsUnlocked(a) {
		t.Fatal("a delivery unlocks the account")
	}

	c, err := client.DialIMAP(s.imaps, s.trust)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Login(a.Address, "wrong") == nil {
		t.Fatal("in with a wrong password")
	}
	if c.Login("nobody@example.org", a.Password) == nil {
		t.Fatal("nobody is in")
	}
	if err := c.Login(a.Address, a.Password); err != nil {
		t.Fatal("IMAP:", err)
	}
	must(t, c, "SELECT INBOX")
	box := map[string]bool{} // by the text
	fetch := func(number int) {
		t.Helper()
		r := must(t, c, "FETCH %d BODY.PEEK[]", number)
		for id := range uint64(3) {
			if len(r) > 0 && len(r[0].Literals) > 0 && holds(r[0].Literals[0], message.Text(id+1, 3000)) {
				box[fmt.Sprint("text ", id+1)] = true
				return
			}
		}
		t.Errorf("message %d is another: %v", number, r)
	}
	fetch(1)
	must(t, c, `STORE 1 +FLAGS (\Flagged)`)
	if cur, err := filepath.Glob(a.Home + "/cur/*:2,F"); err != nil || len(cur) != 1 {
		t.Error("the flag is not on the mount:", cur, err)
	}
	// Idle for longer than the grace, and then the user reads on.
	time.Sleep(8 * time.Second)
	if !s.node.IsUnlocked(a) {
		t.Fatal("locked while a session idles")
	}
	fetch(2)
	if len(box) != 2 {
		t.Errorf("of two messages there is only %v", box)
	}
	must(t, c, `UID COPY 1:2 INBOX`)
	must(t, c, "NOOP")
	if err := c.Append("INBOX", "", message.Text(3, 3000)); err != nil {
		t.Error("APPEND:", err)
	}
	if err := c.Logout(); err != nil && err != io.EOF {
		t.Error(err)
	}
	s.locked(a)

	p, err := client.DialPOP3(s.pop3s, s.trust)
	if err != nil {
		t.Fatal(err)
	}
	if p.Login(a.Address, "wrong") == nil {
		t.Fatal("in with a wrong password")
	}
	if err := p.Login(a.Address, a.Password); err != nil {
		t.Fatal("POP3:", err)
	}
	b, err := p.Multi("RETR 5")
	if err != nil || !holds(b, message.Text(3, 3000)) {
		t.Errorf("RETR 5: %v\n%q", err, b)
	}
	p.Quit()
	s.locked(a)
}

// TestCheckPassword runs the program as another server does, by its interface.
func TestCheckPassword(t *testing.T) {
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	for name, c := range map[string]struct {
		given string   // at descriptor 3; "": it is not open
		env   []string // beside SERVICE
		args  []string
		code  int
		wrote []string // the program, and to standard error
	}{
		"the password": {a.Address + "\x00" + a.Password + "\x00Y123\x00", []string{"EXTRA=mine"}, nil, 0, []string{
			"USER=alice@example.org", "HOME=" + n.Run + "/shards/", "/example.org/alice\n", "userdb_uid=5000", "userdb_gid=5000", "EXTRA=userdb_uid userdb_gid mine", "SERVICE=test",
		}},
		"no time stamp":    {"ALICE@example.org\x00" + a.Password + "\x00", nil, nil, 0, []string{"USER=alice@example.org\n"}},
		"a wrong password": {a.Address + "\x00wrong\x00Y123\x00", nil, nil, 1, nil},
		"an unknown user":  {"bob@example.org\x00" + a.Password + "\x00Y123\x00", nil, nil, 1, nil},
		"a look-up":        {a.Address + "\x00\x00\x00", []string{"AUTHORIZED=1"}, nil, 0, []string{"AUTHORIZED=2\n", "USER=alice@example.org\n"}},
		"of nobody":        {"bob@example.org\x00\x00\x00", []string{"AUTHORIZED=1"}, nil, 3, nil},
		"for a hash":       {a.Address + "\x00\x00\x00", []string{"AUTHORIZED=1", "CREDENTIALS_LOOKUP=1", "SCHEME=CRAM-MD5"}, nil, 2, []string{"CRAM-MD5", "PLAIN"}},
		"no password":      {a.Address + "\x00", nil, nil, 2, []string{"descriptor 3"}},
		"too much":         {a.Address + "\x00" + a.Password + "\x00" + strings.Repeat("x", 512), nil, nil, 2, []string{"512"}},
		"no descriptor":    {"", nil, nil, 2, []string{"descriptor 3"}},
		"no program":       {a.Address + "\x00" + a.Password + "\x00", nil, []string{"--auth-socket", n.Run + "/auth.sock", "/no/such/program"}, 2, []string{"/no/such/program"}},
		"no daemon":        {a.Address + "\x00" + a.Password + "\x00", nil, []string{"--auth-socket", n.Run + "/no.sock", "env"}, 111, []string{"no.sock"}},
	} {
		t.Run(name, func(t *testing.T) {
			n.Lock(a)
			args := c.args
			if args == nil {
				args = []string{"--auth-socket", n.Run + "/auth.sock", "env"}
			}
			cmd := exec.Command(node.Program(t), append([]string{"checkpassword"}, args...)...)
			cmd.Env = append(append(os.Environ(), "SERVICE=test"), c.env...)
			if c.given != "" {
				r, w, err := os.Pipe()
				if err == nil {
					_, err = w.WriteString(c.given)
				}
				if err != nil {
					t.Fatal(err)
				}
				w.Close()
				defer r.Close()
				cmd.ExtraFiles = []*os.File{r}
			}
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.wrote {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
			if c.wrote == nil && len(out) > 0 || strings.Contains(string(out), a.Password) {
				t.Errorf("it wrote\n%s", out)
			}
			if want := c.code == 0 && c.env == nil || name == "the password"; n.IsUnlocked(a) != want {
				t.Errorf("unlocked: %v", !want)
			}
		})
	}
}
