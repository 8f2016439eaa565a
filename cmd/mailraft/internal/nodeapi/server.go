package nodeapi

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/login"
	"mailraft/cmd/mailraft/internal/nodeapi/nodepb"
	"mailraft/fs/keyring"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Node is what the service works on.
type Node struct {
	Store  *raftstore.Store
	Access *access.Control
	Logins *login.Logins
	Logger *slog.Logger
}

// Server answers the proxies.
type Server struct {
	nodepb.UnimplementedNodeServer

	store  *raftstore.Store
	access *access.Control
	logins *login.Logins
	feed   *feed
	log    *slog.Logger

	sessions *semaphore.Weighted
}

// NewServer makes the service. Close ends it.
func NewServer(n Node) *Server {
	return &Server{
		store: n.Store, access: n.Access, logins: n.Logins, feed: newFeed(n.Store), log: n.Logger,
		sessions: semaphore.NewWeighted(maxSessions),
	}
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
	return &nodepb.Mailbox{Account: a.Address(), Home: login.Home(a), Enclosed: a.Pinned()}
}

// Login implements nodepb.NodeServer.
func (s *Server) Login(req *nodepb.LoginRequest, stream grpc.ServerStreamingServer[nodepb.LoginReply]) error {
	defer clear(req.Password)
	attempt := login.Attempt{Username: req.Username, Password: req.Password, Protocol: req.Protocol, Remote: req.Remote, TLS: req.Tls}
	if !s.sessions.TryAcquire(1) {
		s.logins.Log(attempt).Warn("login put off: too many sessions")
		return status.Error(codes.Unavailable, "too many sessions")
	}
	defer s.sessions.Release(1)
	ctx := stream.Context()
	a, session, err := s.logins.Open(ctx, attempt)
	if err != nil {
		return loginRefusal(err)
	}
	defer session.Close()
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

// loginRefusal is why there is no session, as the proxies know it.
func loginRefusal(err error) error {
	var later login.NotNow
	switch {
	case errors.Is(err, login.ErrRefused):
		return status.Error(codes.Unauthenticated, err.Error())
	case errors.Is(err, access.ErrMalformed):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, access.ErrNoSCRAM):
		return status.Error(codes.Unimplemented, err.Error())
	case errors.As(err, &later):
		return status.Error(codes.Unavailable, later.Error())
	}
	return status.FromContextError(err).Err()
}

// Prove implements nodepb.NodeServer.
func (s *Server) Prove(stream grpc.BidiStreamingServer[nodepb.ProveRequest, nodepb.ProveReply]) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	attempt := login.Attempt{Protocol: req.Protocol, Remote: req.Remote, TLS: req.Tls}
	if !s.sessions.TryAcquire(1) {
		s.logins.Log(attempt).Warn("login put off: too many sessions")
		return status.Error(codes.Unavailable, "too many sessions")
	}
	defer s.sessions.Release(1)
	ctx := stream.Context()
	proof, err := s.logins.Prove(attempt, access.Binding{Type: req.Binding, Data: req.BindingData, Plus: req.Plus})
	var answer string
	if err == nil {
		answer, err = proof.First(ctx, string(req.Message))
	}
	if err != nil {
		return loginRefusal(err)
	}
	if err := stream.Send(&nodepb.ProveReply{Message: []byte(answer)}); err != nil {
		return err
	}
	if req, err = stream.Recv(); err != nil {
		return err
	}
	answer, a, session, err := proof.Final(ctx, string(req.Message))
	if err != nil {
		return loginRefusal(err)
	}
	defer session.Close()
	if err := stream.Send(&nodepb.ProveReply{Message: []byte(answer), Mailbox: mailbox(a)}); err != nil {
		return err
	}
	await(ctx, session)
	return nil
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
