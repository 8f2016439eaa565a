// Package raftstore is what is replicated: the directory and the mail shards of a node, opened as one store. It finds the
// shard of an account, names proposals so that each is applied once, hands out inode numbers, and keeps the two groups that an
// account lives in, directory and shard, in step.
//
// It never sees a key or a plaintext, and knows nothing of FUSE.
package raftstore
