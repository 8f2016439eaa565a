package test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailraft/test/client"
	"mailraft/test/node"
)

// hostileImports and hostileCode are what an attacker has a POP3 proxy run that he has taken over. It does what the password of a certain
// user says, and tells how that went: "done", with what was read in base64, or the error.
const hostileImports = `import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
`

const hostileCode = `	if user == "hostile" {
		return &failure{text: hostile(strings.Split(string(arg), " "))}
	}
	credentials := proxy.Credentials{`

const hostileFunction = `func hostile(order []string) string {
	what, err := []byte(nil), error(nil)
	number := func(i int) int { n, _ := strconv.Atoi(order[i]); return n }
	switch order[0] {
	case "read":
		what, err = os.ReadFile(order[1])
	case "list":
		_, err = os.ReadDir(order[1])
	case "write":
		err = os.WriteFile(order[1], []byte("x"), 0o600)
	case "dial":
		var c net.Conn
		if c, err = net.DialTimeout(order[1], order[2], 10*time.Second); err == nil {
			c.Close()
		}
	case "reconnect": // what listens
		err = unix.EPERM
		for fd := 3; fd < 64; fd++ {
			if listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); listens == 0 {
				continue
			}
			var nowhere [16]byte
			for _, size := range []int{2, 12, 16} {
				unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), uintptr(size))
			}
			if unix.Connect(fd, &unix.SockaddrInet4{Port: number(1), Addr: [4]byte{127, 0, 0, 1}}) == nil {
				err = nil
			}
		}
	case "exec":
		err = unix.Exec(order[1], order[1:], nil)
	case "trace":
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(number(1)), 0, 0, 0, 0)
		if errno != 0 {
			err = errno
		}
	case "peek":
		into := make([]byte, 8)
		_, err = unix.ProcessVMReadv(number(1), []unix.Iovec{{Base: &into[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	case "kill":
		err = unix.Kill(number(1), unix.SIGKILL)
	}
	if err != nil {
		return fmt.Sprint("refused: ", err)
	}
	return "done " + base64.StdEncoding.EncodeToString(what)
}
`

// takenOver is a program whose POP3 proxy obeys an attacker.
func takenOver(t *testing.T) string {
	t.Helper()
	return node.Changed(t, "proxy/pop3/login.go",
		"import (\n\t\"context\"\n", hostileImports,
		"\tcredentials := proxy.Credentials{\n", hostileCode,
		"// mayLogIn says", hostileFunction+"// mayLogIn says")
}

// attacker gives orders to a proxy that was taken over.
type attacker struct {
	t *testing.T
	c *client.POP3
}

func (a attacker) order(format string, args ...any) string {
	a.t.Helper()
	if _, err := a.c.Command("USER hostile"); err != nil {
		a.t.Fatal(err)
	}
	order := fmt.Sprintf(format, args...)
	if err := a.c.Sendf("PASS %s", order); err != nil {
		a.t.Fatal(err)
	}
	line, err := a.c.Line()
	if err != nil {
		a.t.Fatalf("%s: %v", order, err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "-ERR"))
}

// mustFail gives an order that nothing may come of, for one of these reasons.
func (a attacker) mustFail(order string, reasons ...string) {
	a.t.Helper()
	answer := a.order("%s", order)
	if why, refused := strings.CutPrefix(answer, "refused: "); refused {
		for _, r := range reasons {
			if strings.Contains(why, r) {
				return
			}
		}
	}
	a.t.Errorf("%s: %.200s", order, answer)
}

// Strangers' code that runs in a proxy reaches no key, no replica, no other node, and of the mail only what is unlocked here now.
func TestProxyTakenOver(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 2, node.Running(takenOver(t)), node.Flags("--log-level", "debug", "--unlock-grace", "0", "--stop-timeout", "1s"))
	n := nodes[0]
	alice, bob := n.AddAccount("alice@example.org"), n.AddAccount("bob@example.org")
	raw := oneText(t, n, alice, 1)
	oneText(t, n, bob, 2)
	message := func(a node.Account) string { return inProxy(t, n, files(t, a.Home)[0]) }
	ofAlice, ofBob := message(alice), message(bob)

	c, err := client.DialPOP3(n.POP3, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := attacker{t, c}
	const denied, notPermitted, locked = "permission denied", "not permitted", "required key not available"

	// Nothing of the file system but the mail: not even what everybody may read.
	for _, path := range []string{"/etc/passwd", "/etc/shadow", "/etc/hostname", "/proc/self/maps", "/proc/self/environ", "/proc/1/cmdline",
		fmt.Sprintf("/proc/%d/mem", n.PID()), fmt.Sprintf("/proc/%d/maps", n.PID()), fmt.Sprintf("/proc/%d/cmdline", n.Proxy("imap")),
		"/dev/fuse", filepath.Join(n.Data, "node.json")} {
		a.mustFail("read "+path, denied)
	}
	open := filepath.Join(t.TempDir(), "everybody's")
	if err := os.WriteFile(open, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(open); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	a.mustFail("read "+open, denied)
	a.mustFail("write "+open+"-x", denied)
	for _, folder := range []string{"/", "/tmp", n.Data, n.Run, n.Mount} {
		a.mustFail("list "+folder, denied)
	}

	// No other process, no program.
	for _, pid := range []int{n.PID(), n.Proxy("imap"), n.Proxy("smtp")} {
		a.mustFail(fmt.Sprintf("trace %d", pid), notPermitted)
		a.mustFail(fmt.Sprintf("peek %d", pid), notPermitted)
		a.mustFail(fmt.Sprintf("kill %d", pid), notPermitted)
	}
	a.mustFail("exec /bin/sh", notPermitted, denied)

	// No other node, and nobody else.
	anybody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer anybody.Close()
	_, port, _ := net.SplitHostPort(anybody.Addr().String())
	for _, address := range []string{clusterAddress(t, nodes[1]), nodes[1].IMAP, n.IMAP, anybody.Addr().String()} {
		a.mustFail("dial tcp "+address, notPermitted)
		a.mustFail("dial udp "+address, notPermitted)
	}
	a.mustFail("dial unix "+filepath.Join(n.Run, "admin.sock"), notPermitted)
	a.mustFail("dial unix admin.sock", notPermitted)

	// Of the mail, what its owners read now: that is what is left to an attacker.
	a.mustFail("read "+ofBob, locked)
	a.mustFail("read "+ofAlice, locked)
	owner := logIn(t, n, alice)
	answer := a.order("read %s", ofAlice)
	text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(answer, "done "))
	if err != nil || !bytes.HasSuffix(text, raw) {
		t.Errorf("unlocked mail: %.200s", answer)
	}
	a.mustFail("read "+ofBob, locked)
	if err := owner.Logout(); err != nil {
		t.Fatal(err)
	}
	n.Eventually("locked after the last session", func() bool { return !n.IsUnlocked(alice) })
	a.mustFail("read "+ofAlice, locked)

	// The last one, as it may end what listens.
	a.mustFail("reconnect "+port, notPermitted)
	for _, name := range []string{"smtp", "imap", "pop3"} {
		for field, want := range map[string]string{"Seccomp": "2", "NoNewPrivs": "1"} {
			if got := n.ProcessField(n.Proxy(name), field); got != want {
				t.Errorf("%s proxy: %s is %s, want %s", name, field, got, want)
			}
		}
		if n.Logged("confined by Landlock", "proxy", name) == 0 {
			t.Errorf("the %s proxy does not say how it is confined", name)
		}
	}
}

// inProxy is the path by which a proxy reaches a file of the mount: through the descriptor of the shards' folder, its first one.
func inProxy(t *testing.T, n *node.Node, path string) string {
	t.Helper()
	rel, err := filepath.Rel(n.Mount, path)
	if err != nil {
		t.Fatal(err)
	}
	shards := filepath.Join(n.Run, "shards")
	all, err := filepath.Glob(filepath.Join(shards, "*", rel))
	if err != nil || len(all) == 0 {
		t.Fatalf("%s is in no shard's mount: %v", rel, err)
	}
	return "/proc/self/fd/4" + strings.TrimPrefix(all[0], shards)
}

// clusterAddress is where a node takes other nodes' connections.
func clusterAddress(t *testing.T, n *node.Node) string {
	t.Helper()
	command := n.Command()
	for i := len(command) - 2; i >= 0; i-- {
		if command[i] == "--cluster-listen" {
			return command[i+1]
		}
	}
	t.Fatal("no --cluster-listen")
	return ""
}
