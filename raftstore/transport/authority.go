package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	authorityLife   = 20 * 365 * 24 * time.Hour
	certificateLife = 90 * 24 * time.Hour
	clockSkew       = time.Hour // how far the clock of the node that signs may be ahead of one that checks

	// nodeDomain is what the DNS names in the certificates end in: .internal is nobody's in the public DNS, so a node's certificate can't
	// be taken for one of a mail server, whatever the node is called.
	nodeDomain = "node.mailraft.internal"
	maxName    = 200 // octets; with the domain they have to fit in a DNS name
)

// CheckName says what is wrong with a node's name: one or more labels of a-z, 0-9 and inner hyphens, parted by dots, 200 octets at most.
func CheckName(node string) error {
	if node == "" || len(node) > maxName {
		return fmt.Errorf("node name %.40q: has to have 1 to %d characters", node, maxName)
	}
	for label := range strings.SplitSeq(node, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("node name %q: has to be like a host name, in small letters", node)
		}
	}
	return nil
}

// Authority is the cluster's certificate authority: who holds it can make certificates for any node.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes the authority of a new cluster, with an ECDSA P-256 key.
func NewAuthority(cluster string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Mailraft cluster"}, CommonName: cluster},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
		// Even a machine that was told to trust it in general takes nothing else from it.
		PermittedDNSDomains:         []string{nodeDomain},
		PermittedDNSDomainsCritical: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cert, key}, nil
}

// ParseAuthority takes what Marshal gave.
func ParseAuthority(certDER, keyPKCS8 []byte) (*Authority, error) {
	cert, err := parseAuthorityCertificate(certDER)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyPKCS8)
	if err != nil {
		return nil, errors.New("the cluster's authority: its key is not in PKCS #8") // err may quote the key
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the cluster's authority: its key is not an ECDSA key")
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the cluster's authority: certificate and key do not belong together")
	}
	return &Authority{cert, key}, nil
}

func parseAuthorityCertificate(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the cluster's authority: %w", err)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.CheckSignatureFrom(cert) != nil {
		return nil, errors.New("the cluster's authority: its certificate is not one of an authority")
	}
	return cert, nil
}

// Marshal gives the certificate in DER and the key in PKCS #8, for ParseAuthority.
func (a *Authority) Marshal() (certDER, keyPKCS8 []byte, err error) {
	keyPKCS8, err = x509.MarshalPKCS8PrivateKey(a.key)
	return a.cert.Raw, keyPKCS8, err
}

// Fingerprint is the SHA-256 of the certificate in DER: a Token has it.
func (a *Authority) Fingerprint() [32]byte { return sha256.Sum256(a.cert.Raw) }

// Certificate is the authority's certificate in DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// Issue makes a certificate for the node's key, an ECDSA P-256 or Ed25519 one; it holds for 90 days from now, and since an hour ago.
// Whether that key is the node's is for the caller to know.
func (a *Authority) Issue(key crypto.PublicKey, node string, now time.Time) (certDER []byte, err error) {
	if err := CheckName(node); err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("certificate for node %s: its ECDSA key is not on P-256", node)
		}
	default:
		return nil, fmt.Errorf("certificate for node %s: its key is neither ECDSA nor Ed25519", node)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Mailraft node"}, CommonName: node[:min(len(node), 64)]}, // RFC 5280: 64 at most
		DNSNames:              []string{node + "." + nodeDomain},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(certificateLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if certDER, err = x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key); err != nil {
		return nil, fmt.Errorf("certificate for node %s: %w", node, err)
	}
	return certDER, nil
}

// nodeOf is the name of the node that the certificate is for. What is not exactly as Issue makes it has none.
func nodeOf(cert *x509.Certificate) (string, error) {
	if cert.IsCA || len(cert.DNSNames) != 1 || len(cert.EmailAddresses)+len(cert.IPAddresses)+len(cert.URIs) > 0 {
		return "", errors.New("the certificate is not one of a node")
	}
	node, ok := strings.CutSuffix(cert.DNSNames[0], "."+nodeDomain)
	if !ok {
		return "", errors.New("the certificate is not one of a node")
	}
	return node, CheckName(node)
}
