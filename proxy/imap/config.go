package imap

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Config is what an operator may decide. A zero value means the default given with each field.
type Config struct {
	Hostname  string      // in the greeting; default "localhost"
	TLSConfig *tls.Config // for STARTTLS and ServeTLS; nil: no STARTTLS
	Logger    *slog.Logger

	// AllowPlaintextAuth lets clients that are not on the loopback log in without TLS.
	AllowPlaintextAuth bool
	// SCRAM offers SCRAM-SHA-256, beside what sends the password.
	SCRAM bool

	MaxConnections      int           // in all; default 10,000
	MaxConnectionsPerIP int           // from one IPv4 address or IPv6 /64, loopback and Unix sockets apart; default 100
	MaxAppend           uint32        // bytes of a message in APPEND (RFC 7889); default 50 MiB
	MaxCommand          int           // bytes of a command with its short literals; default and at most 48 KiB
	MaxLiteral          int           // bytes of a literal that is not a message; default and at most 4096
	MaxBadCommands      int           // in one connection, then BYE; default 50
	MaxFailedLogins     int           // in one connection, then BYE; default 5
	FailureDelay        time.Duration // before the answer to a first failed login, twice that to the second, ...; default 1 second
	LoginTimeout        time.Duration // from connecting to the login; default 1 minute
	IdleTimeout         time.Duration // between commands and in IDLE; default 30 minutes (RFC 9051, 5.4)
	TransferTimeout     time.Duration // without any progress within a command, a literal or an answer; default 2 minutes
}

// The library refuses longer ones in ways that confuse clients, so no configuration may go above these.
const (
	libraryMaxCommand = 48 << 10
	libraryMaxLiteral = 4096
)

func (cfg Config) withDefaults() Config {
	if cfg.Hostname == "" {
		cfg.Hostname = "localhost"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	orDefault(&cfg.MaxConnections, 10_000)
	orDefault(&cfg.MaxConnectionsPerIP, 100)
	orDefault(&cfg.MaxAppend, 50<<20)
	orDefault(&cfg.MaxCommand, libraryMaxCommand)
	orDefault(&cfg.MaxLiteral, libraryMaxLiteral)
	orDefault(&cfg.MaxBadCommands, 50)
	orDefault(&cfg.MaxFailedLogins, 5)
	orDefault(&cfg.FailureDelay, time.Second)
	orDefault(&cfg.LoginTimeout, time.Minute)
	orDefault(&cfg.IdleTimeout, 30*time.Minute)
	orDefault(&cfg.TransferTimeout, 2*time.Minute)
	cfg.MaxCommand = min(cfg.MaxCommand, libraryMaxCommand)
	cfg.MaxLiteral = min(cfg.MaxLiteral, libraryMaxLiteral)
	return cfg
}

func orDefault[T ~int | ~uint32 | ~int64](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}
