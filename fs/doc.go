// Package fs is the mount: it serves the mail trees of package raftstore as a POSIX file system through FUSE, and seals what is
// written to it.
//
// Below the root lie the domains, below them the accounts, each a Maildir++. Inode numbers are those of package tree, so that a
// committed inode needs no memory here. In memory live only the files that are staged in a maildir's tmp/ or open (type file),
// and the folders' virtual index files (type indexes).
//
// A file in tmp/ exists on this mount alone, until link(2) or rename(2) gives it a name elsewhere: that is one commit with the
// sealed content in it. A file that was made elsewhere commits its content at fsync and close. Plaintext never leaves the
// memory of this process but to the reader, and, encrypted under a throw-away key, to package staging's spill files.
//
// The kernel caches names, attributes and pages for long. What other sessions commit is invalidated by goroutines that hold no
// lock (type invalidator); what this mount's own callers do, the kernel knows.
//
// The package must never answer an interrupt once a proposal is on its way, never call the kernel's notifications from a
// handler or with a lock held, and never use its own mount.
package fs
