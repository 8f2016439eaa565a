package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

// ErrNotRunning: nobody listens on the admin socket.
var ErrNotRunning = errors.New("the daemon is not running")

// ErrForbidden: the admin socket is not this user's.
var ErrForbidden = errors.New("only the daemon's own user may open its admin socket")

// Client is a connection to the daemon.
type Client struct {
	adminpb.AdminClient
	conn *grpc.ClientConn
}

// Dial reaches the daemon at its admin socket. Errors: ErrNotRunning, ErrForbidden.
func Dial(socket string) (*Client, error) {
	probe, err := net.DialTimeout("unix", socket, 5*time.Second)
	switch {
	case err == nil:
		probe.Close()
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return nil, fmt.Errorf("%w (%s); run this command as that user", ErrForbidden, socket)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("%w at %s; start it with: mailraft serve (or name its configuration with --config, or its socket with --socket)", ErrNotRunning, socket)
	default:
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///admin",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}),
	)
	if err != nil {
		return nil, err
	}
	return &Client{adminpb.NewAdminClient(conn), conn}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
