package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// sources has a file with that text (none for ""), those variables and those flags.
func sources(t *testing.T, file string, env map[string]string, args ...string) Sources {
	t.Helper()
	s := Sources{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	s.Flags = pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(s.Flags)
	if err := s.Flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	s.File = filepath.Join(t.TempDir(), "mailraft.toml")
	if err := os.WriteFile(s.File, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestALaterSourceWins(t *testing.T) {
	const file = `
hostname = "file"
data = "/file"
shards = 8
unlock_grace = "5s"
max_message = "10M"
[imap]
listen = ["127.0.0.1:1", "127.0.0.1:2"]
`
	env := map[string]string{
		"MAILRAFT_HOSTNAME": "env", "MAILRAFT_DATA": "/env", "MAILRAFT_IMAP_LISTEN": "127.0.0.1:3,unix:/x.sock",
		"MAILRAFT_ALLOW_PLAINTEXT_AUTH": "true",
	}
	c, err := Load(sources(t, file, env, "--data", "/flag", "--pop3-listen=", "--max-message", "1G"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Hostname = "env"
	want.Data = "/flag"
	want.Shards = 8
	want.UnlockGrace = 5 * time.Second
	want.MaxMessage = 1 << 30
	want.AllowPlaintextAuth = true
	want.IMAPListen = []string{"127.0.0.1:3", "unix:/x.sock"}
	want.POP3Listen = nil
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env        map[string]string
		args       []string
		says       []string
	}{
		{name: "unknown keys", file: "dta = \"/x\"\n[smtp]\nlissen = []\n[nosuch]\nx = 1\n", says: []string{"dta", "smtp.lissen", "nosuch.x", "mailraft.toml"}},
		{name: "not TOML", file: "data = \n", says: []string{"mailraft.toml"}},
		{name: "type", file: "hostname = 5\n", says: []string{"hostname"}},
		{name: "list", file: "[smtp]\nlisten = \":25\"\n", says: []string{"smtp.listen", "list"}},
		{name: "variable", env: map[string]string{"MAILRAFT_SHARDS": "many"}, says: []string{"MAILRAFT_SHARDS", "many"}},
		{name: "shards", args: []string{"--shards", "0"}, says: []string{"shards"}},
		{name: "root", file: "user = \"0:0\"\n", says: []string{"user", "root"}},
		{name: "nobody knows", file: "user = \"no-such-user-here\"\n", says: []string{"user", "no-such-user-here"}},
		{name: "address", file: "[pop3]\nlisten = [\"110\"]\n", says: []string{"pop3.listen", "110"}},
		{name: "half a pair", file: "[tls]\ncert = \"/x\"\n", says: []string{"tls.cert", "tls.key"}},
		{name: "mount in data", file: "data = \"/d\"\nmount = \"/d/mail\"\n", says: []string{"mount", "/d"}},
		{name: "run in mount", file: "mount = \"/m\"\nrun = \"/m/run\"\n", says: []string{"mount", "/m"}},
		{name: "socket path", args: []string{"--lmtp-listen", "unix:/" + strings.Repeat("x", 120)}, says: []string{"lmtp.listen", "107"}},
		{name: "logins by TCP", args: []string{"--auth-listen", "127.0.0.1:12345"}, says: []string{"auth.listen", "127.0.0.1:12345", "unix"}},
		{name: "no such group", file: "[auth]\ngroup = \"no-such-group-here\"\n", says: []string{"auth.group", "no-such-group-here"}},
		{name: "size", file: "max_message = \"1K\"\n", says: []string{"max_message"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(sources(t, c.file, c.env, c.args...))
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("%v is not an ErrConfig", err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestAFileThatIsNamedMustBeThere(t *testing.T) {
	s := sources(t, "", nil)
	s.File = filepath.Join(t.TempDir(), "missing.toml")
	if _, err := Load(s); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	s = sources(t, "", map[string]string{EnvFile: s.File})
	s.File = ""
	if _, err := Load(s); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestSample reads the sample back: with every line in use it must be the default again.
func TestSample(t *testing.T) {
	var uncommented []string
	keys := Default().options()
	for line := range strings.SplitSeq(Sample(), "\n") {
		key, _, assigned := strings.Cut(strings.TrimPrefix(line, "# "), " = ")
		if assigned && slices.ContainsFunc(keys, func(o option) bool { return o.key == key || strings.HasSuffix(o.key, "."+key) }) {
			line = strings.TrimPrefix(line, "# ")
		}
		uncommented = append(uncommented, line)
	}
	c := &Config{}
	if err := c.parse(strings.Join(uncommented, "\n")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), c); d != "" {
		t.Error(d)
	}
	again := &Config{}
	if err := again.parse(c.Document(func(string) bool { return true })); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, again); d != "" {
		t.Error(d)
	}
}

func TestOwner(t *testing.T) {
	for in, want := range map[string][2]uint32{"5000:5000": {5000, 5000}, "5000": {5000, 5000}, "5000:6000": {5000, 6000}, "nobody": {65534, 65534}} {
		c := &Config{User: in}
		if u, g, err := c.Owner(); err != nil || u != want[0] || g != want[1] {
			t.Errorf("%s: %d:%d, %v", in, u, g, err)
		}
	}
}

func TestAuthOwner(t *testing.T) {
	for _, want := range []struct {
		user, group string
		gid         uint32
	}{{"5000:6000", "", 6000}, {"5000:6000", "7000", 7000}, {"5000:6000", "nogroup", 65534}} {
		c := &Config{User: want.user, AuthGroup: want.group}
		if g, err := c.AuthOwner(); err != nil || g != want.gid {
			t.Errorf("%+v: %d, %v", want, g, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]Size{"0": 0, "1": 1, "64k": 64 << 10, "50M": 50 << 20, "1G": 1 << 30, "2T": 2 << 40, "1GiB": 1 << 30, "7MB": 7 << 20} {
		got, err := ParseSize(in)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s: shown as %s", in, got.String())
		}
	}
	for _, in := range []string{"", "-1", "1.5G", "G", "1X", "99999999999999999999", "99999999999T"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q was read as %d", in, got)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("a\"b\\c\n\x7f\u00e9")
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "")
		c := &Config{}
		if err := c.parse("hostname = " + quote(s) + "\n"); err != nil || c.Hostname != s {
			t.Errorf("%q became %q: %v", s, c.Hostname, err)
		}
	})
}

// A Unix socket without a folder of its own is in the run folder, wherever that is.
func TestSocketsInTheRunFolder(t *testing.T) {
	c := Default()
	c.Run = "/somewhere/run"
	var unix []string
	for _, l := range c.Listeners() {
		if strings.HasPrefix(l.Address, "unix:") {
			unix = append(unix, l.Address)
		}
	}
	if d := cmp.Diff([]string{"unix:/somewhere/run/lmtp.sock", "unix:/somewhere/run/auth.sock"}, unix); d != "" {
		t.Error(d)
	}
}
