package adminapi

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/fs"
	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
)

// Node is what the service works on.
type Node struct {
	Store    *raftstore.Store
	Keyring  *keyring.Keyring
	Resealer *fs.Resealer
	Access   *access.Control
	Gate     *slot.Gate // where derivations take turns
	// Status adds what only the daemon knows: names, sockets, proxies.
	Status func(*adminpb.StatusReply)
	Logger *slog.Logger
}

// Server is the service.
type Server struct {
	adminpb.UnimplementedAdminServer
	Node
}

// NewServer makes the service.
func NewServer(n Node) *Server { return &Server{Node: n} }

// maxRequest is the size of the largest request, in octets: an alias with all the targets that it may have.
const maxRequest = 1 << 20

// Options are for the gRPC server that Server is registered with.
func Options() []grpc.ServerOption { return []grpc.ServerOption{grpc.MaxRecvMsgSize(maxRequest)} }

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { adminpb.RegisterAdminServer(r, s) }

// find finds an account by its address.
func (s *Server) find(ctx context.Context, address string) (*raftpb.Account, error) {
	return s.Access.Find(ctx, address)
}

// newest finds an account as it is in the whole cluster now.
func (s *Server) newest(ctx context.Context, address string) (*raftpb.Account, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	return s.find(ctx, address)
}

// current waits until what was changed before the call shows here.
func (s *Server) current(ctx context.Context) error { return s.Store.Directory().ReadIndex(ctx) }
