// Package pop3 is the POP3 server: it hands the messages of an account's INBOX to mail clients that fetch and delete.
//
// It speaks RFC 1939 (all of it but APOP) with CAPA and the capabilities RESP-CODES, PIPELINING, EXPIRE NEVER, UIDL, TOP, USER
// and IMPLEMENTATION (RFC 2449), AUTH-RESP-CODE (RFC 3206), STLS (RFC 2595) and SASL PLAIN (RFC 5034), over plain connections,
// and over TLS from the first byte (RFC 8314).
//
// Left out on purpose: APOP, because a server can check it only when it stores passwords in the clear; LOGIN-DELAY, because
// clients may come as often as they like; UTF8 and LANG (RFC 6856), because a server that offers UTF8 owes a rewritten
// message to every client that does not ask for it. User names and passwords in UTF-8 work all the same, and messages go out
// as they are stored, 8-bit header fields and all.
//
// # What is shown
//
// A session is a snapshot: message numbers are given at login, from the INBOX's index, new/ and cur/ together, ascending by UID.
// What arrives later is seen by the next session. A message that an IMAP client flags, moves from new/ to cur/ or removes
// meanwhile is found again by its UID, or is gone: -ERR. Nothing is marked or moved by reading. Only QUIT in the TRANSACTION state
// removes anything; a connection that breaks, times out or is shut down removes nothing.
//
// Unique ids are "<uidvalidity>.<uid>", both decimal: the same on every node, for ever.
//
// Messages are sent with CRLF line ends, dot-stuffed; one that does not end with a line end gets one (RFC 1939, 3). They are
// streamed: a session's memory does not grow with a message's size.
//
// # One session a maildrop
//
// RFC 1939, 4 asks for an exclusive-access lock; lock.go says how it holds across processes and nodes. It uses only names and
// times of empty files, so it needs no key.
//
// The package must never import fs or raftstore, log a password or message text, or change a mailbox outside the UPDATE state.
package pop3
