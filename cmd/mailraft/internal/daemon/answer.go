package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/dovecotauth"
	"mailraft/cmd/mailraft/internal/nodeapi"
	"mailraft/cmd/mailraft/internal/peercred"
)

// rpcServer answers on one of the daemon's own sockets.
type rpcServer struct {
	grpc *grpc.Server
	done chan struct{}
}

// answerProxies opens the socket for the proxies.
func (d *Daemon) answerProxies(context.Context) error {
	uid, gid, err := d.cfg.Owner()
	if err != nil {
		return err
	}
	d.node = nodeapi.NewServer(nodeapi.Node{Store: d.store, Access: d.access, Logins: d.logins, Logger: d.log})
	node, err := peercred.Listen(d.cfg.NodeSocket(), 0o660, int(gid), d.log, uid)
	if err != nil {
		return err
	}
	d.serveRPC(node, d.node.Register, nodeapi.Options()...)
	d.atEnd("change feed", func() error { d.node.Close(); return nil })
	return nil
}

// answerServers has other mail servers' logins checked.
func (d *Daemon) answerServers(context.Context) error {
	uid, gid, err := d.cfg.Owner()
	if err != nil {
		return err
	}
	s := dovecotauth.NewServer(dovecotauth.Config{
		Logins: d.logins, Accounts: d.access, Root: d.cfg.ShardMounts(), UID: uid, GID: gid, Logger: d.log, SCRAM: d.cfg.Iterations != 0,
	})
	d.atEnd("logins of other servers", func() error { s.Close(); return nil })
	for _, l := range d.sockets {
		if l.Protocol != config.Auth {
			continue
		}
		go func() {
			if err := s.Serve(l.listener); err != nil {
				d.log.Error("socket", "address", l.Address, "error", err)
			}
		}()
	}
	return nil
}

// answerAdmin opens the socket for the admin's commands.
func (d *Daemon) answerAdmin(context.Context) error {
	admin, err := peercred.Listen(d.cfg.AdminSocket(), 0o600, -1, d.log, uint32(os.Geteuid()))
	if err != nil {
		return err
	}
	d.serveRPC(admin, adminapi.NewServer(adminapi.Node{
		Store: d.store, Keyring: d.keyring, Resealer: d.resealer, Access: d.access, Gate: d.gate, Status: d.fillStatus, Logger: d.log,
	}).Register, adminapi.Options()...)
	return nil
}

func (d *Daemon) serveRPC(l net.Listener, register func(grpc.ServiceRegistrar), options ...grpc.ServerOption) {
	// Without a buffer that is read into: passwords would stay in it as long as the connection lasts.
	options = append(options, grpc.WaitForHandlers(true), grpc.ReadBufferSize(0))
	s := &rpcServer{grpc.NewServer(options...), make(chan struct{})}
	register(s.grpc)
	go func() {
		defer close(s.done)
		if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
			d.log.Error("socket", "address", l.Addr(), "error", err)
		}
	}()
	d.atEnd("socket "+l.Addr().String(), s.stop)
}

// stopTime is how long commands of the admin may take to end.
const stopTime = 3 * time.Second

func (s *rpcServer) stop() error {
	late := time.AfterFunc(stopTime, s.grpc.Stop)
	defer late.Stop()
	s.grpc.GracefulStop()
	<-s.done
	return nil
}
