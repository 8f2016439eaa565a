// Package staging holds the plaintext of files while they are written: what lies in a maildir's tmp/ before it is sealed
// and committed.
//
// A [File] is random access. It is held in memory while it is small and the node's [Budget] allows; else it is spilled to
// an unlinked file on a local disk, in chunks sealed with XChaCha20-Poly1305 under a throw-away key that is only ever in
// this File. So nothing of it survives the process, and no plaintext reaches a disk.
//
// Files promise no durability: a crash loses them, as a maildir's tmp/ may.
package staging
