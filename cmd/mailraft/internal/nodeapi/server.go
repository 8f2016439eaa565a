package nodeapi

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

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/nodeapi/nodepb"
	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/proxy/peer"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Node is what the service works on.
type Node struct {
	Store  *raftstore.Store
	Access *access.Control
	Gate   *slot.Gate // where derivations take turns
	Logger *slog.Logger
}

// Server answers the proxies.
type Server struct {
	nodepb.UnimplementedNodeServer

	store  *raftstore.Store
	access *access.Control
	decoy  *decoy
	feed   *feed
	log    *slog.Logger

	sessions *semaphore.Weighted
}

// NewServer makes the service. Close ends it.
func NewServer(n Node) (*Server, error) {
	d, err := newDecoy(n.Gate)
	if err != nil {
		return nil, err
	}
	return &Server{
		store: n.Store, access: n.Access, decoy: d, feed: newFeed(n.Store), log: n.Logger,
		sessions: semaphore.NewWeighted(maxSessions),
	}, nil
}

// Close ends all watches.
func (s *Server) Close() { s.feed.close() }

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { nodepb.RegisterNodeServer(r, s) }

// LookUp implements nodepb.NodeServer.
func (s *Server) LookUp(ctx context.Context, req *nodepb.LookUpRequest) (*nodepb.LookUpReply, error) {
	accounts, detail, err := s.resolve(ctx, req.Address)
	switch {
	case ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, access.ErrUnsure):
		s.log.Warn("look-up put off", "address", req.Address, "error", err)
		return nil, status.Error(codes.Unavailable, access.ErrUnsure.Error())
	case errors.Is(err, raftstore.ErrNoSuchDomain):
		return nil, status.Error(codes.FailedPrecondition, "domain is not served here")
	case errors.Is(err, raftstore.ErrNoSuchAccount), errors.Is(err, raftstore.ErrAddress):
		return nil, status.Error(codes.NotFound, "no such user")
	case err != nil:
		s.log.Error("look-up", "address", req.Address, "error", err)
		return nil, status.Error(codes.Unavailable, "directory cannot be read")
	}
	reply := &nodepb.LookUpReply{Detail: detail}
	for _, a := range accounts {
		// Of an alias, one member without room keeps the sender's copy waiting for all: a 250 says that all of them have it.
		reply.OverQuota = reply.OverQuota || s.full(a)
		reply.Mailboxes = append(reply.Mailboxes, mailbox(a))
	}
	return reply, nil
}

// resolve finds whom an address delivers to, as this node knows it; that it is nobody's is never stale. Every domain has a postmaster,
// and so has this host (RFC 5321, 4.5.1): where that is neither an account nor an alias, another domain's is meant, the first that has
// one.
func (s *Server) resolve(ctx context.Context, address string) ([]*raftpb.Account, string, error) {
	dir := s.store.Directory()
	local, _, _ := strings.Cut(address, "@")
	postmaster := strings.EqualFold(local, "postmaster")
	accounts, detail, err := dir.Resolve(address)
	if err == nil || !postmaster && !errors.Is(err, syscall.ENOENT) {
		return accounts, detail, err
	}
	if err := s.access.Current(ctx); err != nil {
		return nil, "", err
	}
	accounts, detail, err = dir.Resolve(address)
	if err == nil || !postmaster || errors.Is(err, raftstore.ErrNoSuchDomain) {
		return accounts, detail, err
	}
	domains, listed := dir.Domains()
	if listed != nil {
		return nil, "", listed
	}
	for _, d := range domains {
		if accounts, detail, err := dir.Resolve(local + "@" + d.Name); !errors.Is(err, syscall.ENOENT) {
			return accounts, detail, err
		}
	}
	return nil, "", err
}

// full says whether the account has no room for even one octet more. When it cannot be told, the delivery will tell.
func (s *Server) full(a *raftpb.Account) bool {
	if a.QuotaBytes == 0 && a.QuotaFiles == 0 {
		return false
	}
	u, err := s.store.Directory().Usage(tree.Account(a.Number))
	if err != nil {
		return false
	}
	return u.QuotaBytes > 0 && u.Bytes >= u.QuotaBytes || u.QuotaFiles > 0 && u.Files >= u.QuotaFiles
}

// mailbox says where the account is: in its shard's mount.
func mailbox(a *raftpb.Account) *nodepb.Mailbox {
	shard := strconv.FormatUint(uint64(a.Shard), 10)
	return &nodepb.Mailbox{Account: a.LocalPart + "@" + a.Domain, Home: path.Join(shard, a.Domain, a.LocalPart)}
}

// Login implements nodepb.NodeServer.
func (s *Server) Login(req *nodepb.LoginRequest, stream grpc.ServerStreamingServer[nodepb.LoginReply]) error {
	defer clear(req.Password)
	log := s.log.With("protocol", req.Protocol, "user", clip(req.Username), "remote", req.Remote, "tls", req.Tls)
	if !s.sessions.TryAcquire(1) {
		log.Warn("login put off: too many sessions")
		return status.Error(codes.Unavailable, "too many sessions")
	}
	defer s.sessions.Release(1)
	ctx := stream.Context()
	password := passwords.Normal(req.Password)
	a, session, err := s.unlock(ctx, party(req.Remote, req.Username), req.Username, password, req.Protocol)
	clear(password)
	if err != nil {
		return loginRefusal(ctx, log, err)
	}
	defer session.Close()
	log.Debug("login", "account", a.Number)
	if err := stream.Send(&nodepb.LoginReply{Mailbox: mailbox(a)}); err != nil {
		return err
	}
	await(ctx, session)
	return nil
}

// await waits for the end of the session, or of the call that it is for.
func await(ctx context.Context, session *keyring.Session) {
	select {
	case <-ctx.Done():
	case <-session.Done():
	}
}

// loginRefusal logs why there is no session, and says of it what the client may know.
func loginRefusal(ctx context.Context, log *slog.Logger, err error) error {
	switch {
	case errors.Is(err, keyring.ErrWrongPassword):
		log.Info("login refused")
		return status.Error(codes.Unauthenticated, "authentication failed")
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, slot.ErrBusy):
		log.Warn("login put off: too many are waiting from there")
		return status.Error(codes.Unavailable, "too many logins at once")
	case errors.Is(err, access.ErrUnsure):
		log.Warn("login put off", "error", err)
		return status.Error(codes.Unavailable, access.ErrUnsure.Error())
	case errors.Is(err, access.ErrMalformed):
		return status.Error(codes.InvalidArgument, "malformed message")
	}
	log.Error("login failed", "error", err)
	return status.Error(codes.Unavailable, "login is not possible now")
}

// Prove implements nodepb.NodeServer.
func (s *Server) Prove(stream grpc.BidiStreamingServer[nodepb.ProveRequest, nodepb.ProveReply]) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	log := s.log.With("protocol", req.Protocol, "remote", req.Remote, "tls", req.Tls, "mechanism", "SCRAM-SHA-256")
	if !s.sessions.TryAcquire(1) {
		log.Warn("login put off: too many sessions")
		return status.Error(codes.Unavailable, "too many sessions")
	}
	defer s.sessions.Release(1)
	ctx := stream.Context()
	exchange, err := s.access.SCRAM(req.Protocol, access.Binding{Type: req.Binding, Data: req.BindingData, Plus: req.Plus})
	if errors.Is(err, access.ErrNoSCRAM) {
		return status.Error(codes.Unimplemented, err.Error())
	}
	var answer string
	if err == nil {
		answer, err = exchange.First(ctx, string(req.Message))
		log = log.With("user", clip(exchange.Username()))
	}
	if err != nil {
		return loginRefusal(ctx, log, err)
	}
	if err := stream.Send(&nodepb.ProveReply{Message: []byte(answer)}); err != nil {
		return err
	}
	if req, err = stream.Recv(); err != nil {
		return err
	}
	answer, a, session, err := exchange.Final(string(req.Message))
	if err != nil {
		return loginRefusal(ctx, log, err)
	}
	defer session.Close()
	log.Debug("login", "account", a.Number)
	if err := stream.Send(&nodepb.ProveReply{Message: []byte(answer), Mailbox: mailbox(a)}); err != nil {
		return err
	}
	await(ctx, session)
	return nil
}

// unlock opens a session. An unknown user costs as much time as a wrong password, which is a derivation and the directory's read index,
// and has the same answer, also when the directory can't be asked.
func (s *Server) unlock(ctx context.Context, from, username string, password []byte, protocol string) (*raftpb.Account, *keyring.Session, error) {
	a, err := s.access.Find(ctx, username)
	if err == nil {
		var session *keyring.Session
		if a, session, err = s.access.Unlock(ctx, from, a, password, protocol, 0); !errors.Is(err, access.ErrNoSlots) {
			return a, session, err
		}
	}
	for _, unknown := range []error{syscall.ENOENT, raftstore.ErrAddress, access.ErrNoSlots} {
		if errors.Is(err, unknown) {
			return nil, nil, s.decoy.try(ctx, from, password)
		}
	}
	if errors.Is(err, access.ErrUnsure) {
		if tried := s.decoy.try(ctx, from, password); !errors.Is(tried, keyring.ErrWrongPassword) {
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
		return "user " + strings.ToLower(clip(username))
	case network.IsSingleIP():
		return network.Addr().String()
	}
	return network.String()
}

// Watch implements nodepb.NodeServer.
func (s *Server) Watch(req *nodepb.WatchRequest, stream grpc.ServerStreamingServer[nodepb.WatchReply]) error {
	a, err := s.access.Find(stream.Context(), req.Account)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, raftstore.ErrAddress):
		return status.Error(codes.NotFound, "no such account")
	case err != nil:
		return status.Error(codes.Unavailable, "the account cannot be found now")
	}
	w, err := s.feed.watch(tree.Account(a.Number))
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	defer w.stop()
	if err := stream.Send(&nodepb.WatchReply{}); err != nil {
		return err
	}
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-w.ended:
			return status.Error(codes.Unavailable, "the daemon is stopping")
		case <-w.ready:
		}
		reply := &nodepb.WatchReply{Changes: w.take(s.store.Home(tree.Account(a.Number)).View(), maxChanges)}
		if len(reply.Changes) == 0 {
			continue
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}
