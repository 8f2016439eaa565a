// Package child is a proxy process from the inside: it takes over from the daemon what it is handed (listening sockets, the
// certificate, where the mount and the node's socket are), serves its protocol, and ends with the daemon.
//
// It runs as a user without any rights, holds no keys, and must not keep anything worth saving.
package child
