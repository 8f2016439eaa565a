// Package dovecotauth speaks the Dovecot authentication protocol, version 1: Server as what Postfix (smtpd_sasl_type = dovecot), Exim and
// others ask, Client as what asks it. A login that is answered has unlocked the account for as long as it is used on this node
// ([keyring.Session.WhileUsed]); the answer says who it is and where the account's home is on the mount.
//
// Beside logins, the server answers the look-ups of a Dovecot master (USER), which say where an account's home is without unlocking it.
//
// A password must never be in the log, nor in an error. Whoever may open the socket may guess passwords, as anybody can at a port for
// IMAP, and be told which accounts there are, as at a port for LMTP.
package dovecotauth
