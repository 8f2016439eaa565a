package test

import (
	"encoding/base64"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"mailraft/test/client"
	"mailraft/test/node"
)

// TestGsasl logs in by SCRAM-SHA-256 with a client that is not ours, to the IMAP and the submission port, bound to a connection of each
// version of TLS: with the account's password and with an app password. A wrong password, and one that was revoked, is refused.
func TestGsasl(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	a := n.AddAccount("alice@example.org")
	app := appPassword(t, n, a, "phone", "imap")
	try := func(service, address, mechanism, tls, password string) string {
		t.Helper()
		return gsasl(t, a.Address, service, address, mechanism, tls, password)
	}
	for _, tls := range []string{"TLS1.3", "TLS1.2"} {
		for service, address := range map[string]string{"imap": n.IMAP, "smtp": n.Submission} {
			for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"} {
				what := fmt.Sprint(mechanism, " to ", service, " over ", tls)
				if said := try(service, address, mechanism, tls, a.Password); said != "in" {
					t.Errorf("%s: %s", what, said)
				}
				if said := try(service, address, mechanism, tls, a.Password+"x"); said == "in" {
					t.Errorf("%s: a wrong password is in", what)
				}
				if said := try(service, address, mechanism, tls, app); (said == "in") != (service == "imap") {
					t.Errorf("%s: the app password for imap: %s", what, said)
				}
			}
		}
	}
	n.Admin("app-password", "remove", a.Address, "phone")
	if said := try("imap", n.IMAP, "SCRAM-SHA-256", "TLS1.3", app); said == "in" {
		t.Error("a revoked app password is in")
	}
}

// gsasl logs in with gsasl(1), which checks the server's proof as well: "in", or what it said of why not.
func gsasl(t *testing.T, user, service, address, mechanism, tls, password string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--" + service, "--mechanism", mechanism, "--authentication-id", user, "--password", password, "--starttls",
		"--x509-ca-file", "", "--priority", "NORMAL:-VERS-ALL:+VERS-" + tls, "--hostname", "localhost"}
	if !strings.HasSuffix(mechanism, "PLUS") {
		args = append(args, "--no-cb") // else it takes an attacker for whoever hides the other mechanism (RFC 5802, 6)
	}
	said, err := exec.Command(tool(t, "gsasl", "gsasl"), append(args, host, port)...).CombinedOutput()
	if (err == nil) != strings.Contains(string(said), "Client authentication finished (server trusted)") {
		t.Fatalf("%v: %s", err, said)
	}
	if err == nil {
		return "in"
	}
	return string(said)
}

// appPassword makes an app password, and answers it.
func appPassword(t *testing.T, n *node.Node, a node.Account, name, protocols string) string {
	t.Helper()
	r := n.Try(a.Password+"\n", "app-password", "add", a.Address, name, "--protocol", protocols, "--password-stdin")
	lines := strings.Split(r.Stdout, "\n")
	if r.Code != 0 || len(lines) < 3 {
		t.Fatalf("%+v", r)
	}
	return strings.TrimSpace(lines[2])
}

// TestSCRAMReadsMail: who only proves the password reads mail that is older than the login, by POP3; and an app password, sent, does by
// IMAP, until it is revoked, on any node.
func TestSCRAMReadsMail(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 3)
	a := nodes[0].AddAccount("alice@example.org")
	send(t, nodes[0], a, 1, authored("x@elsewhere.example", "older"))
	app := appPassword(t, nodes[1], a, "laptop", "imap")
	for _, n := range nodes {
		proves(t, n, a)
		c, err := client.DialIMAP(n.IMAP, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login(a.Address, app); err != nil {
			t.Fatalf("%s: %v", n.Name, err)
		}
		must(t, c, "EXAMINE INBOX")
		if all := must(t, c, "UID FETCH 1 (BODY.PEEK[])"); len(all) == 0 || len(all[0].Literals) != 1 || !strings.Contains(string(all[0].Literals[0]), "Subject: older") {
			t.Errorf("%s: %v", n.Name, all)
		}
	}
	listed := nodes[2].Admin("app-password", "list", a.Address)
	if !strings.Contains(listed, "laptop") || strings.Contains(listed, "never") {
		t.Errorf("when it was used is not told: %s", listed)
	}
	nodes[2].Admin("app-password", "remove", a.Address, "laptop")
	for _, n := range nodes {
		c, err := client.DialIMAP(n.IMAP, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login(a.Address, app); err == nil {
			t.Errorf("%s: what was revoked logs in", n.Name)
		}
	}
}

// proves logs in to the POP3 port by SCRAM, and reads the first message.
func proves(t *testing.T, n *node.Node, a node.Account) {
	t.Helper()
	who, err := scram.SHA256.NewClient(a.Address, a.Password, "")
	if err != nil {
		t.Fatal(err)
	}
	exchange := who.NewConversation()
	c, err := client.DialPOP3(n.POP3, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Sendf("AUTH SCRAM-SHA-256"); err != nil {
		t.Fatal(err)
	}
	for {
		answer, err := c.Line()
		challenge, ok := strings.CutPrefix(answer, "+ ")
		if err != nil || !ok {
			if !strings.HasPrefix(answer, "+OK") || !exchange.Valid() {
				t.Fatalf("%s: %q, %v", n.Name, answer, err)
			}
			break
		}
		decoded, err := base64.StdEncoding.DecodeString(challenge)
		response := ""
		if err == nil {
			response, err = exchange.Step(string(decoded))
		}
		if err == nil {
			err = c.Sendf("%s", base64.StdEncoding.EncodeToString([]byte(response)))
		}
		if err != nil {
			t.Fatalf("%s: %q, %v", n.Name, answer, err)
		}
	}
	found := false
	err = c.RetrieveAll(1, func(_ int, message []byte) { found = strings.Contains(string(message), "Subject: older") })
	if err != nil || !found {
		t.Errorf("%s: the message is not there: %v", n.Name, err)
	}
}
