// Package login checks who may open an account on this node, for the proxies and for other people's servers alike. It answers a user that
// does not exist as one whose password is wrong, in as much time, and lets every host have its turn.
package login

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"syscall"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/proxy/peer"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
)

// ErrRefused: wrong user or password, which are not told apart.
var ErrRefused = errors.New("authentication failed")

// NotNow is an error that says why a login cannot be decided now, in words for the client.
type NotNow string

func (n NotNow) Error() string { return string(n) }

// maxName is how much of a user name is logged, in octets: as much as an address can have (RFC 5321, 4.5.3.1).
const maxName = 64 + 1 + 255

// Logins opens accounts for who knows their passwords. It is safe for concurrent use.
type Logins struct {
	access *access.Control
	decoy  *decoy
	log    *slog.Logger
}

// New makes a Logins; gate is where derivations take turns.
func New(a *access.Control, gate *slot.Gate, log *slog.Logger) (*Logins, error) {
	d, err := newDecoy(gate)
	if err != nil {
		return nil, err
	}
	return &Logins{a, d, log}, nil
}

// Attempt is what somebody gave to log in with.
type Attempt struct {
	Username string // an address
	Password []byte // the caller's to wipe
	Protocol string // for the log
	Remote   string // the client's host:port; anything else: it is on this machine
	TLS      bool
}

// Log is the log of an attempt, for what is told of it beside what Open tells.
func (l *Logins) Log(at Attempt) *slog.Logger {
	return l.log.With("protocol", at.Protocol, "user", Clip(at.Username), "remote", at.Remote, "tls", at.TLS)
}

// Open starts a session of the account, and logs why not. Errors: ErrRefused, NotNow, ctx's.
func (l *Logins) Open(ctx context.Context, at Attempt) (*raftpb.Account, *keyring.Session, error) {
	log := l.Log(at)
	password := passwords.Normal(at.Password)
	a, session, err := l.unlock(ctx, party(at.Remote, at.Username), at.Username, password)
	clear(password)
	switch {
	case errors.Is(err, keyring.ErrWrongPassword):
		log.Info("login refused")
		return nil, nil, ErrRefused
	case ctx.Err() != nil:
		if err == nil {
			session.Close()
		}
		return nil, nil, ctx.Err()
	case errors.Is(err, slot.ErrBusy):
		log.Warn("login put off: too many are waiting from there")
		return nil, nil, NotNow("too many logins at once")
	case errors.Is(err, access.ErrUnsure):
		log.Warn("login put off", "error", err)
		return nil, nil, NotNow(access.ErrUnsure.Error())
	case err != nil:
		log.Error("login failed", "error", err)
		return nil, nil, NotNow("login is not possible now")
	}
	log.Debug("login", "account", a.Number)
	return a, session, nil
}

// unlock opens a session. An unknown user costs as much time as a wrong password, which is a derivation and the directory's read index,
// and has the same answer, also when the directory can't be asked.
func (l *Logins) unlock(ctx context.Context, from, username string, password []byte) (*raftpb.Account, *keyring.Session, error) {
	a, err := l.access.Find(ctx, username)
	if err == nil {
		var session *keyring.Session
		if a, session, err = l.access.Unlock(ctx, from, a, password, 0); !errors.Is(err, access.ErrNoSlots) {
			return a, session, err
		}
	}
	for _, unknown := range []error{syscall.ENOENT, raftstore.ErrAddress, access.ErrNoSlots} {
		if errors.Is(err, unknown) {
			return nil, nil, l.decoy.try(ctx, from, password)
		}
	}
	if errors.Is(err, access.ErrUnsure) {
		if tried := l.decoy.try(ctx, from, password); !errors.Is(tried, keyring.ErrWrongPassword) {
			err = tried
		}
	}
	return nil, nil, err
}

// party is who waits for a derivation: the client's host, of IPv6 the network that one customer has. What comes from this machine
// is many people's, behind a webmail program or the like, so there each user is one.
func party(remote, username string) string {
	host, err := netip.ParseAddrPort(remote)
	network, limited := peer.Network(net.TCPAddrFromAddrPort(host))
	switch {
	case err != nil || !limited: // a Unix socket has no address
		return "user " + strings.ToLower(Clip(username))
	case network.IsSingleIP():
		return network.Addr().String()
	}
	return network.String()
}

// Clip is what is logged of a user name.
func Clip(username string) string {
	return username[:min(len(username), maxName)]
}

// Address is the account's canonical address.
func Address(a *raftpb.Account) string { return a.LocalPart + "@" + a.Domain }

// Home is where the account is in the folder with the shards' mounts.
func Home(a *raftpb.Account) string {
	return path.Join(strconv.FormatUint(uint64(a.Shard), 10), a.Domain, a.LocalPart)
}
