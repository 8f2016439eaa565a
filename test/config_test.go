package test

import (
	"path/filepath"
	"strings"
	"testing"

	"mailraft/test/client"
	"mailraft/test/node"
)

// The environment wins over the file, and a flag over both.
func TestConfigurationOrder(t *testing.T) {
	const text = `
user = "5001:5001"
max_message = "1M"
hostname = "file.example"
`
	file := write(t, filepath.Join(t.TempDir(), "mailraft.toml"), text)
	t.Setenv("MAILRAFT_CONFIG", file)
	t.Setenv("MAILRAFT_MAX_MESSAGE", "2M")
	t.Setenv("MAILRAFT_HOSTNAME", "environment.example")
	n := node.Start(t, node.Flags("--hostname", "flag.example"))
	if got := n.ProcessField(n.Proxy("smtp"), "Uid"); got != "5001 5001 5001 5001" {
		t.Errorf("the file alone names the user, it is %s", got)
	}
	s, err := client.DialSMTP(n.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Quit()
	if !strings.Contains(s.Caps+"\n", "SIZE 2097152\n") {
		t.Errorf("the environment has another size than the file, EHLO tells\n%s", s.Caps)
	}
	if !strings.HasPrefix(s.Caps, "250-flag.example") {
		t.Errorf("the flag has another name than environment and file, EHLO tells\n%s", s.Caps)
	}
	shown := n.Admin("config", "show")
	for _, line := range []string{`user = "5001:5001"`, `max_message = "2M"`, `hostname = "environment.example"`, `unlock_grace = "30s"`} {
		if !strings.Contains(shown, "\n"+line+"\n") {
			t.Errorf("config show does not have %s:\n%s", line, shown)
		}
	}
	other := write(t, filepath.Join(t.TempDir(), "other.toml"), "unlock_grace = \"1s\"\n")
	if shown := n.Admin("config", "show", "--config", other); !strings.Contains(shown, "\nunlock_grace = \"1s\"\n") || strings.Contains(shown, "5001") {
		t.Errorf("config show with a file that is named by a flag:\n%s", shown)
	}
}
