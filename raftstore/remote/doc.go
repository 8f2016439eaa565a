// Package remote reads the mail trees of shards that this node has no replica of, on a node that has one.
//
// Server answers for this node's replicas. Client is a tree.Reader of one shard: each read goes to the nearest live replica, to the next
// one when that fails, and to none that has not applied what this node has seen already. Before anything of an account is answered, the
// account is watched: from then on, whatever is applied in it is handed to emit, as if it were applied here, or that it may have changed
// (tree.Event.Replaced) when the replica is lost, and when nobody has read the account for a while. So whoever caches what was read
// learns of every change that it does not show.
//
// Sealed contents, which never change under their number, are kept in a Cache that the clients of all shards share.
//
// The package must never take a failure for an answer: what the tree says (ENOENT) comes in a reply that says so, and everything else is
// EIO or ETIMEDOUT.
package remote
