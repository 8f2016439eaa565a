package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
)

// Fingerprint is the SHA-256 of a certificate, or of a public key, in DER.
func Fingerprint(der []byte) [32]byte { return sha256.Sum256(der) }

// Dial gives the connection for gRPC to a node, which all callers share. It is made when it is first used, and again whenever it breaks:
// then at the address that the node has by then.
func (t *Transport) Dial(node string) (*grpc.ClientConn, error) {
	t.mu.Lock()
	conn, closed := t.calls[node], t.closed
	t.mu.Unlock()
	switch {
	case closed:
		return nil, net.ErrClosed
	case conn != nil:
		return conn, nil
	}
	if _, known := t.cfg.Members.Member(node); !known {
		return nil, fmt.Errorf("node %s is not known here", node)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	if conn := t.calls[node]; conn != nil { // somebody else was faster
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+node,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return t.dial(ctx, node, protoRPC) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // dial's connection is TLS already
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: handshakeTime,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, err
	}
	t.calls[node] = conn
	return conn, nil
}

const maxMessage = 16 << 20 // octets: more than any command has

// ServerOptions are what the grpc.Server of GRPCListener or JoinListener is made with.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(known{}), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// DialJoin connects to a node of a cluster that is known by its authority's fingerprint.
func DialJoin(address string, authority [32]byte) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			d := tls.Dialer{Config: joinConfig(authority)}
			return d.DialContext(ctx, "tcp", address)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials())) // the connection is TLS already
}

// known is the credentials.TransportCredentials of connections whose other end was checked when they were accepted.
type known struct{}

type peerInfo struct {
	credentials.CommonAuthInfo
	node string
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "mailraft" }

// ServerHandshake implements credentials.TransportCredentials.
func (known) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	switch c := c.(type) {
	case *peerConn:
		info.node = c.node
	case *joinConn: // of no node
	default:
		return nil, nil, errors.New("not a connection of this port")
	}
	return c, info, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (known) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are a server's credentials")
}

// Info implements credentials.TransportCredentials.
func (known) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (k known) Clone() credentials.TransportCredentials { return k }

// OverrideServerName implements credentials.TransportCredentials.
func (known) OverrideServerName(string) error { return nil }

// PeerName is the node that calls; an error when the caller is none.
func PeerName(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if ok {
		if info, ok := p.AuthInfo.(peerInfo); ok && info.node != "" {
			return info.node, nil
		}
	}
	return "", errors.New("the caller is no node")
}
