package nodeapi

import (
	"google.golang.org/grpc"

	"mailraft/raftstore/tree"
)

// Limits of what the proxies may ask for and hold. They are above what the proxies' own limits let through: a proxy that was taken
// over, or that counts wrongly, must not fill the memory of the process that has the mount and the replicas.
const (
	maxRequest  = 64 << 10 // octets; an IMAP command with a user name and a password has 48 KiB at most
	maxSessions = 16 << 10 // with the logins that are under way
	maxWatches  = 16 << 10
	// maxWatchesOfOne is how many watch the same account: each costs its time whenever a change of the account is applied.
	maxWatchesOfOne = 1000
	// maxChanges is how many changes are in one reply, which so stays far below what a client of gRPC takes.
	maxChanges = 1000
)

// Options are for the gRPC server that Server is registered with.
func Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.MaxConcurrentStreams(maxSessions + maxWatches + 1<<10), // of one connection, which is one proxy
	}
}

// mayWatch says whether one more may watch a. The caller holds f.mu.
func (f *feed) mayWatch(a tree.Account) bool {
	return f.count < maxWatches && len(f.watchers[a]) < maxWatchesOfOne
}
