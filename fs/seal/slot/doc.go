// Package slot wraps an account's private key under a password, and unwraps it: the LUKS idea, one slot a way in.
//
// A password is stretched with Argon2id (RFC 9106) to a key-encryption key, and of a random secret HKDF (RFC 5869)
// makes one; under it XChaCha20-Poly1305 seals the
// encoded identity. The additional data binds the account, the slot, its kind and all derivation parameters, so a record
// cannot be moved to another account or slot, nor its parameters weakened. The AEAD's tag is the password check: no
// verifier is stored.
//
// Records come from storage that others may write, so what they ask for is bounded before any memory is spent. Derivations
// take turns at a [Gate], which bounds the memory that all of them take together, and gives each party that waits its share.
package slot
