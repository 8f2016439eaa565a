package pop3

import (
	"net"
	"net/netip"
	"sync"
)

// limiter counts connections, in all and for each client network.
type limiter struct {
	max, maxPerIP int

	mu     sync.Mutex
	total  int
	perNet map[netip.Prefix]int
}

// enter counts a connection in and returns what counts it out again, or false when there are too many.
func (l *limiter) enter(remote net.Addr) (leave func(), ok bool) {
	network, limited := clientNetwork(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.max || limited && l.perNet[network] >= l.maxPerIP {
		return nil, false
	}
	l.total++
	if limited {
		if l.perNet == nil {
			l.perNet = make(map[netip.Prefix]int)
		}
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
	}, true
}

// clientNetwork returns what counts as one client: an IPv4 address, or an IPv6 /64, which is what one customer gets. It is false
// for this machine's own programs (a webmail server, for example), which only the limit in all holds.
func clientNetwork(remote net.Addr) (netip.Prefix, bool) {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok || isLocal(remote) {
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

// isLocal says whether the peer is on this machine: a loopback address or a Unix socket.
func isLocal(remote net.Addr) bool {
	switch a := remote.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
