// Package nodeapi is the service that a node gives its proxies, over one Unix socket: who is this address, unlock this
// account, tell me what changed. Server answers from the store and the keyring; Client is what a proxy's servers are handed as
// proxy.Recipients, proxy.Logins and proxy.Changes.
//
// A login session is an open stream: when the proxy dies, the kernel closes its socket and the sessions end.
package nodeapi
