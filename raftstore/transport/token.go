package transport

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode"
)

// Token lets one machine join the cluster: where it is, how to know it, and a secret that shows that the machine was invited.
type Token struct {
	Addresses []string // host:port of nodes
	CA        [32]byte // Authority.Fingerprint
	ID        string   // 16 hexadecimal digits: which secret it is
	Secret    []byte   // 16 random octets; the cluster keeps Hash of it alone
	Expires   time.Time
}

// What ParseToken may find wrong.
var (
	ErrNotToken     = errors.New("not a join token: it begins with " + tokenPrefix)
	ErrTokenCut     = errors.New("the join token was cut off: copy all of it")
	ErrTokenDamaged = errors.New("the join token was changed: copy it again")
	ErrTokenExpired = errors.New("the join token has expired: make a new one")
)

const (
	// The alphabet is letters, digits and underscores: a double click takes the whole token.
	tokenPrefix   = "mailraft_join_1_"
	tokenID       = 8
	tokenSecret   = 16
	tokenFixed    = 8 + 32 + tokenID + tokenSecret // what is before the addresses
	tokenChecksum = 4
	maxAddresses  = 16
	maxToken      = 2 + tokenFixed + 1 + maxAddresses*256 + tokenChecksum
)

var tokenText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewToken makes one with a new secret.
func NewToken(addresses []string, ca [32]byte, expires time.Time) (Token, error) {
	random := make([]byte, tokenID+tokenSecret)
	rand.Read(random)
	t := Token{addresses, ca, hex.EncodeToString(random[:tokenID]), random[tokenID:], time.Unix(expires.Unix(), 0)}
	return t, t.check()
}

func (t Token) check() error {
	if len(t.Addresses) == 0 || len(t.Addresses) > maxAddresses {
		return fmt.Errorf("a join token has 1 to %d addresses, not %d", maxAddresses, len(t.Addresses))
	}
	for _, a := range t.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" || len(a) > 255 {
			return fmt.Errorf("address %q in the join token: it has to be host:port", a)
		}
	}
	if id, err := hex.DecodeString(t.ID); err != nil || len(id) != tokenID || len(t.Secret) != tokenSecret {
		return errors.New("the join token has no secret")
	}
	return nil
}

// String is the token as one line: the prefix, then in base32 the length of what follows (2 octets, big-endian), the time (8, seconds
// since 1970), the fingerprint, the ID, the secret, the addresses (a count, then each after its length, 1 octet), and the first 4 octets of
// the SHA-256 of all that.
func (t Token) String() string {
	b := make([]byte, 2, maxToken)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	b = append(b, t.CA[:]...)
	id, _ := hex.DecodeString(t.ID)
	b = append(append(b, id...), t.Secret...)
	b = append(b, byte(len(t.Addresses)))
	for _, a := range t.Addresses {
		b = append(append(b, byte(len(a))), a...)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2+tokenChecksum))
	sum := sha256.Sum256(b)
	return tokenPrefix + tokenText.EncodeToString(append(b, sum[:tokenChecksum]...))
}

// ParseToken reads String's line, whatever blanks and line breaks a terminal put into it. When it has expired the token is returned
// beside ErrTokenExpired.
func ParseToken(line string, now time.Time) (Token, error) {
	line = strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, line))
	text, ok := strings.CutPrefix(line, tokenPrefix)
	switch {
	case !ok && line != "" && strings.HasPrefix(tokenPrefix, line):
		return Token{}, ErrTokenCut
	case !ok:
		return Token{}, ErrNotToken
	case len(text) > tokenText.EncodedLen(maxToken):
		return Token{}, ErrTokenDamaged
	}
	if text == "" {
		return Token{}, ErrTokenCut
	}
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return Token{}, ErrTokenDamaged
	}
	// The length comes first, so a token that was cut off is told from one that was changed. Cut anywhere, the rest need not be base32.
	switch length, n := len(text)*5/8, tokenLength(text); {
	case n < 0 || length < n:
		return Token{}, ErrTokenCut
	case length > n:
		return Token{}, ErrTokenDamaged
	}
	b, err := tokenText.DecodeString(text)
	if err != nil || tokenText.EncodeToString(b) != text {
		return Token{}, ErrTokenDamaged
	}
	body, sum := b[:len(b)-tokenChecksum], b[len(b)-tokenChecksum:]
	if want := sha256.Sum256(body); !bytes.Equal(want[:tokenChecksum], sum) {
		return Token{}, ErrTokenDamaged
	}
	t, err := decodeToken(body[2:])
	if err != nil {
		return Token{}, err
	}
	if !now.Before(t.Expires) {
		return t, fmt.Errorf("%w (it was good until %s)", ErrTokenExpired, t.Expires.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// tokenLength is how many octets the token has by its own word, -1 if not even that is there.
func tokenLength(text string) int {
	if len(text) < 8 {
		return -1
	}
	head, err := tokenText.DecodeString(text[:8])
	if err != nil {
		return -1
	}
	return max(2+int(binary.BigEndian.Uint16(head)), 2+tokenFixed+1+tokenChecksum)
}

func decodeToken(b []byte) (t Token, err error) {
	t.Expires = time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	b = b[8+copy(t.CA[:], b[8:]):]
	t.ID = hex.EncodeToString(b[:tokenID])
	t.Secret = bytes.Clone(b[tokenID : tokenID+tokenSecret])
	b = b[tokenID+tokenSecret:]
	n := int(b[0])
	b = b[1:]
	for range n {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return Token{}, ErrTokenDamaged
		}
		t.Addresses = append(t.Addresses, string(b[1:1+int(b[0])]))
		b = b[1+int(b[0]):]
	}
	if len(b) > 0 || t.check() != nil {
		return Token{}, ErrTokenDamaged
	}
	return t, nil
}

// Hash is what the cluster keeps of the secret. A plain SHA-256 does: the secret is random, there is nothing to guess.
func (t Token) Hash() [32]byte { return hashSecret(t.ID, t.Secret) }

// CheckSecret says whether the secret is the one of the token that has the hash, in constant time.
func CheckSecret(hash [32]byte, id string, secret []byte) bool {
	got := hashSecret(id, secret)
	return subtle.ConstantTimeCompare(hash[:], got[:]) == 1
}

func hashSecret(id string, secret []byte) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "mailraft join token %d %s ", len(id), id)
	h.Write(secret)
	return [32]byte(h.Sum(nil))
}
