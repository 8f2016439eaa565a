// Package adminapi is what the daemon does for its admin: the commands of the mailraft program are clients of it, over a Unix
// socket that only the daemon's own user may open.
//
// Passwords come over that socket and are wiped as soon as they are used; nothing here logs them.
package adminapi
