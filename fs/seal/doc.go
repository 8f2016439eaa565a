// Package seal turns a message into the bytes that are stored for it, and back.
//
// Sealed content is age(zstd(message)): one standard age v1 file with exactly one recipient stanza (hybrid
// ML-KEM-768 + X25519, or X25519 alone), around zstd frames of 1 MiB of plaintext each. Exported raw it opens with the
// stock tools, `age -d | zstd -d`. Content of more than one frame ends with a seek table (see [FrameSize]), so any part of
// it can be read without what lies before.
//
// Sealing needs the account's public key alone; opening needs an [Identity]. Whoever holds the public key can seal
// anything, so opening trusts nothing but what the reader itself bounds: frames, sizes and tables that a [Writer] would not
// have made are refused.
//
// The package leaves cryptography to filippo.io/age and golang.org/x/crypto; keeps no keys but those of an [Identity] that it was
// given, with what that has opened; and must never write plaintext anywhere but to the caller.
package seal
