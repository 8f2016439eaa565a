package pop3

import (
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// certificateFile is the server's certificate as clients want it.
func certificateFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: certificate().Certificate[0]}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a mail client, which Debian's package of its name brings.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	d := newDrop(t)
	text := "Subject: curl\r\n\r\n.dot\r\n..dots\r\nend\r\n"
	d.add(text, true)
	d.add("second\r\n", true)
	h := serve(t, Config{}, d)
	base := []string{"-sS", "--max-time", "20", "--cacert", certificateFile(t), "--user", alice + ":" + testPassword}
	for name, url := range map[string][]string{
		"plain": {"pop3://" + h.plain},
		"STLS":  {"--ssl-reqd", "pop3://" + h.plain},
		"TLS":   {"pop3s://" + h.tls},
	} {
		last := len(url) - 1
		curl := func(path string) string {
			args := append(append([]string{}, base...), url[:last]...)
			return run(t, nil, "curl", append(args, url[last]+path)...)
		}
		if got := curl("/1"); got != text {
			t.Errorf("%s: RETR gave %q", name, got)
		}
		if got, want := curl("/"), fmt.Sprintf("1 %d\r\n2 8\r\n", len(text)); got != want {
			t.Errorf("%s: LIST gave %q, want %q", name, got, want)
		}
	}
	run(t, nil, "curl", append(base, "--head", "--request", "DELE 1", "pop3://"+h.plain+"/")...)
	if n := d.files(); n != 1 {
		t.Errorf("%d messages left, want 1", n)
	}
}

func TestFetchmail(t *testing.T) {
	d := newDrop(t)
	for i := range 20 {
		d.add(fmt.Sprintf("From: bob@example.org\r\nSubject: number %d\r\n\r\n.body of %d\r\n", i, i), i%2 == 0)
	}
	h := serve(t, Config{}, d)
	_, port, err := net.SplitHostPort(h.plain)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rc := filepath.Join(dir, "rc")
	inbox := filepath.Join(dir, "inbox")
	config := fmt.Sprintf(`poll 127.0.0.1 service %s protocol pop3 uidl
  user %q password %q sslcertfile %q sslcommonname "mail.example.org" sslproto "TLS1.2+"
  fetchall nokeep mda "cat >> %s"
`, port, alice, testPassword, certificateFile(t), inbox)
	if err := os.WriteFile(rc, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + dir, "FETCHMAILHOME=" + dir}
	out := run(t, env, "fetchmail", "-v", "--nodetach", "-f", rc)
	if !strings.Contains(out, "STLS") {
		t.Errorf("fetchmail did not use STLS:\n%s", out)
	}
	text, err := os.ReadFile(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if !strings.Contains(string(text), fmt.Sprintf("Subject: number %d\n", i)) ||
			!strings.Contains(string(text), fmt.Sprintf("\n.body of %d\n", i)) {
			t.Errorf("message %d is missing", i)
		}
	}
	if n := d.files(); n != 0 {
		t.Errorf("%d messages left", n)
	}
}
