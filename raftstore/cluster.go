package raftstore

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/durable"
	"mailraft/raftstore/group"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/peerpb"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/remote"
	"mailraft/raftstore/transport"
)

// In the data folder's folder "cluster" is what the node proves its name with (transport.Identity), and, until the directory has it, the
// key of the cluster's authority.
const (
	clusterFolder = "cluster"
	authorityKey  = "ca.key"
)

// openTransport opens the port for the other nodes. A node that is in no cluster yet begins one.
func (s *Store) openTransport(joined bool) error {
	dir := filepath.Join(s.cfg.Dir, clusterFolder)
	id, err := transport.LoadIdentity(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && joined:
		return fmt.Errorf("it has not joined its cluster yet: run mailraft join with a new token: %w", syscall.ENOENT)
	case errors.Is(err, fs.ErrNotExist):
		id, err = newAuthority(dir, s.cfg.NodeID)
	}
	if err != nil {
		return fmt.Errorf("this node's certificate: %w", err)
	}
	if id.Name() != s.cfg.NodeID {
		return fmt.Errorf("the certificate in %s is that of the node %q, not of %q: %w", dir, id.Name(), s.cfg.NodeID, syscall.EINVAL)
	}
	s.identity = id
	if err := s.recall(); err != nil {
		return err
	}
	if s.transport, err = transport.Listen(transport.Config{Address: s.cfg.Listen, Identity: id, Members: members{s}, Logger: s.log}); err != nil {
		return err
	}
	s.transport.Watch(func(node string, up bool) {
		s.log.Info("node", "node", node, "up", up)
		if up {
			s.each(func(_ int, g *group.Group) { g.PeerUp(node) })
		} else {
			s.each(func(_ int, g *group.Group) { g.PeerDown(node, s.transport.Up) })
			for _, sh := range s.Shards() {
				sh.client.PeerDown(node)
				sh.reads.PeerDown(node)
			}
		}
	})
	return nil
}

// newAuthority makes the authority of a new cluster, and the first node's certificate.
func newAuthority(dir, node string) (*transport.Identity, error) {
	key, err := transport.NodeKey(dir)
	if err != nil {
		return nil, err
	}
	ca, err := transport.NewAuthority(node)
	if err != nil {
		return nil, err
	}
	cert, secret, err := ca.Marshal()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	if err := durable.WriteFile(filepath.Join(dir, authorityKey), secret, 0o600); err != nil {
		return nil, err
	}
	own, err := ca.Issue(key.Public(), node, time.Now())
	if err != nil {
		return nil, err
	}
	return transport.CreateIdentity(dir, cert, own)
}

// answerPeers begins to answer the other nodes, when the groups are open.
func (s *Store) answerPeers() {
	for _, p := range []struct {
		listener net.Listener
		register func(*grpc.Server)
	}{
		{s.transport.GRPCListener(), func(g *grpc.Server) {
			peerpb.RegisterPeerServer(g, &peerServer{store: s})
			remote.NewServer(s.readable).Register(g)
		}},
		{s.transport.JoinListener(), func(g *grpc.Server) { peerpb.RegisterJoinServer(g, &joinServer{store: s}) }},
	} {
		g := grpc.NewServer(transport.ServerOptions()...)
		p.register(g)
		s.servers = append(s.servers, g)
		s.done.Go(func() { g.Serve(p.listener) })
	}
}

// Fingerprint is the SHA-256 of the certificate of the cluster's authority, in hexadecimal; "": this node has no port for others.
func (s *Store) Fingerprint() string {
	if s.identity == nil {
		return ""
	}
	sum := transport.Fingerprint(s.identity.Authority())
	return hex.EncodeToString(sum[:])
}

// members is the directory as the transport asks it.
type members struct{ store *Store }

// Member implements transport.Members.
func (m members) Member(node string) (transport.Member, bool) {
	m.store.mu.RLock()
	d := m.store.directory
	m.store.mu.RUnlock()
	if d == nil {
		return m.store.remembered(node)
	}
	n, err := d.state.Node(node)
	if err != nil {
		return m.store.remembered(node)
	}
	found := transport.Member{Address: n.Address, Removed: n.State == raftpb.NodeState_NODE_STATE_REMOVED}
	copy(found.Key[:], n.Key)
	return found, true
}

// The file of the nodes as they were last known. After a crash the directory's state may not have them, until the group has a leader that
// says how much of the log is committed; and to have one, the nodes must find each other.
const nodesFile = "nodes.json"

// remembered is a node as it was last known.
func (s *Store) remembered(node string) (transport.Member, bool) {
	if known := s.known.Load(); known != nil {
		m, ok := (*known)[node]
		return m, ok
	}
	return transport.Member{}, false
}

// recall reads which nodes there were.
func (s *Store) recall() error {
	path := filepath.Join(s.cfg.Dir, clusterFolder, nodesFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	known := map[string]transport.Member{}
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s.known.Store(&known)
	return nil
}

// remember notes which nodes there are, if that has changed. Those that are not in the list stay: the directory forgets none, but this node's
// copy of it may be older than the file.
func (s *Store) remember(nodes []*raftpb.PutNode) error {
	now := map[string]transport.Member{}
	if was := s.known.Load(); was != nil {
		maps.Copy(now, *was)
	}
	for _, n := range nodes {
		if m, ok := (members{s}).Member(n.Id); ok {
			now[n.Id] = m
		}
	}
	if was := s.known.Load(); len(now) == 0 || was != nil && maps.Equal(*was, now) {
		return nil
	}
	b, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(s.cfg.Dir, clusterFolder, nodesFile), b, 0o600); err != nil {
		return err
	}
	s.known.Store(&now)
	return nil
}

// Nodes lists the nodes by name, also those that were removed.
func (d *Directory) Nodes() ([]*raftpb.PutNode, error) { return d.state.Nodes() }

// ShardRecords lists the mail shards by number.
func (d *Directory) ShardRecords() ([]*raftpb.PutShard, error) { return d.state.Shards() }

// NodeUp tells whether the node answers this one.
func (s *Store) NodeUp(node string) bool {
	return node == s.cfg.NodeID || s.transport != nil && s.transport.Up(node)
}

// Refused counts the connections and the machines that wanted to join which the port for the other nodes refused since the start.
func (s *Store) Refused() uint64 {
	n := s.joinsRefused.Load()
	if s.transport != nil {
		for _, count := range s.transport.Refusals() {
			n += count
		}
	}
	return n
}

// ErrNoSuchNode says that the cluster has no node of that name.
var ErrNoSuchNode = fmt.Errorf("no such node: %w", syscall.ENOENT)

// UpdateNode changes a node's record by fn, which may be called again when somebody else changed it meanwhile: ErrNoSuchNode.
func (d *Directory) UpdateNode(ctx context.Context, node string, fn func(*raftpb.PutNode) error) error {
	for {
		n, err := d.state.Node(node)
		if err != nil {
			return named(err, "node "+node, ErrNoSuchNode)
		}
		if err := fn(n); err != nil {
			return err
		}
		_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_PutNode{PutNode: n}})
		if err != syscall.EAGAIN {
			return named(err, "node "+node, ErrNoSuchNode)
		}
	}
}

// Advertised is where other nodes reach one that listens at a host:port: there, or at advertise if that is not empty. A host that
// stands for all of the machine's is told by the machine's name.
func Advertised(listen, advertise string) (string, error) {
	if advertise != "" {
		return advertise, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, port), nil
}

// address is where other nodes reach this one.
func (s *Store) address() string {
	address, err := Advertised(s.transport.Address(), s.cfg.Advertise)
	if err != nil { // the machine has no name
		return s.transport.Address()
	}
	return address
}

// announce has the directory know the cluster's authority, the shards, and where this node is. It tries until it has done so.
func (s *Store) announce(ctx context.Context) {
	for {
		err := s.announceOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Warn("the directory does not know yet where this node is", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (s *Store) announceOnce(ctx context.Context) error {
	d := s.directory
	keyPath := filepath.Join(s.cfg.Dir, clusterFolder, authorityKey)
	secret, err := os.ReadFile(keyPath)
	if err == nil {
		defer clear(secret)
		_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_PutCluster{PutCluster: &raftpb.PutCluster{
			Name: s.cfg.NodeID, Certificate: s.identity.Authority(), PrivateKey: secret,
		}}})
		if err != nil && err != syscall.EEXIST {
			return err
		}
		if err := os.Remove(keyPath); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := s.identity.Key()
	n, err := d.state.Node(s.cfg.NodeID)
	if err != nil && err != syscall.ENOENT {
		return err
	}
	if err == nil && n.Address == s.address() && n.Commands == machine.Version {
		return nil
	}
	if err == syscall.ENOENT {
		n = &raftpb.PutNode{Id: s.cfg.NodeID, State: raftpb.NodeState_NODE_STATE_ACTIVE, Joined: time.Now().UnixNano()}
	}
	n.Address, n.Key, n.Commands = s.address(), key[:], machine.Version
	_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_PutNode{PutNode: n}})
	return err
}

// sign makes a certificate by the authority, whose key the directory has.
func (s *Store) sign(key crypto.PublicKey, node string) ([]byte, error) {
	c, err := s.directory.state.Cluster()
	if err != nil {
		return nil, fmt.Errorf("the directory does not have the cluster's authority: %w", err)
	}
	defer clear(c.PrivateKey)
	ca, err := transport.ParseAuthority(c.Certificate, c.PrivateKey)
	if err != nil {
		return nil, err
	}
	return ca.Issue(key, node, time.Now())
}

// NewToken makes a token with which a machine can join once, until it expires.
func (s *Store) NewToken(ctx context.Context, life time.Duration) (string, error) {
	if s.transport == nil {
		return "", fmt.Errorf("this node has no port for others to join at: set cluster.listen: %w", syscall.EINVAL)
	}
	d := s.directory
	if err := d.ReadIndex(ctx); err != nil {
		return "", err
	}
	c, err := d.state.Cluster()
	if err != nil {
		return "", fmt.Errorf("the directory does not have the cluster's authority: %w", err)
	}
	clear(c.PrivateKey)
	nodes, err := d.Nodes()
	if err != nil {
		return "", err
	}
	addresses := []string{s.address()}
	for _, n := range nodes {
		if n.State == raftpb.NodeState_NODE_STATE_ACTIVE && n.Id != s.cfg.NodeID && len(addresses) < 3 {
			addresses = append(addresses, n.Address)
		}
	}
	t, err := transport.NewToken(addresses, transport.Fingerprint(c.Certificate), time.Now().Add(life))
	if err != nil {
		return "", err
	}
	hash := t.Hash()
	_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_AddToken{AddToken: &raftpb.AddToken{
		Id: []byte(t.ID), Hash: hash[:], Expires: t.Expires.UnixNano(),
	}}})
	return t.String(), err
}

// joinServer lets machines in that have a token.
type joinServer struct {
	peerpb.UnimplementedJoinServer
	store *Store
}

// Join implements peerpb.JoinServer.
func (s *joinServer) Join(ctx context.Context, req *peerpb.JoinRequest) (*peerpb.JoinReply, error) {
	st, d := s.store, s.store.directory
	refuse := func(code codes.Code, format string, args ...any) error {
		err := status.Errorf(code, format, args...)
		st.joinsRefused.Add(1)
		st.log.Warn("refused a machine that wants to join", "node", req.Node, "address", req.Address, "error", err)
		return err
	}
	if err := d.ReadIndex(ctx); err != nil {
		return nil, status.Error(codes.Unavailable, "the directory has no quorum now: try again later")
	}
	t, err := d.state.Token([]byte(req.TokenId))
	var hash [32]byte
	if err == nil {
		copy(hash[:], t.Hash)
	}
	if !transport.CheckSecret(hash, req.TokenId, req.Secret) || err != nil {
		return nil, refuse(codes.Unauthenticated, "no such token, or it was used: make a new one with mailraft token")
	}
	if err := transport.CheckName(req.Node); err != nil {
		return nil, refuse(codes.InvalidArgument, "%v", err)
	}
	if _, port, err := net.SplitHostPort(req.Address); err != nil || port == "0" {
		return nil, refuse(codes.InvalidArgument, "address %q is not host:port with a port of its own", req.Address)
	}
	key, err := x509.ParsePKIXPublicKey(req.PublicKey)
	if err != nil {
		return nil, refuse(codes.InvalidArgument, "public key: %v", err)
	}
	spki := transport.Fingerprint(req.PublicKey)
	_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_UseToken{UseToken: &raftpb.UseToken{
		Id: []byte(req.TokenId), Node: &raftpb.PutNode{
			Id: req.Node, Address: req.Address, Key: spki[:], State: raftpb.NodeState_NODE_STATE_ACTIVE, Commands: req.Commands,
		},
	}}})
	switch {
	case err == syscall.ENOENT:
		return nil, refuse(codes.Unauthenticated, "the token was used: make a new one with mailraft token")
	case err == syscall.ETIME:
		return nil, refuse(codes.DeadlineExceeded, "the token has expired: make a new one with mailraft token")
	case err == syscall.EPROTO:
		return nil, refuse(codes.FailedPrecondition, "the cluster's nodes use what version %d of its program cannot do: upgrade mailraft on this machine", req.Commands)
	case err == syscall.EEXIST:
		return nil, refuse(codes.AlreadyExists, "the cluster has a node %q already: give this one another name (node in the configuration)", req.Node)
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	cert, err := st.sign(key, req.Node)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	st.log.Info("a node has joined", "node", req.Node, "address", req.Address)
	return &peerpb.JoinReply{Authority: st.identity.Authority(), Certificate: cert}, nil
}

// JoinConfig says who joins, and where.
type JoinConfig struct {
	Dir     string // the new node's data folder: empty, or missing
	NodeID  string // its name
	Address string // host:port where other nodes will reach it
	Token   string
}

// Join makes a data folder for a node of the cluster that the token is of. The node becomes one when Open is called with it.
func Join(ctx context.Context, cfg JoinConfig) error {
	t, err := transport.ParseToken(cfg.Token, time.Now())
	if err != nil {
		return err
	}
	if _, port, err := net.SplitHostPort(cfg.Address); err != nil || port == "0" {
		return fmt.Errorf("cluster.listen: %q has no port of its own, which the other nodes need: %w", cfg.Address, syscall.EINVAL)
	}
	lock, was, fresh, err := openFolder(cfg.Dir, 0, false)
	if err != nil {
		return err
	}
	defer lock.Close()
	if !fresh || was != 0 {
		return fmt.Errorf("data folder %s is a node's already: name an empty one to join: %w", cfg.Dir, syscall.EEXIST)
	}
	dir := filepath.Join(cfg.Dir, clusterFolder)
	if _, err := transport.LoadIdentity(dir); err == nil {
		return fmt.Errorf("data folder %s has joined already: start the node with mailraft serve: %w", cfg.Dir, syscall.EEXIST)
	}
	key, err := transport.NodeKey(dir)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	req := &peerpb.JoinRequest{
		TokenId: t.ID, Secret: t.Secret, Node: cfg.NodeID, Address: cfg.Address, PublicKey: spki, Commands: machine.Version,
	}
	var errs []error
	for _, address := range t.Addresses {
		reply, err := askJoin(ctx, address, t.CA, req)
		if err == nil {
			_, err = transport.CreateIdentity(dir, reply.Authority, reply.Certificate)
			return err
		}
		errs = append(errs, fmt.Errorf("node at %s: %w", address, err))
		if c := status.Code(err); c != codes.Unavailable {
			break
		}
	}
	return errors.Join(errs...)
}

func askJoin(ctx context.Context, address string, ca [32]byte, req *peerpb.JoinRequest) (*peerpb.JoinReply, error) {
	conn, err := transport.DialJoin(address, ca)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	reply, err := peerpb.NewJoinClient(conn).Join(ctx, req)
	if err != nil {
		return nil, err
	}
	if transport.Fingerprint(reply.Authority) != ca {
		return nil, errors.New("it gave the certificate of another cluster")
	}
	return reply, nil
}

const shardPrefix = "shard-"

// shardName is a shard's group.
func shardName(id uint32) string { return shardPrefix + strconv.FormatUint(uint64(id), 10) }
