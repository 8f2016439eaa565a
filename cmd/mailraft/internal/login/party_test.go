package login

import "testing"

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
