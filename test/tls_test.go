package test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailraft/test/client"
	"mailraft/test/node"
)

// newCertificate writes a certificate for a name, and its key, as an operator does who gets a new one: by renaming. The certificate is
// its own root.
func newCertificate(t *testing.T, certFile, keyFile, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		write(t, file+".new", string(pem.EncodeToMemory(block)))
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
}

// door is a way in that TLS is spoken at: at once, or after some commands.
type door struct {
	name, address string
	before        []string
}

func doors(n *node.Node) []door {
	return []door{
		{"SMTP", n.SMTP, []string{"EHLO client.example", "STARTTLS"}},
		{"submission", n.Submission, []string{"EHLO client.example", "STARTTLS"}},
		{"submissions", n.Submissions, nil},
		{"LMTP", n.LMTP, []string{"LHLO client.example", "STARTTLS"}},
		{"IMAP", n.IMAP, []string{"a STARTTLS"}},
		{"IMAPS", n.IMAPS, nil},
		{"POP3", n.POP3, []string{"STLS"}},
		{"POP3S", n.POP3S, nil},
	}
}

// enter goes in, up to the end of the handshake.
func (d door) enter(secure *tls.Config) error {
	c, err := net.Dial("tcp", d.address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(clientTime)); err != nil {
		return err
	}
	lines := bufio.NewReader(c)
	if d.before != nil {
		if line, err := lines.ReadString('\n'); err != nil {
			return fmt.Errorf("greeting %q: %w", line, err)
		}
	}
	for _, command := range d.before {
		if _, err := c.Write([]byte(command + "\r\n")); err != nil {
			return err
		}
		for more := true; more; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return fmt.Errorf("%s: %q: %w", command, line, err)
			}
			more = len(line) > 3 && line[3] == '-'
		}
	}
	return tls.Client(c, secure).Handshake()
}

// shows fails the test unless every door shows the certificate in a file, under a name, and none that in another file.
func shows(t *testing.T, n *node.Node, file, name string, notFile string) {
	t.Helper()
	secure, err := client.Trust(file, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range doors(n) {
		if err := d.enter(secure); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
		if notFile == "" {
			continue
		}
		other, err := client.Trust(notFile, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.enter(other); err == nil {
			t.Errorf("%s shows the certificate in %s", d.name, filepath.Base(notFile))
		}
	}
}

// reload has the daemon read the certificate again, and returns when every proxy shows it.
func reload(t *testing.T, n *node.Node) {
	t.Helper()
	mark := n.Mark()
	if err := syscall.Kill(n.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, proxy := range []string{"smtp", "imap", "pop3"} {
		n.AwaitLog(mark, "new certificate in use", "proxy", proxy)
	}
}

// The operator's certificate is what clients see; at SIGHUP another one takes its place, without a session being lost; what cannot be
// read leaves the old one where it is.
func TestCertificate(t *testing.T) {
	t.Parallel()
	const name = "mx.example.org"
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "mx.crt"), filepath.Join(dir, "mx.key")
	newCertificate(t, cert, key, name)
	n := node.Start(t, node.Flags("--tls-cert", cert, "--tls-key", key), node.Expecting("certificate not reloaded, the old one stays", "child died"))
	a := n.AddAccount("alice@example.org")
	shows(t, n, cert, name, "")
	first := write(t, filepath.Join(dir, "first.crt"), string(pemOf(t, cert)))

	secure, err := client.Trust(cert, name)
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.DialIMAP(n.IMAPS, secure)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := session.Login(a.Address, a.Password); err != nil {
		t.Fatal(err)
	}

	newCertificate(t, cert, key, name)
	shows(t, n, first, name, cert) // not before it is told
	reload(t, n)
	shows(t, n, cert, name, first)
	must(t, session, "SELECT INBOX")

	second := write(t, filepath.Join(dir, "second.crt"), string(pemOf(t, cert)))
	write(t, key, "no key")
	mark := n.Mark()
	if err := syscall.Kill(n.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n.AwaitLog(mark, "certificate not reloaded, the old one stays")
	shows(t, n, second, name, first)

	n.KillProxy("smtp") // what is started again gets the certificate that the others have
	shows(t, n, second, name, first)
	n.Stop()
	if _, wrote, err := tryRun(t, dir, n.Command()...); err == nil || !strings.Contains(string(wrote), key) {
		t.Errorf("a start with a key that is none: %v, %s", err, wrote)
	}
}

// Without a certificate of the operator's, the first start makes one for the node's name, and the others keep it.
func TestSelfSignedCertificate(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Flags("--hostname", "mx.example.org"))
	file := certificate(t, n)
	made := pemOf(t, file)
	shows(t, n, file, "mx.example.org", "")
	shows(t, n, file, "localhost", "")
	for path, mode := range map[string]os.FileMode{filepath.Dir(file): 0o700, strings.TrimSuffix(file, ".crt") + ".key": 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %v", path, fi.Mode(), err, mode)
		}
	}
	n.Stop()
	n.Start()
	if !bytes.Equal(pemOf(t, certificate(t, n)), made) {
		t.Error("the second start made another certificate")
	}
	shows(t, n, file, "mx.example.org", "")
	reload(t, n)
	shows(t, n, file, "mx.example.org", "")
}

func pemOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
