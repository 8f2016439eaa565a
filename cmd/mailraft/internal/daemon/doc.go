// Package daemon is mailraft serve: it opens the store, mounts it, listens, answers the proxies and the admin, and keeps the
// proxies running. It ends in the opposite order.
package daemon
