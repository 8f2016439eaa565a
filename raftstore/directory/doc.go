// Package directory is the cluster's list of domains, accounts, aliases, shards and nodes: a replicated state machine of
// which every node has a full copy, so that a look-up never leaves the node.
//
// It knows an account's public key and its key slots, wrapped; it never sees a password or a private key.
package directory
