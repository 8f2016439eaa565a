package tlscert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"mailraft/raftstore/durable"
)

// Pair is a certificate with its chain, and its private key, both in PEM.
type Pair struct {
	Cert []byte
	Key  []byte
}

// Load reads a pair from its files and checks that they belong together. Errors name the file.
func Load(certFile, keyFile string) (Pair, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return Pair{}, fmt.Errorf("tls.cert: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return Pair{}, fmt.Errorf("tls.key: %w", err)
	}
	p := Pair{cert, key}
	if _, err := p.Config(); err != nil {
		return Pair{}, fmt.Errorf("tls.cert %s with tls.key %s: %w", certFile, keyFile, err)
	}
	return p, nil
}

// Names of the files in the folder of a self-signed pair.
const (
	certName = "self-signed.crt"
	keyName  = "self-signed.key"
)

// SelfSigned reads the pair in dir, or makes one for hostname and localhost if there is none. made says that it did.
func SelfSigned(dir, hostname string) (p Pair, made bool, err error) {
	certFile, keyFile := filepath.Join(dir, certName), filepath.Join(dir, keyName)
	switch _, err := os.Stat(certFile); {
	case err == nil:
		p, err := Load(certFile, keyFile)
		return p, false, err
	case !errors.Is(err, fs.ErrNotExist):
		return Pair{}, false, err
	}
	if p, err = generate(hostname, time.Now()); err != nil {
		return Pair{}, false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Pair{}, false, err
	}
	// The certificate comes last: while it is not there, the pair is made anew.
	if err := durable.WriteFile(keyFile, p.Key, 0o600); err != nil {
		return Pair{}, false, err
	}
	return p, true, durable.WriteFile(certFile, p.Cert, 0o644)
}

// validity of a self-signed certificate.
const validity = 10 * 365 * 24 * time.Hour

func generate(hostname string, now time.Time) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Pair{}, err
	}
	names := []string{"localhost"}
	if hostname != "" && hostname != "localhost" {
		names = []string{hostname, "localhost"}
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: names[0]},
		DNSNames:     names,
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Pair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// Config is for a server that shows the pair, by TLS 1.2 or later.
func (p Pair) Config() (*tls.Config, error) {
	cert, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}, nil
}
