package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// result is what a command line did.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := Main(args, strings.NewReader(stdin), &out, &err)
	return result{code, out.String(), err.String()}
}

func TestExitCodesAndWords(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "admin.sock")
	config := filepath.Join(dir, "mailraft.toml")
	if err := os.WriteFile(config, []byte("dta = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		exit exit
		says []string
	}{
		{[]string{}, exitDone, nil},
		{[]string{"--help"}, exitDone, nil},
		{[]string{"version"}, exitDone, nil},
		{[]string{"completion", "bash"}, exitDone, nil},
		{[]string{"nosuch"}, exitUsage, []string{`"mailraft nosuch"`, "--help"}},
		{[]string{"domain", "nosuch"}, exitUsage, []string{`"mailraft domain nosuch"`}},
		{[]string{"domain", "add"}, exitUsage, []string{"usage: mailraft domain add"}},
		{[]string{"status", "--nosuch"}, exitUsage, []string{"--nosuch", "mailraft status --help"}},
		{[]string{"--config", config, "domain", "list"}, exitUsage, []string{"dta", config}},
		{[]string{"--socket", socket, "domain", "list"}, exitNoDaemon, []string{socket, "mailraft serve"}},
		{[]string{"--socket", socket, "account", "add"}, exitUsage, []string{"--from"}},
		{[]string{"fsck", "--data", dir}, exitNotFound, []string{dir, "not the data folder"}},
		{[]string{"proxy", "imap"}, exitFailed, []string{"mailraft serve"}},
		{[]string{"proxy", "nosuch"}, exitUsage, []string{"nosuch"}},
		{[]string{"serve", "--shards", "x"}, exitUsage, []string{"shards"}},
		{[]string{"serve", "--user", "root"}, exitUsage, []string{"user", "root"}},
	} {
		r := run(t, "", c.args...)
		if r.code != c.exit.code {
			t.Errorf("%q: exit code %d, want %d (%s)", c.args, r.code, c.exit.code, r.stderr)
		}
		for _, s := range c.says {
			if !strings.Contains(r.stderr, s) {
				t.Errorf("%q: %q does not say %q", c.args, r.stderr, s)
			}
		}
		if c.exit == exitDone && (r.stdout == "" || r.stderr != "") {
			t.Errorf("%q: stdout %q, stderr %q", c.args, r.stdout, r.stderr)
		}
	}
}

// TestFsckMakesNoStore checks a data folder whose store is gone.
func TestFsckMakesNoStore(t *testing.T) {
	data := t.TempDir()
	store := filepath.Join(data, "store")
	if err := os.WriteFile(filepath.Join(data, "node"), []byte("n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", "fsck", "--data", data); r.code != exitNotFound.code || !strings.Contains(r.stderr, store) {
		t.Errorf("%+v", r)
	}
	if left, err := os.ReadDir(store); err != nil || len(left) > 0 {
		t.Errorf("fsck made %v, %v", left, err)
	}
}

func TestEveryExitCodeIsInTheHelp(t *testing.T) {
	help := run(t, "", "--help").stdout
	for i, e := range exits {
		if e.code != i || !strings.Contains(help, e.what) {
			t.Errorf("%+v", e)
		}
	}
}

func TestServeHelpAndSampleHaveEveryOption(t *testing.T) {
	help, sample := run(t, "", "serve", "--help").stdout, run(t, "", "config", "sample").stdout
	for _, o := range []string{"smtp-listen", "tls-cert", "unlock-grace", "allow-plaintext-auth"} {
		if !strings.Contains(help, "--"+o) {
			t.Errorf("serve --help does not have %s", o)
		}
	}
	for _, o := range []string{"[smtp]", "# listen = ", "[tls]", "# cert = ", "# unlock_grace = "} {
		if !strings.Contains(sample, o) {
			t.Errorf("the sample does not have %s", o)
		}
	}
}

func TestAccountsFromAFile(t *testing.T) {
	read := func(text string) ([]newAccount, error) {
		p := &program{stdin: strings.NewReader(text)}
		accounts, err := p.accountsFrom(&addition{from: "-", quota: "5M", key: "x25519"})
		if err == nil {
			err = eachOnce(accounts)
		}
		return accounts, err
	}
	accounts, err := read("# people\na@example.org,secret,1G\nb@example.org,\"a,b\"\"c\",none\n\nc@example.org\nd@example.org,,\n")
	if err != nil || len(accounts) != 4 {
		t.Fatal(accounts, err)
	}
	for i, want := range []struct {
		address, password string
		quota             uint64
	}{{"a@example.org", "secret", 1 << 30}, {"b@example.org", `a,b"c`, 0}, {"c@example.org", "", 5 << 20}, {"d@example.org", "", 5 << 20}} {
		a := accounts[i]
		if want.password == "" {
			if want.password = a.random; len(a.random) < 20 {
				t.Errorf("%s: random password %q", a.Address, a.random)
			}
		} else if a.random != "" {
			t.Errorf("%s: a password was made up", a.Address)
		}
		if a.Address != want.address || string(a.Password) != want.password || a.QuotaBytes != want.quota || a.Key != "x25519" {
			t.Errorf("%+v, want %+v", a, want)
		}
	}
	for text, says := range map[string]string{
		"a@example.org,x,1G,more\n":        "line 1",
		"a@example.org\nb@example.org,x,y": "line 2",
		"a@example.org\nA@Example.org\n":   "more than once",
		"a@example.org,\"x\n":              "standard input",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPasswordsFromStandardInput(t *testing.T) {
	p := &program{stdin: strings.NewReader("one\r\ntwo")}
	lines, err := p.lines(2)
	if err != nil || string(lines[0]) != "one" || string(lines[1]) != "two" {
		t.Errorf("%q, %v", lines, err)
	}
	for _, text := range []string{"", "\n", "one\n", "one\n\n"} {
		p := &program{stdin: strings.NewReader(text)}
		if lines, err := p.lines(2); err == nil {
			t.Errorf("%q gave %q", text, lines)
		}
	}
}

func TestPathsBelowTheMount(t *testing.T) {
	mount := t.TempDir()
	t.Chdir(mount)
	for path, want := range map[string]string{
		"example.org/a/new/m":                 "example.org/a/new/m",
		mount + "/example.org/a/new/m":        "example.org/a/new/m",
		"./example.org/../example.org/a/cur/": "example.org/a/cur",
		"..foo":                               "..foo",
	} {
		if got, err := belowMount(mount, path); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if got, err := belowMount(mount, "/etc/passwd"); err == nil {
		t.Errorf("/etc/passwd is %q", got)
	}
	t.Chdir("/")
	if got, err := belowMount(mount, "example.org/a/new/m"); err != nil || got != "example.org/a/new/m" {
		t.Errorf("%q, %v", got, err)
	}
	if got := accountOf("example.org/a/new/m"); got != "a@example.org" {
		t.Error(got)
	}
}
