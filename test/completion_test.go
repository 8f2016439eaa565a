package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailraft/test/node"
)

// What cobra's script asks for when Tab is pressed: the names offered, then a number that tells the shell what else to do.
const (
	filesToo    = ":0\n"
	nothingElse = ":4\n"
	foldersOnly = ":16\n"
)

// Tab completes what the running daemon knows and what may stand there.
func TestCompletion(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	n.AddAccount("albert@example.org")
	n.AddAccount("bob@example.net")
	n.Admin("alias", "add", "all@example.org", a.Address)
	n.Unlock(a)
	const alice, albert, bob, all = "alice@example.org\n", "albert@example.org\n", "bob@example.net\n", "all@example.org\n"
	for line, want := range map[string]string{
		"account remove ":        bob + albert + alice + nothingElse,
		"account remove al":      albert + alice + nothingElse,
		"account remove alice@":  alice + nothingElse,
		"account remove x":       nothingElse,
		"account remove a ":      nothingElse,
		"account passwd b":       bob + nothingElse,
		"account rekey b":        bob + nothingElse,
		"account quota b":        bob + nothingElse,
		"account quota b ":       nothingElse,
		"account list example.o": "example.org\n" + nothingElse,
		"account list x ":        nothingElse,
		"account add a":          nothingElse,
		"account add carol@":     "carol@example.net\ncarol@example.org\n" + nothingElse,
		"account add --key ":     "hybrid\nx25519\n" + nothingElse,
		"account add --quota ":   nothingElse,
		"account add --from ":    filesToo,
		"alias add ":             nothingElse,
		"alias add team@example": "team@example.net\nteam@example.org\n" + nothingElse,
		"alias add x@y al":       albert + alice + all + nothingElse,
		"alias add x@y " + strings.TrimSpace(alice) + " al": albert + all + nothingElse,
		"alias remove ":                      all + nothingElse,
		"alias list ":                        "example.net\nexample.org\n" + nothingElse,
		"domain add ":                        nothingElse,
		"domain remove ":                     "example.net\nexample.org\n" + nothingElse,
		"domain remove example.net example.": "example.org\n" + nothingElse,
		"unlock ":                            bob + albert + alice + nothingElse,
		"unlock --for ":                      nothingElse,
		"lock ":                              alice + nothingElse,
		"cat ":                               filesToo,
		"status ":                            nothingElse,
		"fsck --data ":                       foldersOnly,
		"quickstart ":                        foldersOnly,
		"quickstart x ":                      nothingElse,
		"serve --data ":                      foldersOnly,
		"serve --tls-cert ":                  filesToo,
		"serve --hostname ":                  nothingElse,
		"serve --log-format ":                "auto\ntext\njson\n" + nothingElse,
		"serve --config ":                    filesToo,
		"status --socket ":                   filesToo,
		"--socket x lock ":                   nothingElse, // no daemon there
	} {
		answer := n.Try("", append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)...)
		if answer.Stdout != want || answer.Code != 0 {
			t.Errorf("%q is completed to %q, not %q (exit code %d)", line, answer.Stdout, want, answer.Code)
		}
	}

	// In a real shell, addresses with an "@" and all.
	tool(t, "bash", "bash")
	script := "/usr/share/bash-completion/bash_completion"
	if _, err := os.Stat(script); err != nil {
		t.Fatalf("%v: apt-get install bash-completion", err)
	}
	w := onTerminal(t, []string{
		"MAILRAFT_SOCKET=" + filepath.Join(n.Run, "admin.sock"), "PATH=" + filepath.Dir(node.Program(t)) + ":" + os.Getenv("PATH"),
		"HOME=" + t.TempDir(), `PS1=<\#>`, // the prompt counts the commands
	}, "bash", "--norc", "-i")
	w.await("<1>")
	w.keys(". " + script + "; . <(mailraft completion bash)\n")
	w.await("<2>")
	w.keys("mailraft lo\talice@ex\t--json\n")
	w.await(`{"address":"alice@example.org","was_unlocked":true}`)
	w.await("<3>")
	w.keys("mailraft alias add a@example.n\tali\t--json\n")
	w.await(`{"alias":"a@example.net","targets":["alice@example.org"]}`)
	w.await("<4>")
	w.keys("exit\n")
	if code, seen := w.end(); code != 0 {
		t.Errorf("bash: exit code %d\n%s", code, seen)
	}

	n.Stop()
	for _, line := range []string{"account remove ", "lock ", "domain remove ", "alias add x@"} {
		answer := n.Try("", append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)...)
		if answer.Stdout != nothingElse || answer.Code != 0 || strings.Contains(answer.Stderr, "running") {
			t.Errorf("%q without a daemon: %q, %q, exit code %d", line, answer.Stdout, answer.Stderr, answer.Code)
		}
	}
}
