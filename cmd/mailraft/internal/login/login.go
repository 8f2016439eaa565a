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
	"mailraft/cmd/mailraft/internal/throttle"
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
	access   *access.Control
	throttle *throttle.Throttle
	decoy    *decoy
	readers  []uint32
	log      *slog.Logger
}

// New makes a Logins; gate is where derivations take turns. Its sessions let the processes of the user ids readers read their accounts; none:
// those of all.
func New(a *access.Control, t *throttle.Throttle, gate *slot.Gate, log *slog.Logger, readers ...uint32) (*Logins, error) {
	d, err := newDecoy(gate)
	if err != nil {
		return nil, err
	}
	return &Logins{a, t, d, readers, log}, nil
}

// Attempt is what somebody gave to log in with.
type Attempt struct {
	Username string // an address
	Password []byte // the caller's to wipe
	Protocol string // app passwords may be good for some alone
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
	try, err := l.throttle.Enter(ctx, network(at.Remote), name(at.Username))
	if err != nil {
		return nil, nil, l.refusal(ctx, log, nil, err)
	}
	password := passwords.Normal(at.Password)
	a, session, err := l.unlock(ctx, party(at.Remote, at.Username), at.Username, password, at.Protocol)
	clear(password)
	return l.opened(ctx, log, try, a, session, err)
}

// opened tells the log and the throttle what became of an attempt.
func (l *Logins) opened(
	ctx context.Context, log *slog.Logger, try *throttle.Attempt, a *raftpb.Account, session *keyring.Session, err error,
) (*raftpb.Account, *keyring.Session, error) {
	if err == nil && ctx.Err() != nil {
		session.Close()
		err = ctx.Err()
	}
	if err != nil {
		return nil, nil, l.refusal(ctx, log, try, err)
	}
	try.Succeeded()
	log.Debug("login", "account", a.Number)
	return a, session, nil
}

// refusal logs why there is no session, counts what was wrong, and says of it what the client may know.
func (l *Logins) refusal(ctx context.Context, log *slog.Logger, try *throttle.Attempt, err error) error {
	switch {
	case errors.Is(err, keyring.ErrWrongPassword):
		log.Info("login refused")
		try.Failed()
		return ErrRefused
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, access.ErrMalformed):
		log.Info("login malformed")
		return access.ErrMalformed
	case errors.Is(err, throttle.ErrTooMany):
		log.Warn("login put off: too many have failed from there")
		return NotNow(throttle.ErrTooMany.Error())
	case errors.Is(err, slot.ErrBusy):
		log.Warn("login put off: too many are waiting from there")
		return NotNow("too many logins at once")
	case errors.Is(err, access.ErrUnsure):
		log.Warn("login put off", "error", err)
		return NotNow(access.ErrUnsure.Error())
	}
	log.Error("login failed", "error", err)
	return NotNow("login is not possible now")
}

// Proof is a login by SCRAM-SHA-256. It is for one goroutine.
type Proof struct {
	logins   *Logins
	attempt  Attempt
	exchange *access.SCRAM
	try      *throttle.Attempt
}

// Prove begins one; the attempt has neither name nor password. Errors: access.ErrNoSCRAM.
func (l *Logins) Prove(at Attempt, b access.Binding) (*Proof, error) {
	exchange, err := l.access.SCRAM(at.Protocol, b)
	if err != nil {
		return nil, err
	}
	return &Proof{logins: l, attempt: at, exchange: exchange}, nil
}

// Username is whom the client has named; "" before.
func (p *Proof) Username() string { return p.attempt.Username }

// First answers the client's first message, when it is the client's turn. Errors: those of Open, access.ErrMalformed.
func (p *Proof) First(ctx context.Context, message string) (answer string, err error) {
	answer, err = p.exchange.First(ctx, message)
	p.attempt.Username = p.exchange.Username()
	var late error
	if p.try, late = p.logins.throttle.Enter(ctx, network(p.attempt.Remote), name(p.attempt.Username)); late != nil {
		err = late
	}
	if err != nil {
		return "", p.logins.refusal(ctx, p.logins.Log(p.attempt), p.try, err)
	}
	return answer, nil
}

// Final checks the client's last message, and starts a session. Errors: those of First.
func (p *Proof) Final(ctx context.Context, message string) (answer string, a *raftpb.Account, session *keyring.Session, err error) {
	answer, a, session, err = p.exchange.Final(message, p.logins.readers...)
	a, session, err = p.logins.opened(ctx, p.logins.Log(p.attempt), p.try, a, session, err)
	return answer, a, session, err
}

// unlock opens a session. An unknown user costs as much time as a wrong password, which is a derivation and the directory's read index,
// and has the same answer, also when the directory can't be asked.
func (l *Logins) unlock(
	ctx context.Context, from, username string, password []byte, protocol string,
) (*raftpb.Account, *keyring.Session, error) {
	a, err := l.access.Find(ctx, username)
	if err == nil {
		var session *keyring.Session
		if a, session, err = l.access.Unlock(ctx, from, a, password, protocol, 0, l.readers...); !errors.Is(err, access.ErrNoSlots) {
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
	if from := network(remote); from != "" {
		return from
	}
	return "user " + strings.ToLower(Clip(username))
}

// network is where a client comes from; "": this machine.
func network(remote string) string {
	host, err := netip.ParseAddrPort(remote)
	from, limited := peer.Network(net.TCPAddrFromAddrPort(host))
	switch {
	case err != nil || !limited: // a Unix socket has no address
		return ""
	case from.IsSingleIP():
		return from.Addr().String()
	}
	return from.String()
}

// name is the account that a user name means, however it is written.
func name(username string) string {
	if local, domain, err := raftstore.SplitAddress(username); err == nil {
		return local + "@" + domain
	}
	return Clip(username)
}

// Clip is what is logged of a user name.
func Clip(username string) string {
	return username[:min(len(username), maxName)]
}

// Home is where the account is in the folder with the shards' mounts.
func Home(a *raftpb.Account) string {
	return path.Join(strconv.FormatUint(uint64(a.Shard), 10), a.Domain, a.LocalPart)
}
