package child

import (
	"time"

	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/tlscert"
)

// Handover is what the daemon tells a proxy at its start, over a pipe and as JSON. Messages that follow replace Certificate and
// leave everything else.
type Handover struct {
	Protocol    string // "smtp", "imap", "pop3"
	Hostname    string
	LogLevel    string
	LogFormat   string
	Mount       string        // the folder with the shards' mounts, as people know it
	MountFD     int           // the same, opened: its path may lead through folders that are closed to this user
	RunFD       int           // the folder with the node's socket
	StopTimeout time.Duration // how long commands may take to end when the proxy is stopped
	Listeners   []Listener

	MaxMessage         int64
	AllowPlaintextAuth bool
	SCRAM              bool

	Certificate tlscert.Pair
}

// Listener is a listening socket that is handed over.
type Listener struct {
	Protocol config.Protocol
	Address  string
	FD       int
}
