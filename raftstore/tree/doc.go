// Package tree is the mail tree: the replicated state machine of one shard. It holds the inodes, directory entries, sealed
// contents, UIDs and MODSEQs of the shard's accounts in a Pebble store, and changes them only by Apply.
//
// Apply is deterministic: the same commands in the same order make the same bytes on every replica. There is no clock, no
// randomness and no map order in it; numbers, names and times come with the command. The package knows neither Raft nor
// FUSE, nor does it ever see a key or a plaintext.
//
// View reads the state that has been applied. Keys and records are described in docs/format.md.
package tree
