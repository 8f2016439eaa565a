package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"mailraft/test/client"
	"mailraft/test/node"
)

// adminCommand is a command line of the admin's, and how it ends.
type adminCommand struct {
	line  string // words at spaces
	stdin string
	code  int
	out   string // a regular expression for all of standard output
	says  string // part of standard error
}

// runCommands runs command lines one after the other.
func runCommands(t *testing.T, n *node.Node, all []adminCommand) {
	t.Helper()
	for _, c := range all {
		a := n.Try(c.stdin, strings.Fields(c.line)...)
		if a.Code != c.code {
			t.Errorf("mailraft %s: exit code %d, want %d: %s%s", c.line, a.Code, c.code, a.Stdout, a.Stderr)
		}
		if !regexp.MustCompile(`^(?:` + c.out + `)$`).MatchString(a.Stdout) {
			t.Errorf("mailraft %s wrote\n%s want\n%s", c.line, a.Stdout, c.out)
		}
		if !strings.Contains(a.Stderr, c.says) || c.says == "" && a.Stderr != "" {
			t.Errorf("mailraft %s said %q, want %q", c.line, a.Stderr, c.says)
		}
	}
}

// Each command that changes or lists something, for people and for scripts, with what it does when there is no such thing.
func TestCommands(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	const (
		head     = `ADDRESS +STORED +FILES +QUOTA +KEY +SINCE +STATE\n`
		alice    = `alice@example\.org +0 +0 +none +hybrid +\d{4}-\d\d-\d\d +locked\n`
		bob      = `bob@example\.org +0 +0 +1\.0M +x25519 +\d{4}-\d\d-\d\d +locked\n`
		carol    = `carol@example\.net +0 +0 +none +hybrid +\d{4}-\d\d-\d\d +unlocked\n`
		password = "secret one\n"
	)
	object := func(address, key string, quotaBytes, quotaFiles int, unlocked bool) string {
		return fmt.Sprintf(`\{"address":"%s","number":\d+,"shard":[1-4],"key":"%s","recipient":"age1[a-z0-9]+","created":\d{10},`+
			`"bytes":0,"files":0,"quota_bytes":%d,"quota_files":%d,"unlocked":%v\}\n`, address, key, quotaBytes, quotaFiles, unlocked)
	}
	runCommands(t, n, []adminCommand{
		{line: "version", out: `mailraft \S+ \(go\S+, linux/\w+\)\n`},
		{line: "version --json", out: `\{"version":"[^"]+","go":"go[^"]+","os":"linux","arch":"\w+"\}\n`},

		{line: "domain list"},
		{line: "domain add example.org example.net", out: "added domain example.org\nadded domain example.net\n"},
		{line: "domain add --json example.com", out: `{"domain":"example.com"}` + "\n"},
		{line: "domain add example.org", code: 5, says: "example.org"},
		{line: "domain add not..one", code: 2, says: "not..one"},
		{line: "domain list", out: "example.com\nexample.net\nexample.org\n"},
		{line: "domain list --json", out: `{"domain":"example.com"}` + "\n" + `{"domain":"example.net"}` + "\n" + `{"domain":"example.org"}` + "\n"},

		{line: "account list", out: head},
		{line: "account list --json"},
		{line: "account add alice@example.org --password-stdin", stdin: password, out: "added account alice@example.org\n"},
		{line: "account add bob@example.org --random --key x25519 --quota 1M", out: `added account bob@example\.org with password \S+\n`},
		{line: "account add carol@example.net --password-stdin --json", stdin: password, out: `\{"address":"carol@example\.net"\}\n`},
		{line: "account add alice@example.org --random", code: 5, says: "alice@example.org"},
		{line: "account add dave@nowhere.example --random", code: 4, says: "nowhere.example"},

		{line: "unlock carol@example.net --password-stdin --for 90m", stdin: password, out: `carol@example\.net is unlocked for 1h30m0s .*\n`},
		{line: "unlock alice@example.org --password-stdin --json", stdin: password, out: `{"address":"alice@example.org","seconds":600}` + "\n"},
		{line: "unlock alice@example.org --password-stdin", stdin: "wrong\n", code: 6, says: "password"},
		{line: "unlock alice@example.org --password-stdin --for 25h", stdin: password, code: 2, says: "24h"},
		{line: "unlock nobody@example.org --password-stdin", stdin: password, code: 4, says: "nobody@example.org"},
		{line: "lock alice@example.org --json", out: `{"address":"alice@example.org","was_unlocked":true}` + "\n"},
		{line: "lock alice@example.org --json", out: `{"address":"alice@example.org","was_unlocked":false}` + "\n"},
		{line: "lock alice@example.org", out: "alice@example.org was locked already\n"},
		{line: "lock nobody@example.org", code: 4, says: "nobody@example.org"},

		{line: "account list", out: head + carol + alice + bob},
		{line: "account list Example.ORG", out: head + alice + bob},
		{line: "account list example.com", out: head},
		{line: "account list nowhere.example", code: 4, says: "nowhere.example"},
		{line: "account list example.org --json", out: object(`alice@example\.org`, "hybrid", 0, 0, false) + object(`bob@example\.org`, "x25519", 1<<20, 0, false)},
		{line: "account list example.net --json", out: object(`carol@example\.net`, "hybrid", 0, 0, true)},

		{line: "account quota bob@example.org", out: `bob@example\.org stores 0 of 1\.0M in 0 of unlimited files\n`},
		{line: "account quota alice@example.org 20K --files 3", out: `alice@example\.org stores 0 of 20\.0K in 0 of 3 files\n`},
		{line: "account quota alice@example.org --json", out: object(`alice@example\.org`, "hybrid", 20<<10, 3, false)},
		{line: "account quota alice@example.org none --json", out: object(`alice@example\.org`, "hybrid", 0, 3, false)},
		{line: "account quota alice@example.org --files 0", out: `alice@example\.org stores 0 of unlimited in 0 of unlimited files\n`},
		{line: "account quota alice@example.org much", code: 2, says: "much"},
		{line: "account quota nobody@example.org 1G", code: 4, says: "nobody@example.org"},

		{line: "account passwd alice@example.org --password-stdin", stdin: password + "secret two\n", out: "changed the password of alice@example.org\n"},
		{line: "account passwd alice@example.org --password-stdin --json", stdin: "secret two\nsecret three\n", out: `{"address":"alice@example.org"}` + "\n"},
		{line: "account passwd alice@example.org --password-stdin", stdin: password + "secret four\n", code: 6, says: "--discard-mail-key"},
		{line: "account passwd alice@example.org --password-stdin --discard-mail-key", stdin: "secret four\n", code: 6, says: "--yes"},

		{line: "recovery new alice@example.org --password-stdin", stdin: password, code: 6, says: "nothing was changed"},
		{line: "recovery new alice@example.org --password-stdin", stdin: "secret three\n",
			out: `recovery code of alice@example\.org, which is not shown again:\n\n  [0-9A-Z]{4}(-[0-9A-Z]{4}){8}\n\n`},
		{line: "recovery new alice@example.org --password-stdin --json", stdin: "secret three\n",
			out: `{"address":"alice@example.org","recovery_code":"[0-9A-Z]{4}(-[0-9A-Z]{4}){8}"}\n`},
		{line: "recovery new nobody@example.org --password-stdin", stdin: password, code: 4, says: "nobody@example.org"},
		{line: "account recover alice@example.org --password-stdin", stdin: "0000-0000\nsecret four\n", code: 6, says: "it has 8 characters"},
		{line: "account recover alice@example.org --password-stdin", stdin: strings.Repeat("0", 36) + "\nsecret four\n", code: 6, says: "wrong"},
		{line: "account recover alice@example.org --password-stdin", stdin: "0000-0000\n", code: 2, says: "2 passwords are needed"},
		{line: "account recover nobody@example.org --password-stdin", stdin: "0000-0000\nsecret four\n", code: 4, says: "nobody@example.org"},

		{line: "app-password list alice@example.org", out: `NAME +GOOD FOR +SINCE +LAST USED\n`},
		{line: "app-password list alice@example.org --json"},
		{line: "app-password add alice@example.org phone --password-stdin", stdin: password, code: 6, says: "nothing was changed"},
		{line: "app-password add alice@example.org phone --password-stdin --protocol ftp", stdin: "secret three\n", code: 2, says: "ftp"},
		{line: "app-password add alice@example.org phone --password-stdin", stdin: "secret three\n",
			out: `app password of alice@example\.org for phone, which is not shown again:\n\n  [a-z2-9]{5}(-[a-z2-9]{5}){3}\n\n`},
		{line: "app-password add alice@example.org phone --password-stdin", stdin: "secret three\n", code: 5, says: "phone"},
		{line: "app-password add alice@example.org old-laptop --password-stdin --protocol imap,submission --json", stdin: "secret three\n",
			out: `{"address":"alice@example.org","name":"old-laptop","app_password":"[a-z2-9]{5}(-[a-z2-9]{5}){3}"}\n`},
		{line: "app-password list alice@example.org",
			out: `NAME +GOOD FOR +SINCE +LAST USED\nphone +all +20\S+ +never\nold-laptop +imap, submission +20\S+ +never\n`},
		{line: "app-password remove alice@example.org phone", out: "removed the app password of alice@example.org for phone\n"},
		{line: "app-password remove alice@example.org phone", code: 4, says: "phone"},
		{line: "app-password list alice@example.org --json",
			out: `{"name":"old-laptop","protocols":\["imap","submission"\],"created":\d+}\n`},
		{line: "app-password remove alice@example.org old-laptop --json", out: `{"address":"alice@example.org","name":"old-laptop"}\n`},
		{line: "app-password list nobody@example.org", code: 4, says: "nobody@example.org"},

		{line: "account rekey alice@example.org --password-stdin", stdin: "secret three\n", code: 6, says: "--yes"},
		{line: "account rekey alice@example.org --password-stdin --yes", stdin: password, code: 6, says: "nothing was changed"},
		{line: "account rekey alice@example.org --password-stdin --resume", stdin: "secret three\n", code: 6, says: "nothing to go on with"},
		{line: "account rekey alice@example.org --password-stdin --resume --recovery", code: 2, says: "recovery"},
		{line: "account rekey alice@example.org --password-stdin --yes --recovery", stdin: strings.Repeat("0", 36) + "\nsecret four\n", code: 6, says: "wrong"},
		{line: "account rekey alice@example.org --password-stdin --yes", stdin: "secret three\n",
			out: `gave alice@example\.org a new key pair; mail that comes is sealed to it from now on\n` +
				`recovery code of alice@example\.org, which is not shown again:\n\n  [0-9A-Z]{4}(-[0-9A-Z]{4}){8}\n\n` +
				`all 0 files of alice@example\.org \(0 as they are sealed\) are sealed to its new key\n`},
		{line: "account rekey alice@example.org --password-stdin --yes --new-password --json", stdin: "secret three\nsecret five\n",
			out: `{"address":"alice@example.org","recovery_code":"[0-9A-Z]{4}(-[0-9A-Z]{4}){8}","app_passwords_removed":\[\]}\n` +
				`{"address":"alice@example.org","files":0,"sealed_octets":0}\n`},
		{line: "lock alice@example.org --json", out: `{"address":"alice@example.org","was_unlocked":true}` + "\n"}, // in its grace
		{line: "account rekey nobody@example.org --password-stdin --yes", stdin: password, code: 4, says: "nobody@example.org"},

		{line: "alias list"},
		{line: "alias list --json"},
		{line: "alias add team@example.org alice@example.org bob@example.org", out: "added alias team@example.org for alice@example.org, bob@example.org\n"},
		{line: "alias add all@example.com team@example.org --json", out: `\{"alias":"all@example\.com","targets":\["team@example\.org"\]\}\n`},
		{line: "alias add team@example.org bob@example.org", code: 5, says: "team@example.org"},
		{line: "alias list", out: `all@example\.com +team@example\.org\nteam@example\.org +alice@example\.org, bob@example\.org\n`},
		{line: "alias list example.com", out: `all@example\.com +team@example\.org\n`},
		{line: "alias list nowhere.example", code: 4, says: "nowhere.example"},
		{line: "alias list --json", out: `\{"alias":"all@example\.com","targets":\["team@example\.org"\]\}\n\{"alias":"team@example\.org","targets":\["alice@example\.org","bob@example\.org"\]\}\n`},
	})
	takesMail := func(address, want string) {
		t.Helper()
		s, err := client.DialSMTP(n.SMTP)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Quit()
		if r, err := s.Command("MAIL FROM:<>"); err != nil || !r.OK() {
			t.Fatal(r, err)
		}
		if r, err := s.Command("RCPT TO:<%s>", address); err != nil || !strings.HasPrefix(string(r), want) {
			t.Errorf("RCPT TO:<%s>: %q, %v, want %s", address, r, err, want)
		}
	}
	for _, address := range []string{"alice@example.org", "bob@example.org", "carol@example.net", "team@example.org", "all@example.com"} {
		takesMail(address, "250")
	}

	// And away again.
	runCommands(t, n, []adminCommand{
		{line: "domain remove example.org", code: 6, says: "accounts or aliases"},
		{line: "account remove alice@example.org", code: 6, says: "--yes"},
		{line: "account remove alice@example.org --yes", code: 6, says: "team@example.org"},
		{line: "account list example.org", out: head + alice + bob},
		{line: "alias remove all@example.com", out: "removed alias all@example.com\n"},
		{line: "alias remove all@example.com", code: 4, says: "all@example.com"},
		{line: "alias remove team@example.org --json", out: `\{"alias":"team@example\.org"\}\n`},
		{line: "alias list"},
		{line: "account remove alice@example.org --yes", out: "removed account alice@example.org\n"},
		{line: "account remove alice@example.org --yes", code: 4, says: "alice@example.org"},
		{line: "account remove bob@example.org --yes --json", out: `\{"address":"bob@example\.org"\}\n`},
		{line: "account list", out: head + carol},
		{line: "domain remove example.org example.com", out: "removed domain example.org\nremoved domain example.com\n"},
		{line: "domain remove example.org", code: 4, says: "example.org"},
		{line: "account remove carol@example.net --yes", out: "removed account carol@example.net\n"},
		{line: "domain remove --json example.net", out: `\{"domain":"example\.net"\}\n`},
		{line: "domain list --json"},
		{line: "fsck", out: "All that is stored is as it should be.\n"},
		{line: "fsck --json"},
	})
	takesMail("alice@example.org", "550 5.7.1")
	if _, err := os.Stat(n.Mount + "/example.org"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of a domain that was removed: %v", err)
	}

	// A removed account leaves nothing to one of the same name.
	runCommands(t, n, []adminCommand{
		{line: "domain add example.org", out: "added domain example.org\n"},
		{line: "account add alice@example.org --password-stdin", stdin: "another\n", out: "added account alice@example.org\n"},
		{line: "unlock alice@example.org --password-stdin", stdin: "secret three\n", code: 6, says: "password"},
	})
	takesMail("bob@example.org", "550 5.1.1")
}
