// Package imap serves mail over IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) from a Maildir++ under a mount.
//
// What a stranger may say before a login is answered by this package alone (unauth.go). After it, the commands go to the
// library github.com/emersion/go-imap/v2/imapserver, which calls a session's methods: a file a command. Between the socket and
// the library stands conn, which hands over whole, bounded commands only (frame.go), and gathers answers into large writes.
//
// Everything is kept in the Maildir++ itself: flags in file names, keywords in a dovecot-keywords file a folder, subscriptions in
// one file. UIDs come from each folder's .mailraft-index. A session keeps its own view of the selected folder and learns of other
// people's changes from the index and the node's change feed, so it never disagrees with what mv, rm or mutt did.
//
// The package logs no message text, no folder contents and no passwords.
package imap
