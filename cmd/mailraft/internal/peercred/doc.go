// Package peercred lets in, at a Unix socket, only processes of certain users: the kernel tells who connected (SO_PEERCRED,
// unix(7)), whatever the permissions of the socket's file say.
package peercred
