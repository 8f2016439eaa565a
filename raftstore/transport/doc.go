// Package transport is the one TCP port between the nodes of a cluster. It knows nodes by name, the cluster's own certificate
// authority, and nothing of what is said over its connections.
//
// # Who may connect
//
// Everything is TLS 1.3, and both sides show a certificate of the cluster's Authority. A certificate names one node; the directory pins
// that node's key (Members), so a second certificate for the same name, under another key, is worth nothing. Both are checked at each
// handshake by both sides, and sessions are never resumed; Disconnect ends what a removed node has open. A connection that was made
// stays when its certificate runs out or is renewed (Identity.Renew): the new certificate is for the next one.
//
// # What a connection is for
//
// The protocol that TLS agrees on (ALPN, RFC 7301) says it:
//
//	h2               gRPC between nodes: GRPCListener, Dial
//	mailraft-raft/1  one Raft stream of one group: Raft. The dialer writes the group's name (one octet of length, then the name); a
//	                 node that has no replica of the group closes
//	mailraft-ping/1  Watch: each octet is sent back. Whoever was silent and answers again is connected to anew for all else, too
//	mailraft-join/1  gRPC for a machine that has no certificate yet: JoinListener, DialJoin. The machine knows the authority by the
//	                 fingerprint in its Token, the node knows the machine by the token's secret, which is the service's affair
//
// The last one is the only one without a client's certificate, and has few connections at once, each a minute at most.
//
// # Strangers
//
// A handshake has 5 s, and there is a bound to how many are under way. Whoever is refused is counted by Reason and logged, at most so
// many a second that a scanner cannot fill the log.
package transport
