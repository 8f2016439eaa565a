package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/nodeapi/nodepb"
	"mailraft/proxy"
)

// Client asks the node. It implements proxy.Recipients, proxy.Logins and proxy.Changes.
type Client struct {
	conn *grpc.ClientConn
	node nodepb.NodeClient
	root string
}

var (
	_ proxy.Recipients = (*Client)(nil)
	_ proxy.Logins     = (*Client)(nil)
	_ proxy.Changes    = (*Client)(nil)
)

// NewClient makes a client of the node at the Unix socket. root is where this process sees the folder with the shards' mounts.
func NewClient(socket, root string) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///node",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}),
	)
	if err != nil {
		return nil, err
	}
	return &Client{conn, nodepb.NewNodeClient(conn), root}, nil
}

// Close ends all sessions.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) mailbox(m *nodepb.Mailbox) proxy.Mailbox {
	return proxy.Mailbox{Account: m.GetAccount(), Home: filepath.Join(c.root, filepath.FromSlash(m.GetHome())), Enclosed: m.GetEnclosed()}
}

// kinds gives the codes of a call their errors. The other codes, some of them gRPC's own, are proxy.ErrTemporary.
type kinds map[codes.Code]error

var (
	lookUpKinds = kinds{
		codes.FailedPrecondition: proxy.ErrNoSuchDomain,
		codes.NotFound:           proxy.ErrNoSuchUser,
	}
	loginKinds = kinds{codes.Unauthenticated: proxy.ErrAuthentication, codes.InvalidArgument: proxy.ErrMalformed}
	watchKinds = kinds{codes.NotFound: proxy.ErrNoSuchUser}
)

// proxyError is the error as package proxy knows it.
func (k kinds) proxyError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if kind, ok := k[status.Code(err)]; ok {
		return kind
	}
	return fmt.Errorf("%w: %s", proxy.ErrTemporary, status.Convert(err).Message())
}

// LookUp implements proxy.Recipients.
func (c *Client) LookUp(ctx context.Context, address string) ([]proxy.Mailbox, string, error) {
	reply, err := c.node.LookUp(ctx, &nodepb.LookUpRequest{Address: address})
	if err != nil {
		return nil, "", lookUpKinds.proxyError(ctx, err)
	}
	mailboxes := make([]proxy.Mailbox, len(reply.Mailboxes))
	for i, m := range reply.Mailboxes {
		mailboxes[i] = c.mailbox(m)
	}
	if reply.OverQuota {
		return mailboxes, reply.Detail, proxy.ErrOverQuota
	}
	return mailboxes, reply.Detail, nil
}

// session is a login: a stream that the node keeps open as long as the account is unlocked for it.
type session struct {
	mailbox proxy.Mailbox
	cancel  context.CancelFunc
	done    chan struct{}
	closing sync.Once
}

func (s *session) Mailbox() proxy.Mailbox { return s.mailbox }
func (s *session) Done() <-chan struct{}  { return s.done }

// Close ends the session and returns when the stream has ended.
func (s *session) Close() error {
	s.closing.Do(s.cancel)
	<-s.done
	return nil
}

// Login implements proxy.Logins. ctx bounds the login, not the session.
func (c *Client) Login(ctx context.Context, cr proxy.Credentials) (proxy.Session, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopWaiting := context.AfterFunc(ctx, cancel)
	password := []byte(cr.Password)
	stream, err := c.node.Login(life, &nodepb.LoginRequest{
		Username: cr.Username, Password: password, Protocol: cr.Protocol, Remote: remoteOf(cr.Remote), Tls: cr.TLS,
	})
	clear(password)
	var reply *nodepb.LoginReply
	if err == nil {
		reply, err = stream.Recv()
	}
	if !stopWaiting() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		if errors.Is(err, io.EOF) {
			return nil, proxy.ErrTemporary
		}
		return nil, loginKinds.proxyError(ctx, err)
	}
	return keep(c.mailbox(reply.Mailbox), cancel, stream), nil
}

// keep makes a session of a stream that is open: it lasts as long.
func keep[T any](m proxy.Mailbox, cancel context.CancelFunc, stream interface{ Recv() (*T, error) }) *session {
	s := &session{mailbox: m, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer cancel()
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	return s
}

// proof is a login under way.
type proof struct {
	client      *Client
	ctx         context.Context
	stopWaiting func() bool
	cancel      context.CancelFunc // of the stream
	stream      grpc.BidiStreamingClient[nodepb.ProveRequest, nodepb.ProveReply]
	next        *nodepb.ProveRequest
}

// Prove implements proxy.Logins.
func (c *Client) Prove(ctx context.Context, t proxy.ProofTerms) (proxy.Proof, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &proof{client: c, ctx: ctx, stopWaiting: context.AfterFunc(ctx, cancel), cancel: cancel}
	p.next = &nodepb.ProveRequest{
		Protocol: t.Protocol, Remote: remoteOf(t.Remote), Tls: t.TLS, Binding: t.Binding, BindingData: t.Data, Plus: t.Plus,
	}
	var err error
	if p.stream, err = c.node.Prove(life); err != nil {
		p.Close()
		return nil, loginKinds.proxyError(ctx, err)
	}
	return p, nil
}

// Next implements proxy.Proof.
func (p *proof) Next(message []byte) ([]byte, proxy.Session, error) {
	p.next.Message = message
	err := p.stream.Send(p.next)
	p.next = &nodepb.ProveRequest{}
	var reply *nodepb.ProveReply
	if err == nil || errors.Is(err, io.EOF) { // then Recv tells why
		reply, err = p.stream.Recv()
	}
	last := err == nil && reply.Mailbox != nil
	if last && !p.stopWaiting() {
		err = context.Cause(p.ctx)
	}
	switch {
	case errors.Is(err, io.EOF):
		p.Close()
		return nil, nil, proxy.ErrTemporary
	case err != nil:
		p.Close()
		return nil, nil, loginKinds.proxyError(p.ctx, err)
	case last:
		return reply.Message, keep(p.client.mailbox(reply.Mailbox), p.cancel, p.stream), nil
	}
	return reply.Message, nil, nil
}

// Close implements proxy.Proof.
func (p *proof) Close() {
	if p.stopWaiting() {
		p.cancel()
	}
}

func remoteOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// Watch implements proxy.Changes.
func (c *Client) Watch(ctx context.Context, account string) (<-chan proxy.Change, error) {
	life, cancel := context.WithCancel(ctx)
	stream, err := c.node.Watch(life, &nodepb.WatchRequest{Account: account})
	if err == nil {
		_, err = stream.Recv() // watching has begun
	}
	if err != nil {
		cancel()
		return nil, watchKinds.proxyError(ctx, err)
	}
	changes := make(chan proxy.Change)
	go func() {
		defer close(changes)
		defer cancel()
		for {
			reply, err := stream.Recv()
			if err != nil {
				return
			}
			for _, ch := range reply.Changes {
				select {
				case changes <- proxy.Change{Folder: ch.Folder, ModSeq: ch.ModSeq, Folders: ch.Folders}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return changes, nil
}
