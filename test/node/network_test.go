package node

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// station is a socket in a namespace.
type station struct {
	*net.UDPConn
	n  *Node
	at netip.AddrPort
}

func stationOf(t *testing.T, w *Network, name string) *station {
	t.Helper()
	h, err := w.attach(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &station{n: &Node{Name: name}, at: netip.AddrPortFrom(h.address, 7)}
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this
		err := enter(h.namespace)
		if err == nil {
			s.UDPConn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(s.at))
		}
		opened <- err
	}()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestNetwork sends datagrams while links are cut and healed. That one was lost shows in that the next comes first.
func TestNetwork(t *testing.T) {
	w := NewNetwork(t)
	a, b, c := stationOf(t, w, "a"), stationOf(t, w, "b"), stationOf(t, w, "c")
	send := func(from, to *station, text string) {
		t.Helper()
		if _, err := from.WriteToUDPAddrPort([]byte(text), to.at); err != nil { // a wire tells nobody
			t.Errorf("%s to %s: %v", from.n.Name, to.n.Name, err)
		}
	}
	// What of this arrives is as wanted, "a>b c>a" and so on.
	arrives := func(when string, wanted map[string]bool) {
		t.Helper()
		all := []*station{a, b, c}
		for _, to := range all {
			for _, from := range all {
				if from == to {
					continue
				}
				way := from.n.Name + ">" + to.n.Name
				send(from, to, way)
				send(to, to, "end")
				got := make([]byte, 10)
				to.SetReadDeadline(time.Now().Add(10 * time.Second))
				n, err := to.Read(got)
				if arrived := string(got[:n]) == way; err != nil || arrived != wanted[way] {
					t.Errorf("%s: %s: %q arrived, %v", when, way, got[:n], err)
				}
				if string(got[:n]) != "end" {
					to.Read(got)
				}
			}
		}
	}
	everything := map[string]bool{"a>b": true, "a>c": true, "b>a": true, "b>c": true, "c>a": true, "c>b": true}
	without := func(ways ...string) map[string]bool {
		left := map[string]bool{}
		for way := range everything {
			left[way] = true
		}
		for _, way := range ways {
			delete(left, way)
		}
		return left
	}
	arrives("at first", everything)
	w.Lose(a.n, b.n)
	arrives("one way", without("a>b"))
	w.Cut(a.n, b.n)
	arrives("cut", without("a>b", "b>a"))
	w.Heal()
	arrives("healed", everything)
	w.Isolate(c.n)
	arrives("isolated", without("a>c", "b>c", "c>a", "c>b"))
	w.Heal()
	arrives("healed again", everything)
}

// TestClearStale: a process that was killed leaves namespaces and links, which the next one removes.
func TestClearStale(t *testing.T) {
	gone := 1 << 22 // no process has this number (proc(5), pid_max)
	name, link := fmt.Sprintf("mailraft-%d-1-n1", gone), fmt.Sprintf("mr%db1", gone)
	if err := ip("netns add "+name, "link add "+link+" type bridge"); err != nil {
		t.Fatal(err)
	}
	if err := removeStale(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(namespaces, name)); len(left) > 0 {
		t.Error(left)
	}
	if _, err := net.InterfaceByName(link); err == nil {
		t.Error(link, "is still there")
	}
}
