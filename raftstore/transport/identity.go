package transport

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/raftstore/durable"
)

// The files of an identity, in its folder. node.pem is written last: without it there is no identity yet.
const (
	authorityFile   = "ca.pem"
	keyFile         = "node.key"
	certificateFile = "node.pem"

	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// Identity is what a node proves its name with: a key for life, a certificate that is renewed, and the authority that it is under.
type Identity struct {
	dir  string
	name string
	key  *ecdsa.PrivateKey
	spki [32]byte
	ca   *x509.Certificate
	pool *x509.CertPool

	renewing sync.Mutex // one writer of node.pem
	current  atomic.Pointer[tls.Certificate]
}

// NodeKey reads the node's private key in the folder, or makes it, an ECDSA P-256 one: a machine has its key before it asks for its
// certificate, and asks for the same one again after a crash.
func NodeKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, keyFile)
	der, err := readPEM(path, pemKey)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(dir)
	} else if err != nil {
		return nil, err
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s: holds no ECDSA key in PKCS #8", path)
	}
	return key, nil
}

func makeKey(dir string) (*ecdsa.PrivateKey, error) {
	// With a certificate, a missing key was lost. A new one would be refused everywhere, as its hash is not the pinned one.
	if _, err := os.Stat(filepath.Join(dir, certificateFile)); err == nil {
		return nil, fmt.Errorf("%s: the key of %s is missing: restore it, or join as a new node", filepath.Join(dir, keyFile), certificateFile)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})
	defer clear(b)
	return key, durable.WriteFile(filepath.Join(dir, keyFile), b, 0o600)
}

// CreateIdentity keeps the authority and the certificate that were given for NodeKey's key of the same folder. Whether the authority is
// the right one, the caller has checked.
func CreateIdentity(dir string, caDER, certDER []byte) (*Identity, error) {
	ca, err := parseAuthorityCertificate(caDER)
	if err != nil {
		return nil, err
	}
	key, err := NodeKey(dir)
	if err != nil {
		return nil, err
	}
	id, err := newIdentity(dir, key, ca, certDER)
	if err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, authorityFile), ca.Raw); err != nil {
		return nil, err
	}
	return id, writePEM(filepath.Join(dir, certificateFile), certDER)
}

// LoadIdentity reads it. fs.ErrNotExist: the node has none yet. The certificate may have run out meanwhile: KeepValid renews it.
func LoadIdentity(dir string) (*Identity, error) {
	certDER, err := readPEM(filepath.Join(dir, certificateFile), pemCertificate)
	if err != nil {
		return nil, err
	}
	// From here on, what is missing was lost; it is not a node without an identity.
	caDER, err := readPEM(filepath.Join(dir, authorityFile), pemCertificate)
	if err != nil {
		return nil, fmt.Errorf("%v: restore it from another node of the cluster", err)
	}
	ca, err := parseAuthorityCertificate(caDER)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, authorityFile), err)
	}
	key, err := NodeKey(dir)
	if err != nil {
		return nil, err
	}
	return newIdentity(dir, key, ca, certDER)
}

func newIdentity(dir string, key *ecdsa.PrivateKey, ca *x509.Certificate, certDER []byte) (*Identity, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	id := &Identity{dir: dir, key: key, spki: sha256.Sum256(spki), ca: ca, pool: x509.NewCertPool()}
	id.pool.AddCert(ca)
	cert, err := id.fit(certDER)
	if err != nil {
		return nil, err
	}
	if id.name, err = nodeOf(cert.Leaf); err != nil {
		return nil, err
	}
	id.current.Store(cert)
	return id, nil
}

// fit says whether the certificate is under the authority, and for this key.
func (id *Identity) fit(der []byte) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the node's certificate: %w", err)
	}
	if !id.key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the node's certificate is for another key")
	}
	if err := leaf.CheckSignatureFrom(id.ca); err != nil {
		return nil, fmt.Errorf("the node's certificate is not under the cluster's authority: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.key, Leaf: leaf}, nil
}

// Name is the node's name.
func (id *Identity) Name() string { return id.name }

// PublicKey is the node's.
func (id *Identity) PublicKey() crypto.PublicKey { return id.key.Public() }

// Key is the SHA-256 of the node's public key (SubjectPublicKeyInfo in DER): Member.Key.
func (id *Identity) Key() [32]byte { return id.spki }

// Authority is the certificate of the cluster's authority, in DER.
func (id *Identity) Authority() []byte { return id.ca.Raw }

// NotAfter is when the present certificate runs out.
func (id *Identity) NotAfter() time.Time { return id.current.Load().Leaf.NotAfter }

// RenewAt is when the certificate has a third of its life left.
func (id *Identity) RenewAt() time.Time {
	leaf := id.current.Load().Leaf
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// Renew takes a new certificate for the same key and name. New connections have it; open ones stay as they are.
func (id *Identity) Renew(certDER []byte) error {
	cert, err := id.fit(certDER)
	if err != nil {
		return err
	}
	if name, err := nodeOf(cert.Leaf); err != nil || name != id.name {
		return fmt.Errorf("the new certificate is not for node %s", id.name)
	}
	id.renewing.Lock()
	defer id.renewing.Unlock()
	if err := writePEM(filepath.Join(id.dir, certificateFile), certDER); err != nil {
		return err
	}
	id.current.Store(cert)
	return nil
}

const (
	lookAgain  = time.Hour   // timers do not see a clock that is set, or a machine that slept
	renewRetry = time.Minute // after sign failed: the directory may have had no quorum
)

// KeepValid renews the certificate when it is time for it, at once if that has passed, until ctx ends. sign makes a certificate for the
// key (Authority.Issue).
func (id *Identity) KeepValid(ctx context.Context, sign func(context.Context, crypto.PublicKey) (certDER []byte, err error), log *slog.Logger) {
	for {
		wait := lookAgain
		if left := time.Until(id.RenewAt()); left > 0 {
			wait = min(wait, left)
		} else if err := id.renew(ctx, sign); err != nil {
			if ctx.Err() != nil {
				return
			}
			log.Warn("the node's certificate was not renewed", "runs_out", id.NotAfter(), "error", err)
			wait = renewRetry
		} else {
			log.Info("the node's certificate was renewed", "runs_out", id.NotAfter())
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (id *Identity) renew(ctx context.Context, sign func(context.Context, crypto.PublicKey) ([]byte, error)) error {
	der, err := sign(ctx, id.key.Public())
	if err != nil {
		return err
	}
	if leaf, err := x509.ParseCertificate(der); err == nil && !leaf.NotAfter.After(id.NotAfter()) {
		return errors.New("the new certificate holds no longer than the old one: is this machine's clock right?")
	}
	return id.Renew(der)
}

func readPEM(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: holds no %s in PEM", path, kind)
	}
	return block.Bytes, nil
}

func writePEM(path string, der []byte) error {
	return durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}), 0o644)
}
