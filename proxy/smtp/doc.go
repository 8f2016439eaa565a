// Package smtp takes mail in: it is the MX for local recipients (RFC 5321); with Config.Logins the message submission server of the
// accounts' own mail programs (RFC 6409); and with Config.LMTP an LMTP server (RFC 2033).
//
// It asks a proxy.Recipients whose an address is and writes a copy of the message, with its trace lines, into each of these
// mailboxes through package maildir. A 250 behind the end of the data promises that every copy is committed. It never relays or
// queues, and never holds a whole message in memory.
//
// # Submission
//
// Only who has logged in (RFC 4954) sends, over TLS or from this machine, and only as an account's owner: the envelope's sender and
// all authors are addresses that lead to the account. Otherwise a stolen password would lend any user's name. The null sender is
// taken, as mail programs send notifications by it (RFC 8098, 3); the author of these is looked at too. So the header has to be
// well-formed, and in the first 124 KiB of the message, which is looked at before a file is made; what it lacks of Date and Message-ID is
// put in front of it (RFC 6409, 8.2 and 8.3). Nothing else is changed, Bcc fields neither: RFC 5322, 3.6.3 leaves them to the
// program that writes the message, and some mean them to stay.
//
// The account is unlocked while the connection lasts, though nothing of its mail is read: its session is how the node tells that the account
// was locked or removed, or its password changed, and then the connection ends.
//
// # Several recipients, one reply
//
// SMTP has one reply for all recipients of a message, so it must not be positive before all copies are in. First all of them
// are written and closed, which is where most can go wrong: until then a failure leaves no copy behind. Then all are linked. When
// one of these links fails, the reply is that failure (4xx), whatever became of the others: the client tries again, and those
// who had their copy get a second one. Nothing is ever lost, and a double needs a failure in the milliseconds of the links.
// LMTP has a reply for each recipient; there every recipient stands for itself, and the mailboxes of an alias stand together.
//
// # Line ends
//
// Only CRLF.CRLF ends the data. A line feed alone ends nothing, so what follows it is never taken for the end of the message or
// for a command ("SMTP smuggling"); it is stored as CRLF. Carriage returns alone, NULs and 8-bit bytes are stored as they come.
//
// # Why the dialogue is our own
//
// The server of github.com/emersion/go-smtp v0.25.1 cannot keep these promises: a BDAT chunk that breaks off is handed over, and
// acknowledged, as a whole message, and there is no seam to mend that from outside once STARTTLS stands between; CR CR LF before
// the last dot hides the end of the data, so the next commands become part of the message; dots behind CR CR LF are not unstuffed,
// and a CR behind a leading dot is dropped (docs/decisions/0003). Its client is what the tests of this package speak to the server
// with.
package smtp
