// Package peer holds what the proxies grant to whoever is at the other end of a connection: how many connections, and how soon an
// answer to a wrong password. It knows addresses, and no protocol.
package peer
