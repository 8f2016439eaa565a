package damage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// onSmallDisk makes a node whose data folder is a tmpfs of so many octets.
func onSmallDisk(t *testing.T, octets int, options ...node.Option) *node.Node {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", octets)))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	n := node.New(t, options...)
	n.Data = filepath.Join(dir, "data")
	return n
}

// mailer delivers messages by SMTP, each different, and remembers those that were taken.
type mailer struct {
	*client.SMTP
	to    string
	sent  uint64
	taken [][]byte
}

func (m *mailer) deliver(t *testing.T, octets int) client.Reply {
	t.Helper()
	m.sent++
	text := message.Text(m.sent, octets)
	answers, refused, err := m.Deliver("bench@example.net", text, m.to)
	must(t, err)
	for _, r := range refused {
		return r
	}
	if answers[0].OK() {
		m.taken = append(m.taken, text)
	}
	return answers[0]
}

// untilFull delivers until a message is refused, which has to be for now and for the lack of space (RFC 3463, 3.4: X.3.1).
func (m *mailer) untilFull(t *testing.T, octets int) {
	t.Helper()
	for range 10_000 {
		r := m.deliver(t, octets)
		if r.OK() {
			continue
		}
		if !r.Begins("452 4.3.1") {
			t.Fatalf("on a full disk SMTP answers %q", r)
		}
		return
	}
	t.Fatal("the disk does not fill")
}

// reads looks for every message taken, in the account's home.
func (m *mailer) reads(t *testing.T, home string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(home, "new"))
	must(t, err)
	if len(entries) != len(m.taken) {
		t.Fatalf("%d messages are there, %d were taken", len(entries), len(m.taken))
	}
	bodies := map[string]int{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(home, "new", e.Name()))
		must(t, err)
		_, body, _ := strings.Cut(string(b), "\r\n\r\n")
		bodies[body]++
	}
	for i, text := range m.taken {
		_, body, _ := strings.Cut(string(text), "\r\n\r\n")
		if bodies[body] != 1 {
			t.Fatalf("message %d is there %d times", i, bodies[body])
		}
	}
}

// TestFullDisk fills the disk with mail, then with somebody else's data to the last octet. Mail is refused for now, reading goes
// on, and when there is space again, mail is taken again, by the same daemon and after a restart.
func TestFullDisk(t *testing.T) {
	const disk, reserve = 192 << 20, 32 << 20
	n := onSmallDisk(t, disk, node.Flags("--shards", "1", "--min-free", fmt.Sprint(reserve)), node.Expecting("message not stored"))
	n.Start()
	a := n.AddAccount("alice@example.org")
	n.Unlock(a)
	c, err := client.DialSMTP(n.SMTP)
	must(t, err)
	m := &mailer{SMTP: c, to: a.Address}
	for range 5 {
		if r := m.deliver(t, 4<<10); !r.OK() {
			t.Fatal(r)
		}
	}

	ballast := filepath.Join(filepath.Dir(n.Data), "ballast")
	f, err := os.Create(ballast)
	must(t, err)
	var room unix.Statfs_t
	must(t, unix.Statfs(n.Data, &room)) // the ballast lies beside it
	left := int64(room.Bavail)*room.Bsize - reserve - 8<<20
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, left))
	m.untilFull(t, 200<<10)
	m.reads(t, a.Home)

	// To the last octet: nothing can be written any more, by anybody.
	_, err = f.Seek(left, io.SeekStart)
	must(t, err)
	if _, err := f.ReadFrom(endless{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, f.Close())
	m.untilFull(t, 4<<10)
	m.reads(t, a.Home)
	if err := os.WriteFile(filepath.Join(a.Home, "note"), []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing a file on the mount: %v", err)
	}

	must(t, os.Remove(ballast))
	n.Eventually("mail is taken again", func() bool { return m.deliver(t, 4<<10).OK() })
	m.reads(t, a.Home)
	must(t, m.Quit())

	n.Stop()
	n.Start()
	n.Unlock(a)
	if m.SMTP, err = client.DialSMTP(n.SMTP); err != nil {
		t.Fatal(err)
	}
	if r := m.deliver(t, 4<<10); !r.OK() {
		t.Error(r)
	}
	m.reads(t, a.Home)
	must(t, m.Quit())
	n.Fsck()
	n.Stop()
}

// TestStoppedWhileFull stops a daemon whose disk has no octet left, and starts it when there is space again.
func TestStoppedWhileFull(t *testing.T) {
	n := onSmallDisk(t, 160<<20, node.Flags("--shards", "1", "--min-free", "1M"))
	n.Start()
	a := n.AddAccount("alice@example.org")
	n.Stop()
	d := try(t, n)
	if !d.serves {
		t.Fatalf("it does not serve:\n%s", d.said())
	}
	want := deliver(t, a, 50)
	ballast := filepath.Join(filepath.Dir(n.Data), "ballast")
	f, err := os.Create(ballast)
	must(t, err)
	if _, err := f.ReadFrom(endless{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, f.Close())
	d.stop(t, n) // what it complains of is no matter
	if d.panicked() {
		t.Errorf("panic:\n%s", d.said())
	}
	if lines := strings.Count(d.said(), "\n"); lines > 20_000 { // it was half a million when failed flushes were tried again at once
		t.Errorf("it wrote %d lines of log", lines)
	}
	must(t, os.Remove(ballast))
	n.Start()
	n.Unlock(a)
	for name, text := range want {
		if b, err := os.ReadFile(filepath.Join(a.Home, "new", name)); err != nil || !bytes.Equal(b, text) {
			t.Errorf("%s: %d octets of %d, %v", name, len(b), len(text), err)
		}
	}
	n.Fsck()
	n.Stop()
}

// endless is zeros without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestNoRoomToStart starts a node on a disk that is too small to make its files.
func TestNoRoomToStart(t *testing.T) {
	n := onSmallDisk(t, 16<<20, node.Flags("--shards", "4"))
	refuses(t, n, "no space left on its disk; free some and start again")
}
