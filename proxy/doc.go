// Package proxy holds what the mail protocols share: the words for addresses and mailboxes, and the three small services
// that a protocol server needs from its node (who is this address, unlock this account, tell me what changed).
//
// The servers themselves are in proxy/smtp, proxy/pop3 and proxy/imap. They run in processes of their own, as an
// unprivileged user, and see mail only as a maildir under a mount, through package proxy/maildir. Nothing below this
// package may import fs or raftstore: whoever starts a proxy hands it the services.
package proxy
