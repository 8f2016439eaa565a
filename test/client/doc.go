// Package client speaks SMTP, LMTP, IMAP and POP3 as the tests need it: every octet goes out and comes in as it is, replies are
// given back word for word, and nothing is forgiven. It shares no code with the servers.
//
// Mail programs of other people are in the tests themselves; this is for what they would not send, and for speed.
package client
