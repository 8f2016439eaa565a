package test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"mailraft/test/message"
	"mailraft/test/node"
)

// owner keeps a private key that the server never sees, and opens with Debian's age what is sealed to it.
type owner struct {
	t              *testing.T
	age            string
	key, publicKey string // a file; age1...
}

func newOwner(t *testing.T) *owner {
	t.Helper()
	o := &owner{t: t, age: tool(t, "age", "age"), key: filepath.Join(t.TempDir(), "key.txt")}
	run(t, t.TempDir(), tool(t, "age-keygen", "age"), "--output", o.key)
	o.publicKey = strings.TrimSpace(string(run(t, t.TempDir(), tool(t, "age-keygen", "age"), "-y", o.key)))
	return o
}

func (o *owner) open(sealed []byte) []byte {
	o.t.Helper()
	file := write(o.t, filepath.Join(o.t.TempDir(), "message.age"), string(sealed))
	return run(o.t, o.t.TempDir(), o.age, "--decrypt", "--identity", o.key, file)
}

// attached is the sealed message of what encloses it.
func attached(t *testing.T, raw []byte) []byte {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil || m.Header.Get("Subject") != "Sealed message" {
		t.Fatalf("%v: %.200q", err, raw)
	}
	_, text, _ := bytes.Cut(raw, []byte("Content-Transfer-Encoding: base64\r\n\r\n"))
	text, _, _ = bytes.Cut(text, []byte("--="))
	return decoded(t, text)
}

func decoded(t *testing.T, text []byte) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(text), "\r\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var enclosedItem = regexp.MustCompile(`(?i)"application" "octet-stream" \("name" "message\.age"\) NIL NIL "base64" (\d+)`)

// An account that was made with --public-key takes mail that the server can't open: IMAP, POP3 and the mount serve it as an attachment, which
// age opens with the owner's key.
func TestPublicKey(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	n := node.Start(t)
	a := n.AddAccount("pat@example.org", "--public-key", o.publicKey)
	const secret = "a line that nobody but Pat reads"
	all := [][]byte{[]byte("Subject: small\r\n\r\n" + secret + "\r\n"), append(message.Text(2, 1_500_000), secret+"\r\n"...)}
	for id, raw := range all {
		send(t, n, a, id, raw)
	}
	opensTo := func(by string, id int, sealed []byte) {
		t.Helper()
		if got := o.open(sealed); !bytes.HasSuffix(got, all[id]) {
			t.Errorf("%s: %s", by, difference(got, all[id]))
		}
	}
	listedNotRead(t, n, a)
	paths := files(t, a.Home)

	c := logIn(t, n, a)
	must(t, c, "SELECT INBOX")
	sizes := make([]int, len(all))
	for i := range all {
		r := must(t, c, "FETCH %d (RFC822.SIZE BODYSTRUCTURE BODY.PEEK[2])", i+1)
		if len(r) == 0 || len(r[0].Literals) == 0 {
			t.Fatalf("%q", texts(r))
		}
		opensTo("IMAP, part 2", i, decoded(t, r[0].Literals[0]))
		structure := enclosedItem.FindStringSubmatch(r[0].Text)
		if structure == nil || structure[1] != strconv.Itoa(len(r[0].Literals[0])) {
			t.Errorf("the attachment has %d octets, and the structure %s", len(r[0].Literals[0]), r[0].Text)
		}
		r2 := must(t, c, "FETCH %d BODY.PEEK[]", i+1)
		opensTo("IMAP", i, attached(t, r2[0].Literals[0]))
		if size := sizeItem.FindStringSubmatch(r[0].Text); size == nil || size[1] != strconv.Itoa(len(r2[0].Literals[0])) {
			t.Errorf("%d octets, and %s", len(r2[0].Literals[0]), r[0].Text)
		}
		sizes[i] = len(r2[0].Literals[0])
	}
	// What is appended is sealed too; folders, flags and keywords are as in any account.
	if err := c.Append("INBOX", "", all[0]); err != nil {
		t.Fatal(err)
	}
	must(t, c, "CREATE Archive")
	must(t, c, "SUBSCRIBE Archive")
	if said := texts(must(t, c, `LSUB "" *`)); !strings.Contains(said, "Archive") {
		t.Errorf("subscribed: %s", said)
	}
	must(t, c, "STORE 3 +FLAGS ($Important)")
	must(t, c, "COPY 3 Archive")
	must(t, c, "SELECT Archive")
	r := must(t, c, "FETCH 1 (FLAGS BODY.PEEK[])")
	if !strings.Contains(r[0].Text, "$Important") {
		t.Errorf("keywords: %s", r[0].Text)
	}
	opensTo("appended and copied", 0, attached(t, r[0].Literals[0]))

	p := logInPOP3(t, n, a)
	for i := range all {
		listed, err := p.Command("LIST %d", i+1)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := p.Multi("RETR %d", i+1)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(strings.TrimSpace(listed), fmt.Sprintf("%d %d", i+1, len(raw))) || len(raw) != sizes[i] {
			t.Errorf("%d octets, %q", len(raw), listed)
		}
		opensTo("POP3", i, attached(t, raw))
	}
	if err := p.Quit(); err != nil {
		t.Fatal(err)
	}

	for _, path := range paths {
		b, err := os.ReadFile(path)
		if st, serr := os.Stat(path); err != nil || serr != nil || st.Size() != int64(len(b)) {
			t.Errorf("%s: %d octets, %v", path, len(b), err)
		}
		found := false
		for _, raw := range all {
			found = found || bytes.HasSuffix(o.open(attached(t, b)), raw) && bytes.HasSuffix(o.open([]byte(n.Admin("cat", "--sealed", path))), raw)
		}
		if !found {
			t.Errorf("%s is none of the messages", path)
		}
	}
	secrets := newNeedles()
	secrets.add("a line of the messages", []byte(secret))
	nothingIn(t, secrets, n.Data)
	if err := c.Logout(); err != nil {
		t.Fatal(err)
	}
	if list := n.Admin("account", "list"); !strings.Contains(list, "x25519, its owner's") {
		t.Errorf("list: %s", list)
	}
	if list := n.Admin("account", "list", "--json"); !strings.Contains(list, `"pinned":true`) || !strings.Contains(list, o.publicKey) {
		t.Errorf("list: %s", list)
	}

	// A lost password is replaced, and no mail is lost with it.
	lost := a
	a.Password = "another " + a.Password
	n.AdminWith(a.Password+"\n", "account", "passwd", a.Address, "--discard-mail-key", "--yes", "--password-stdin")
	if err := tryLogIn(t, n, lost); err == nil {
		t.Error("the lost password lets in")
	}
	n.Admin("account", "move", a.Address, "1")
	n.Admin("account", "move", a.Address, "3")
	c = logIn(t, n, a)
	must(t, c, "SELECT INBOX")
	opensTo("in another shard, with another password", 1, attached(t, must(t, c, "FETCH 2 BODY.PEEK[]")[0].Literals[0]))
	n.Fsck()
}

// What the server can't do for such an account, it says; a key that is none is refused, and a private one is never repeated.
func TestPublicKeyRefusals(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	n := node.Start(t)
	n.Admin("domain", "add", "example.org")
	b, err := os.ReadFile(o.key)
	if err != nil {
		t.Fatal(err)
	}
	private := regexp.MustCompile(`AGE-SECRET-KEY-\S+`).FindString(string(b))
	for what, key := range map[string]string{
		"a private key": private, "in lower case": strings.ToLower(private), "cut short": o.publicKey[:40], "in upper case": strings.ToUpper(o.publicKey),
		"an SSH key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN", "words": "my key",
	} {
		answer := n.Try("", "account", "add", "pat@example.org", "--random", "--public-key", key)
		if answer.Code != 2 || !strings.Contains(answer.Stderr, "key") || strings.Contains(strings.ToUpper(answer.Stdout+answer.Stderr), strings.ToUpper(key)) {
			t.Errorf("%s: %+v", what, answer)
		}
	}
	if answer := n.Try("", "account", "add", "pat@example.org", "--random", "--public-key", o.publicKey, "--key", "hybrid"); answer.Code != 2 {
		t.Errorf("with a kind: %+v", answer)
	}

	a := n.AddAccount("pat@example.org", "--public-key", o.publicKey)
	raw := oneText(t, n, a, 1)
	if answer := n.Try(a.Password+"\n", "recovery", "new", a.Address, "--password-stdin"); answer.Code == 0 || !strings.Contains(answer.Stderr, "owner's") {
		t.Errorf("a recovery code: %+v", answer)
	}
	if answer := n.Try(a.Password+"\n", "account", "rekey", a.Address, "--password-stdin", "--yes"); answer.Code == 0 || !strings.Contains(answer.Stderr, "owner's") {
		t.Errorf("a new key pair: %+v", answer)
	}
	app := strings.TrimSpace(n.AdminWith(a.Password+"\n", "app-password", "add", a.Address, "phone", "--password-stdin"))
	app = app[strings.LastIndexAny(app, " \n")+1:]
	if err := tryLogIn(t, n, node.Account{Address: a.Address, Password: app}); err != nil {
		t.Errorf("an app password: %v", err)
	}

	exported := filepath.Join(t.TempDir(), "mail")
	n.AdminWith(a.Password+"\n", "export", a.Address, exported, "--quiet", "--password-stdin")
	for _, path := range files(t, exported) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.open(attached(t, b)); !bytes.HasSuffix(got, raw) {
			t.Errorf("exported: %s", difference(got, raw))
		}
	}

	// A node that is made of a backup has it as it was.
	recipient, key := identity(t)
	dir := t.TempDir() + "/backup"
	n.Admin("backup", dir, "--quiet", "--recipient", recipient)
	m := restored(t, dir, key)
	c := logIn(t, m, a)
	must(t, c, "SELECT INBOX")
	if got := o.open(attached(t, must(t, c, "FETCH 1 BODY.PEEK[]")[0].Literals[0])); !bytes.HasSuffix(got, raw) {
		t.Errorf("restored: %s", difference(got, raw))
	}
}
