package seal

import (
	"crypto/hkdf"
	"crypto/sha256"

	"golang.org/x/crypto/chacha20poly1305"
)

// isChunk tells whether an age payload of n bytes, its nonce with it, is one chunk.
func isChunk(n int64) bool { return n <= headerNonce+ageChunk+ageTag }

// openChunk decrypts an age payload of one chunk in place and returns what is in it; payload begins with the nonce. Package age opens
// payloads too, and takes buffers of 64 KiB for each; most mail is smaller. Errors: ErrCorrupt. Source: age-encryption.org/v1,
// "Payload".
func openChunk(payload []byte, key fileKey) ([]byte, error) {
	if len(payload) < headerNonce+ageTag {
		return nil, corrupt("age payload of %d bytes", len(payload))
	}
	nonce, chunk := payload[:headerNonce], payload[headerNonce:]
	streamKey, err := hkdf.Key(sha256.New, key[:], nonce, "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(streamKey)
	aead, err := chacha20poly1305.New(streamKey)
	if err != nil {
		return nil, err
	}
	// The chunk's number, which is 0, and a 1: it is the last.
	number := [chacha20poly1305.NonceSize]byte{chacha20poly1305.NonceSize - 1: 1}
	plain, err := aead.Open(chunk[:0], number[:], chunk, nil)
	if err != nil {
		return nil, corrupt("age payload: %w", err)
	}
	return plain, nil
}
