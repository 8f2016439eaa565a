package smtp

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"os"
	"time"

	"mailraft/proxy"
)

// Config says how a Server behaves. The zero value of a field means the default that its comment names.
type Config struct {
	// Hostname is what the server calls itself in its greeting and in trace lines. Default: os.Hostname.
	Hostname string
	// LMTP makes it an LMTP server.
	LMTP bool
	// Logins makes it a message submission server (RFC 6409): only those send mail who have logged in, and only as themselves.
	Logins proxy.Logins
	// SCRAM offers SCRAM-SHA-256 there, beside what sends the password.
	SCRAM bool
	// TLSConfig is for STARTTLS, which is not offered without it, and for ServeTLS.
	TLSConfig *tls.Config
	// AllowPlaintextAuth allows logins without TLS from everywhere, not only from loopback addresses and Unix sockets.
	AllowPlaintextAuth bool
	// Logger gets a line for each message and for each failure; never message text. Default: nothing is logged.
	Logger *slog.Logger

	// MaxMessageBytes is the largest message, before the trace lines are added. Default: 50 MiB.
	MaxMessageBytes int64
	// MaxRecipients is how many RCPT one message may have. Default: 100, the least that RFC 5321, 4.5.3.1.8 allows.
	MaxRecipients int
	// MaxRefusedRecipients is how many addresses that are nobody's a client may try in one connection; then it has to come back.
	// LMTP's clients are trusted to ask for those that they were given. Default: 20.
	MaxRefusedRecipients int
	// MaxLineLength is the longest command line in bytes with its CRLF. Default: 2048; RFC 5321, 4.5.3.1.4 has 512 and
	// what the parameters of extensions need.
	MaxLineLength int
	// MaxBadCommands is how many commands that are unknown, malformed or out of order a client may send. Default: 10.
	MaxBadCommands int
	// MaxLoginFailures is how many failed logins a client may have in one connection. Default: 3.
	MaxLoginFailures int
	// MaxConnections is how many connections the server holds at once. Default: 1000.
	MaxConnections int
	// MaxConnectionsPerIP is how many of these one IPv4 address or IPv6 /64 may have; loopback and Unix sockets are
	// exempt. Default: 50.
	MaxConnectionsPerIP int

	// CommandTimeout is the wait for a whole command. Default: 5 minutes (RFC 5321, 4.5.3.2.7).
	CommandTimeout time.Duration
	// DataTimeout is the wait for the next bytes of a message. Default: 5 minutes; 4.5.3.2.5 lets clients take 3.
	DataTimeout time.Duration
	// MessageTimeout is the time for all bytes of a DATA or a BDAT chunk, however steadily they drip. Default: 1 hour.
	MessageTimeout time.Duration
	// ReplyTimeout is the wait for a client to take a reply, and for a TLS handshake. Default: 1 minute.
	ReplyTimeout time.Duration
	// LookUpTimeout is the wait for the node's answer about an address or a login. Default: 30 seconds.
	LookUpTimeout time.Duration
	// AuthTimeout is how long a client of a submission server may take to log in, from the first byte on, with TLS handshake and failed
	// logins. Default: 2 minutes.
	AuthTimeout time.Duration
	// FailureDelay is how long the answer to a first failed login is held back, the second one twice that, and so on. Default: 1 second.
	FailureDelay time.Duration
}

// submission says whether it is a submission server.
func (c *Config) submission() bool { return c.Logins != nil }

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.Hostname == "" {
		c.Hostname, _ = os.Hostname()
	}
	c.Hostname = cmp.Or(c.Hostname, "localhost")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, 50<<20)
	c.MaxRecipients = cmp.Or(c.MaxRecipients, 100)
	c.MaxRefusedRecipients = cmp.Or(c.MaxRefusedRecipients, 20)
	c.MaxLineLength = cmp.Or(c.MaxLineLength, 2048)
	c.MaxBadCommands = cmp.Or(c.MaxBadCommands, 10)
	c.MaxLoginFailures = cmp.Or(c.MaxLoginFailures, 3)
	c.MaxConnections = cmp.Or(c.MaxConnections, 1000)
	c.MaxConnectionsPerIP = cmp.Or(c.MaxConnectionsPerIP, 50)
	c.CommandTimeout = cmp.Or(c.CommandTimeout, 5*time.Minute)
	c.DataTimeout = cmp.Or(c.DataTimeout, 5*time.Minute)
	c.MessageTimeout = cmp.Or(c.MessageTimeout, time.Hour)
	c.ReplyTimeout = cmp.Or(c.ReplyTimeout, time.Minute)
	c.LookUpTimeout = cmp.Or(c.LookUpTimeout, 30*time.Second)
	c.AuthTimeout = cmp.Or(c.AuthTimeout, 2*time.Minute)
	c.FailureDelay = cmp.Or(c.FailureDelay, time.Second)
	return c
}
