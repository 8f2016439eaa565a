package seal

import (
	"bytes"
	"fmt"
	"io"

	"filippo.io/age"
)

// SealTo seals the private key to another public key, whose holder can open with [OpenIdentity] what was sealed to this one: a standard age
// file of what Encode gives. Errors: ErrWiped.
func (i Identity) SealTo(to *Recipient) ([]byte, error) {
	encoded, err := i.Encode()
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, to.key)
	if err == nil {
		_, err = w.Write(encoded)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("seal a private key: %w", err)
	}
	return sealed.Bytes(), nil
}

// OpenIdentity opens a private key that SealTo sealed to by's public key. Errors: ErrWiped; ErrCorrupt, also for what is sealed to another key.
func OpenIdentity(sealed []byte, by Identity) (Identity, error) {
	if by.Wiped() {
		return Identity{}, ErrWiped
	}
	key := by.s.key()
	if key == nil {
		return Identity{}, ErrWiped
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), key)
	if err != nil {
		return Identity{}, corrupt("sealed private key: %w", err)
	}
	encoded := make([]byte, maxEncoded+1)
	defer clear(encoded)
	n, err := io.ReadFull(r, encoded)
	if err != io.ErrUnexpectedEOF { // nil: it is longer than any; io.EOF: it is empty
		return Identity{}, corrupt("sealed private key: %d octets or more, %v", n, err)
	}
	id, err := ParseIdentity(encoded[:n])
	if err != nil {
		return Identity{}, corrupt("sealed private key: %w", err)
	}
	return id, nil
}

// maxEncoded is the size of the longest encoding of a private key, in bytes.
const maxEncoded = 77
