package peer

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// Why Limiter.Enter turns a connection away.
var (
	ErrTooMany         = errors.New("too many connections")
	ErrTooManyFromPeer = errors.New("too many connections from your address")
)

// Limiter counts connections, in all and for each peer's network. Its methods may be called by several goroutines at once.
type Limiter struct {
	max, maxPerPeer int

	mu     sync.Mutex
	total  int
	perNet map[netip.Prefix]int
}

// NewLimiter makes a limiter of max connections in all, and maxPerPeer from one IPv4 address or IPv6 /64. Peers on this machine have
// no limit of their own.
func NewLimiter(max, maxPerPeer int) *Limiter {
	return &Limiter{max: max, maxPerPeer: maxPerPeer, perNet: make(map[netip.Prefix]int)}
}

// Enter counts a connection in and returns what counts it out again, which is to be called once.
func (l *Limiter) Enter(remote net.Addr) (leave func(), err error) {
	network, limited := Network(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.total >= l.max:
		return nil, ErrTooMany
	case limited && l.perNet[network] >= l.maxPerPeer:
		return nil, ErrTooManyFromPeer
	}
	l.total++
	if limited {
		l.perNet[network]++
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.total--
		if limited {
			if l.perNet[network]--; l.perNet[network] == 0 {
				delete(l.perNet, network)
			}
		}
	}, nil
}

// Network returns what counts as one peer: an IPv4 address, or an IPv6 /64, which is what one customer gets. It is false for this
// machine's own programs (a webmail server, for example), which are many people's.
func Network(remote net.Addr) (netip.Prefix, bool) {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok || IsLocal(remote) {
		return netip.Prefix{}, false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	network, err := ip.Prefix(bits)
	return network, err == nil
}

// IsLocal says whether the peer is on this machine, at a loopback address or a Unix socket: then nobody can listen on the way.
func IsLocal(remote net.Addr) bool {
	switch a := remote.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
