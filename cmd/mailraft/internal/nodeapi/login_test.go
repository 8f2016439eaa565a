package nodeapi

import (
	"errors"
	"net"
	"testing"

	"mailraft/fs/seal/slot"
	"mailraft/proxy"
)

func TestParty(t *testing.T) {
	for _, c := range []struct{ remote, user, want string }{
		{"192.0.2.1:5000", "a@example.org", "192.0.2.1"},
		{"192.0.2.1:5001", "b@example.org", "192.0.2.1"},
		{"[::ffff:192.0.2.1]:5000", "a@example.org", "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:5000", "a@example.org", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:5000", "a@example.org", "fe80::/64"},
		{"127.0.0.1:5000", "A@example.org", "user a@example.org"},
		{"[::1]:5000", "a@example.org", "user a@example.org"},
		{"[::ffff:127.0.0.2]:5000", "a@example.org", "user a@example.org"},
		{"@", "a@example.org", "user a@example.org"},
		{"", "", "user "}, // not "", which is this node's own
	} {
		if got := party(c.remote, c.user); got != c.want {
			t.Errorf("%s as %s: %q, want %q", c.remote, c.user, got, c.want)
		}
	}
}

// TestOneHostDoesNotHoldTheLine has one host wait with as many logins as it may, and more, while another waits with one.
func TestOneHostDoesNotHoldTheLine(t *testing.T) {
	w := newWorld(t)
	w.account(t, "alice", 0)
	var leave []func()
	for range 2 { // all of the turns
		f, err := w.gate.Enter(within(t), "", slot.DefaultParams)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, f)
	}
	results := make(chan error)
	login := func(host byte, password string) {
		cr := credentials("alice@example.org", password)
		cr.Remote = &net.TCPAddr{IP: net.IPv4(192, 0, 2, host), Port: 9}
		s, err := w.client.Login(within(t), cr)
		if err == nil {
			s.Close()
		}
		results <- err
	}
	for range slot.MaxWaiting + 1 {
		go login(1, "wrong")
	}
	if err := <-results; !errors.Is(err, proxy.ErrTemporary) { // the last one: the others wait
		t.Fatal("one too many:", err)
	}
	go login(2, "secret")
	for _, f := range leave {
		f()
	}
	in := 0
	for range slot.MaxWaiting + 1 {
		switch err := <-results; {
		case err == nil:
			in++
		case !errors.Is(err, proxy.ErrAuthentication):
			t.Error(err)
		}
	}
	if in != 1 {
		t.Errorf("%d of one login from elsewhere", in)
	}
}
