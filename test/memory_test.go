package test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// The largest message passes through, whichever way it comes and goes, and no process holds it in memory more than about twice.
// These are the processes as they are released: what the race detector needs would hide what the message does. And they have a limit
// that leaves them about twice the message: without one, the collector lets garbage lie that nobody holds.
func TestLargestMessage(t *testing.T) {
	raw := noise(50<<20 - 300) // with the trace lines it is just within the limit
	bySMTP := func(dial func(*node.Node) (*client.SMTP, error)) func(*testing.T, *node.Node, node.Account) {
		return func(t *testing.T, n *node.Node, a node.Account) {
			deliver(t, func() (*client.SMTP, error) { return dial(n) }, 1, []message.Message{{Name: "the largest", Raw: raw}}, a.Address)
		}
	}
	for way, deliver := range map[string]func(*testing.T, *node.Node, node.Account){
		"SMTP":  bySMTP(func(n *node.Node) (*client.SMTP, error) { return client.DialSMTP(n.SMTP) }),
		"LMTP":  bySMTP(func(n *node.Node) (*client.SMTP, error) { return client.DialLMTP(n.LMTP) }),
		"mount": func(t *testing.T, _ *node.Node, a node.Account) { writeMessage(t, a, raw) },
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			n := node.Start(t, node.Flags("--memory-limit", "112M"))
			a := n.AddAccount("alice@example.org")
			send(t, n, a, 1, message.Text(1, 1000)) // everything is warm
			needed := watchMemory(t, n)
			deliver(t, n, a)
			needed("taking it in", "daemon", len(raw))
			needed("taking it in", "smtp", len(raw))
			for reader, got := range map[string][]byte{"IMAP": lastByIMAP(t, n, a), "POP3": lastByPOP3(t, n, a), "mount": largestFile(t, n, a)} {
				if !bytes.HasSuffix(got, raw) {
					t.Errorf("by %s came %d octets that are not the message", reader, len(got))
				}
			}
			needed("giving it out", "imap", len(raw))
			needed("giving it out", "pop3", len(raw))
			n.Fsck()
		})
	}
}

// watchMemory waits until the node is at rest, and returns what fails the test when the daemon or a proxy has needed more memory
// since than about twice the octets of a message.
func watchMemory(t *testing.T, n *node.Node) func(doing, process string, octets int) {
	t.Helper()
	const slack, rest = 10 << 20, 64 << 20
	processes := map[string]int{"daemon": n.PID(), "smtp": n.Proxy("smtp"), "imap": n.Proxy("imap"), "pop3": n.Proxy("pop3")}
	n.Eventually("the daemon gives back what making an account's keys took", func() bool { return n.Memory(n.PID()) < rest })
	before := map[string]uint64{}
	for name, pid := range processes {
		before[name] = n.Memory(pid)
		n.ForgetPeak(pid)
	}
	return func(doing, process string, octets int) {
		t.Helper()
		needed := int64(n.PeakMemory(processes[process]) - before[process])
		t.Logf("%s: the %s needed %d MiB", doing, process, needed>>20)
		if needed > 2*int64(octets)+slack {
			t.Errorf("%s: the %s needed %d MiB for a message of %d MiB", doing, process, needed>>20, octets>>20)
		}
	}
}

// noise is a message of so many octets that does not compress.
func noise(octets int) []byte {
	b := make([]byte, octets)
	rand.NewChaCha8([32]byte{}).Read(b)
	for i := range b {
		switch {
		case i%500 == 498:
			b[i] = '\r'
		case i%500 == 499:
			b[i] = '\n'
		case b[i] == '\r' || b[i] == '\n' || b[i] == 0:
			b[i] = 'x'
		}
	}
	copy(b, "Subject: noise\r\n\r\n")
	copy(b[octets-2:], "\r\n")
	return b
}

// writeMessage delivers as programs on the mount do.
func writeMessage(t *testing.T, a node.Account, raw []byte) {
	t.Helper()
	staged := filepath.Join(a.Home, "tmp", "largest")
	if err := os.WriteFile(staged, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(staged, filepath.Join(a.Home, "new", "largest")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(staged); err != nil {
		t.Fatal(err)
	}
}

func lastByIMAP(t *testing.T, n *node.Node, a node.Account) []byte {
	t.Helper()
	c := logIn(t, n, a)
	must(t, c, "EXAMINE INBOX")
	for _, r := range must(t, c, "FETCH * BODY.PEEK[]") {
		if len(r.Literals) == 1 {
			return r.Literals[0]
		}
	}
	t.Error("FETCH: no message")
	return nil
}

func lastByPOP3(t *testing.T, n *node.Node, a node.Account) []byte {
	t.Helper()
	b, err := logInPOP3(t, n, a).Multi("RETR 2")
	if err != nil {
		t.Error(err)
	}
	return b
}

func largestFile(t *testing.T, n *node.Node, a node.Account) (largest []byte) {
	t.Helper()
	n.Unlock(a)
	for _, path := range files(t, a.Home) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		if len(b) > len(largest) {
			largest = b
		}
	}
	return largest
}
