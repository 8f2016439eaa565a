package tlscert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSelfSignedIsMadeOnceAndServes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	p, made, err := SelfSigned(dir, "mx.example.org")
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := SelfSigned(dir, "other.example.org")
	if err != nil || made || !bytes.Equal(again.Cert, p.Cert) {
		t.Fatal("the second start made another certificate", made, err)
	}
	st, err := os.Stat(filepath.Join(dir, keyName))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st.Mode(), err)
	}

	cfg, err := p.Config()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.Cert)
	for _, name := range []string{"mx.example.org", "localhost", "127.0.0.1"} {
		if err := handshake(cfg, &tls.Config{RootCAs: roots, ServerName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := handshake(cfg, &tls.Config{RootCAs: roots, ServerName: "localhost", MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	cert := cfg.Certificates[0].Leaf
	if left := time.Until(cert.NotAfter); left < validity-24*time.Hour {
		t.Errorf("valid for %v only", left)
	}
}

func handshake(server, client *tls.Config) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Server(a, server).Handshake()
	return tls.Client(b, client).Handshake()
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	p, _, err := SelfSigned(dir, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	other, err := generate("b.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	if _, err := Load(cert, key); err == nil || !strings.Contains(err.Error(), cert) {
		t.Error(err)
	}
	if err := os.WriteFile(cert, p.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cert, key); err == nil || !strings.Contains(err.Error(), key) {
		t.Error(err)
	}
	if err := os.WriteFile(key, other.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cert, key); err == nil || !strings.Contains(err.Error(), cert) {
		t.Error("a key of another certificate was taken:", err)
	}
}
