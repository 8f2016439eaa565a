package pop3

import (
	"crypto/tls"
	"log/slog"
	"os"
	"time"
)

// Config says how a Server behaves. The zero value of each field stands for its default.
type Config struct {
	Hostname string // shown in the greeting; default: the machine's name

	// TLSConfig is needed for STLS and ServeTLS; default: neither is offered.
	TLSConfig *tls.Config

	// AllowPlaintextAuth allows logins without TLS from everywhere, not only from loopback addresses and Unix sockets.
	AllowPlaintextAuth bool

	SCRAM bool // offers SCRAM-SHA-256, beside what sends the password

	Logger *slog.Logger // default: slog.Default()

	MaxConnections      int // in all; default 1000
	MaxConnectionsPerIP int // from one IPv4 address or IPv6 /64, loopback and Unix sockets apart; default 20
	MaxBadCommands      int // malformed, unknown or misplaced commands before the connection is closed; default 10
	MaxLoginFailures    int // failed logins before the connection is closed; default 3

	// AuthTimeout is how long a client may take to log in, from the first byte on, with TLS handshake and failed logins;
	// default 2 minutes.
	AuthTimeout time.Duration
	// InactivityTimeout is how long a logged-in client may take to send its next command; default 10 minutes, less than which
	// RFC 1939, 3 does not allow.
	InactivityTimeout time.Duration
	// WriteTimeout is how long a client may take to accept some 64 KiB that are sent to it; default 1 minute.
	WriteTimeout time.Duration
	// LoginTimeout is how long the node may take to check a password; default 30 seconds.
	LoginTimeout time.Duration
	// FailureDelay is how long the answer to a first failed login is held back, the second one twice that, and so on;
	// default 1 second.
	FailureDelay time.Duration
}

// withDefaults returns c with the defaults filled in.
func (c Config) withDefaults() Config {
	if c.Hostname == "" {
		c.Hostname, _ = os.Hostname()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	setDefault(&c.MaxConnections, 1000)
	setDefault(&c.MaxConnectionsPerIP, 20)
	setDefault(&c.MaxBadCommands, 10)
	setDefault(&c.MaxLoginFailures, 3)
	setDefault(&c.AuthTimeout, 2*time.Minute)
	setDefault(&c.InactivityTimeout, 10*time.Minute)
	setDefault(&c.WriteTimeout, time.Minute)
	setDefault(&c.LoginTimeout, 30*time.Second)
	setDefault(&c.FailureDelay, time.Second)
	return c
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
