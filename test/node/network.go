package node

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Network is an Ethernet for nodes: each has a network namespace of its own with one link to a bridge, on which the test has an address as
// well. What one node sends another can be lost, in either direction, and stays lost until Heal, as on a wire: nobody is told.
//
// All that it is made of has the number of the test's process in its name, and what killed tests have left is removed when the next begins.
type Network struct {
	t      testing.TB
	number uint64 // among those of this process
	prefix netip.Prefix

	mu    sync.Mutex
	hosts []*host
}

// host is a node's end of the network.
type host struct {
	name      string
	namespace string // in namespaces
	address   netip.Addr
	mac       net.HardwareAddr
}

// namespaces is the folder of network namespaces (ip-netns(8)).
const namespaces = "/run/netns"

var networks atomic.Uint64

// NewNetwork makes a network without nodes.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	if err := clearStale(); err != nil {
		t.Fatal(err)
	}
	w := &Network{t: t, number: networks.Add(1)}
	t.Cleanup(w.end)
	err := errors.New("none tried")
	for try := 0; err != nil && try < 64; try++ {
		w.prefix, err = freePrefix(os.Getpid()*7 + int(w.number) + try*101)
	}
	if err == nil {
		err = ip("link add "+w.bridge()+" address "+macOf(w.prefix, 1).String()+" type bridge stp_state 0 forward_delay 0",
			fmt.Sprintf("addr add %s/%d dev %s", hostOf(w.prefix, 1), w.prefix.Bits(), w.bridge()),
			"link set "+w.bridge()+" up")
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *Network) bridge() string { return fmt.Sprintf("mr%db%d", os.Getpid(), w.number) }

// freePrefix is a network for 14 hosts among those that are for tests of networks (RFC 2544), which no interface here has.
func freePrefix(from int) (netip.Prefix, error) {
	const all = 1 << (28 - 15)
	n := from % all
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(n>>12), byte(n >> 4), byte(n<<4) & 0xf0}), 28)
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return p, err
	}
	for _, a := range addresses {
		if taken, err := netip.ParsePrefix(a.String()); err == nil && taken.Overlaps(p) {
			return p, fmt.Errorf("%v is an interface's already", p)
		}
	}
	return p, nil
}

func hostOf(p netip.Prefix, number int) netip.Addr {
	a := p.Addr().As4()
	a[3] |= byte(number)
	return netip.AddrFrom4(a)
}

// macOf is a locally administered address.
func macOf(p netip.Prefix, number int) net.HardwareAddr {
	a := hostOf(p, number).As4()
	return append(net.HardwareAddr{2, 0}, a[:]...)
}

// nobody has this address, so the bridge gives what is sent there to all, and none takes it.
var nobody = net.HardwareAddr{2, 1, 0, 0, 0, 0}

// Member puts a node, which others can reach, into a namespace of its own.
func (w *Network) Member(name string) Option {
	w.t.Helper()
	h, err := w.attach(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return func(n *Node) {
		n.Name, n.namespace, n.host = name, h.namespace, h.address.String()
		n.flags = append(n.flags, "--node", name, "--cluster-listen", netip.AddrPortFrom(h.address, 7420).String())
	}
}

// Cluster makes nodes n1, n2 and so on, of one cluster in this network, and starts them.
func (w *Network) Cluster(count int, options ...Option) []*Node {
	w.t.Helper()
	return cluster(w.t, count, w.Member, options)
}

func (w *Network) attach(name string) (*host, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	number := len(w.hosts) + 2
	h := &host{
		name: name, namespace: fmt.Sprintf("mailraft-%d-%d-%s", os.Getpid(), w.number, name),
		address: hostOf(w.prefix, number), mac: macOf(w.prefix, number),
	}
	w.hosts = append(w.hosts, h)
	port := fmt.Sprintf("mr%dv%d", os.Getpid(), w.number<<4|uint64(number))
	if err := ip(
		"netns add "+h.namespace,
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", port, h.mac, h.namespace),
		"link set "+port+" master "+w.bridge(),
		"link set "+port+" up",
	); err != nil {
		return h, err
	}
	return h, ip("-n "+h.namespace, "link set lo up", "link set eth0 up", fmt.Sprintf("addr add %s/%d dev eth0", h.address, w.prefix.Bits()))
}

// Lose has all lost that a node sends to another. What comes from there still arrives.
func (w *Network) Lose(from, to *Node) {
	w.t.Helper()
	w.reach(w.of(from), w.of(to), nobody)
}

// Cut has all lost between two nodes.
func (w *Network) Cut(a, b *Node) {
	w.t.Helper()
	w.Lose(a, b)
	w.Lose(b, a)
}

// Isolate has all lost between a node and all others. The test still reaches it.
func (w *Network) Isolate(n *Node) {
	w.t.Helper()
	for _, h := range w.all() {
		if h.name != n.Name {
			w.reach(w.of(n), h, nobody)
			w.reach(h, w.of(n), nobody)
		}
	}
}

// Heal has nothing lost any more.
func (w *Network) Heal() {
	w.t.Helper()
	all := w.all()
	for _, from := range all {
		for _, to := range all {
			if from != to {
				w.reach(from, to, to.mac)
			}
		}
	}
}

// reach has a host send what is for another to a hardware address. The entry is permanent: nothing that comes in changes it.
func (w *Network) reach(from, to *host, mac net.HardwareAddr) {
	w.t.Helper()
	if err := ip("-n "+from.namespace, fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev eth0", to.address, mac)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *Network) all() []*host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.hosts)
}

func (w *Network) of(n *Node) *host {
	w.t.Helper()
	for _, h := range w.all() {
		if h.name == n.Name {
			return h
		}
	}
	w.t.Fatalf("node %s is not in this network", n.Name)
	return nil
}

func (w *Network) end() {
	for _, h := range w.all() {
		if err := ip("netns del " + h.namespace); err != nil { // with it goes the link
			w.t.Error(err)
		}
	}
	if err := ip("link del " + w.bridge()); err != nil {
		w.t.Error(err)
	}
}

// ip runs commands of ip(8) in order. A first one that is but options is for all of them.
func ip(commands ...string) error {
	args := []string{"-batch", "-"}
	if strings.HasPrefix(commands[0], "-") {
		args, commands = append(strings.Fields(commands[0]), args...), commands[1:]
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ip: %q: %w\n%s", commands, err, stderr.Bytes())
	}
	return nil
}

var (
	namespaceOf = regexp.MustCompile(`^mailraft-(\d+)-`)
	linkOf      = regexp.MustCompile(`^mr(\d+)[bv]\d+$`)
	clearOnce   sync.Once
)

// clearStale removes, once, the namespaces and links of processes that are no more, and of an earlier one that had this one's number.
func clearStale() (err error) {
	clearOnce.Do(func() { err = removeStale() })
	return err
}

func removeStale() error {
	spaces, err := filepath.Glob(namespaces + "/mailraft-*")
	links, lerr := net.Interfaces()
	errs := []error{err, lerr}
	for _, s := range spaces {
		if name := filepath.Base(s); stale(namespaceOf.FindStringSubmatch(name)) {
			errs = append(errs, ip("netns del "+name))
		}
	}
	for _, l := range links {
		if !stale(linkOf.FindStringSubmatch(l.Name)) {
			continue
		}
		err := ip("link del " + l.Name)
		if _, gone := net.InterfaceByName(l.Name); gone == nil { // else a namespace's end took it along
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stale takes a name apart whose first group is a process's number.
func stale(name []string) bool {
	if name == nil {
		return false
	}
	pid, err := strconv.Atoi(name[1])
	return err == nil && (pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH))
}

// enter takes the calling thread, which must be locked, into a network namespace.
func enter(namespace string) error {
	path := filepath.Join(namespaces, namespace)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", path, err)
	}
	return nil
}
