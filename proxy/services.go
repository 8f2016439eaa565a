package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"unicode/utf8"
)

// Mailbox is where an account's mail lies.
type Mailbox struct {
	Account string // canonical address, "alice@example.org"
	Home    string // absolute path of the account's Maildir++ root on the mount
	// Enclosed is true when messages are read as others than are written: sealed to a key of their owner's, and attached to what is read. So
	// their size is known once they are written.
	Enclosed bool
}

// Recipients answers which mailboxes an address is delivered to (RFC 5321, 3.6.1: local recipients).
type Recipients interface {
	// LookUp resolves a recipient address, with its plus-detail and aliases, to the mailboxes of this cluster that take
	// its mail. detail is the part of the local part behind "+", or "". The address "postmaster" alone is that of any domain here.
	//
	// Errors: ErrNoSuchDomain (the domain is not ours: relaying), ErrNoSuchUser, ErrOverQuota (one that it is delivered to can take no more; the
	// mailboxes are told nonetheless, for those who ask whose the address is), ErrTemporary or any other error (try again later).
	LookUp(ctx context.Context, address string) (mailboxes []Mailbox, detail string, err error)
}

// Credentials are what a client gave to log in with.
type Credentials struct {
	Username string   // an address
	Password string   // forgotten by the proxy as soon as Login returns
	Protocol string   // "imap", "pop3", "submission"
	Remote   net.Addr // the client's address
	TLS      bool     // whether the connection is encrypted
}

// Plausible says whether anybody can have them: name and password are UTF-8 without NUL, and neither is empty (RFC 4616, 2). A proxy
// that gets others need not ask the node; it answers as to a wrong password.
func (c Credentials) Plausible() bool {
	for _, text := range []string{c.Username, c.Password} {
		if text == "" || !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return false
		}
	}
	return true
}

// Logins checks credentials and unlocks accounts.
type Logins interface {
	// Login checks the credentials and unlocks the account until the session is closed (or this process ends).
	// Errors: ErrAuthentication (wrong user or password, not told apart), ErrTemporary.
	Login(ctx context.Context, c Credentials) (Session, error)
	// Prove begins a login by which the client proves that it knows the password, by SCRAM-SHA-256 (RFC 7677). The Proof is closed by its last
	// message, by an error, or by Close. ctx is for all of it.
	Prove(ctx context.Context, t ProofTerms) (Proof, error)
}

// ProofTerms are what a Proof is made on.
type ProofTerms struct {
	Protocol string
	Remote   net.Addr
	TLS      bool
	Binding  string // what the connection has to bind to (RFC 5802, 6): "tls-exporter", "tls-unique"; "": nothing
	Data     []byte // of that
	Plus     bool   // the client has chosen SCRAM-SHA-256-PLUS: it has to bind
}

// Proof is a login under way. It is for one goroutine.
type Proof interface {
	// Next hands a message of the client's on and returns the answer to it; with the last one a session, as Login's. Errors: ErrMalformed, those
	// of Login.
	Next(message []byte) (answer []byte, s Session, err error)
	// Close gives up, if it has not come to its end.
	Close()
}

// Session keeps an account unlocked.
type Session interface {
	Mailbox() Mailbox
	// Done is closed when the node ended the session (account removed or locked by the admin, node gone).
	Done() <-chan struct{}
	Close() error
}

// Change says that something in a folder changed.
type Change struct {
	Folder string // Maildir++ directory name below the home: "" for INBOX, ".Sent", ...
	ModSeq uint64 // at least this is visible in the folder's index now
	// Folders is true when the set of folders itself changed (made, removed, renamed).
	Folders bool
}

// Changes is the node's change feed.
type Changes interface {
	// Watch tells of changes in the account's folders, made by anybody on any node, until ctx is done; then the channel is
	// closed. Changes that come faster than they are read are merged, never dropped: a reader that looks at the folder's
	// index after each Change misses nothing.
	Watch(ctx context.Context, account string) (<-chan Change, error)
}

// What the services answer beside success; test with errors.Is.
var (
	ErrNoSuchDomain   = errors.New("domain is not served here")
	ErrNoSuchUser     = errors.New("no such user here")
	ErrOverQuota      = errors.New("mailbox is over its quota")
	ErrAuthentication = errors.New("authentication failed")
	ErrMalformed      = errors.New("malformed message")
	ErrTemporary      = errors.New("temporary failure")
)
