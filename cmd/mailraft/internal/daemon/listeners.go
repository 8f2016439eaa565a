package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/peercred"
)

// socket is a listening socket for the proxies, or config.Auth's. The former are the daemon's, which never accepts from them: while a proxy
// is started again, connections wait in them.
type socket struct {
	config.Listener
	listener net.Listener
	file     *os.File // a second descriptor of the same socket, to hand over
}

// localSocketMode lets every program of this machine in, as a TCP port on the loopback does.
const localSocketMode = 0o666

// authSocketMode lets its group in: there passwords can be guessed, and in the name of any host.
const authSocketMode = 0o660

// listen opens sockets; authGroup is whose those for logins are.
func listen(all []config.Listener, authGroup uint32) (sockets []*socket, err error) {
	defer func() {
		if err != nil {
			closeSockets(sockets)
		}
	}()
	for _, l := range all {
		network, address, err := l.Network()
		if err != nil {
			return sockets, err
		}
		s, err := listenOne(l, network, address, authGroup)
		if err != nil {
			return sockets, explainListen(l, err)
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

func listenOne(l config.Listener, network, address string, authGroup uint32) (*socket, error) {
	var listener interface {
		net.Listener
		File() (*os.File, error)
	}
	if network == "unix" {
		mode, gid := os.FileMode(localSocketMode), -1
		if l.Protocol == config.Auth {
			mode, gid = authSocketMode, int(authGroup)
		}
		u, err := peercred.Socket(address, mode, gid)
		if err != nil {
			return nil, err
		}
		listener = u
	} else {
		a, err := net.ResolveTCPAddr(network, address)
		if err != nil {
			return nil, err
		}
		if listener, err = net.ListenTCP(network, a); err != nil {
			return nil, err
		}
	}
	f, err := listener.File()
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	l.Address = listener.Addr().String() // with the port that the kernel chose for :0
	if network == "unix" {
		l.Address = "unix:" + address
	}
	return &socket{l, listener, f}, nil
}

func explainListen(l config.Listener, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: another program listens on %s; stop it, or choose another address", l.Option, l.Address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is not an address of this machine", l.Option, l.Address)
	}
	return fmt.Errorf("%s: %w", l.Option, err)
}

func closeSockets(sockets []*socket) {
	for _, s := range sockets {
		s.file.Close()
		s.listener.Close()
	}
}
