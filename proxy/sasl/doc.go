// Package sasl is the server's side of SASL (RFC 4422), the same for all protocols: which mechanisms there are, and the exchange of
// challenges and responses that ends in somebody's credentials. The protocols carry the exchange's lines, and have their own answers
// to what goes wrong.
//
// The mechanisms are PLAIN (RFC 4616) and, for clients that know nothing else, LOGIN (draft-murchison-sasl-login). Both hand over the
// password as it is, so a protocol begins an exchange only where it would take a password (RFC 4616, 1). With SCRAM-SHA-256 (RFC 7677) the
// password stays with the client, and with SCRAM-SHA-256-PLUS the exchange is bound to its TLS connection: the messages are the node's to
// check, and pass through here.
//
// OAUTHBEARER (RFC 7628) is left out: its tokens come from somebody else's server, and none of them can open the key that an account's
// mail is sealed with. Only the password can, or what is derived from it.
package sasl
