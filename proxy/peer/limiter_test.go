package peer

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func tcp(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

func TestLimitPerPeer(t *testing.T) {
	l := NewLimiter(100, 1)
	leave, err := l.Enter(tcp("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		ip   string
		want error
	}{
		{"192.0.2.1", ErrTooManyFromPeer},
		{"::ffff:192.0.2.1", ErrTooManyFromPeer},
		{"192.0.2.2", nil},
		{"2001:db8::1", nil},
		{"2001:db8::2:1", ErrTooManyFromPeer}, // the same /64
		{"2001:db8:0:1::1", nil},
		{"127.0.0.1", nil}, {"127.0.0.1", nil}, {"::1", nil}, {"::1", nil}, // no limit of their own
	} {
		if _, err := l.Enter(tcp(test.ip)); err != test.want {
			t.Errorf("%s: %v, want %v", test.ip, err, test.want)
		}
	}
	for range 5 {
		if _, err := l.Enter(&net.UnixAddr{Net: "unix"}); err != nil {
			t.Errorf("Unix socket: %v", err)
		}
	}
	leave()
	if _, err := l.Enter(tcp("192.0.2.1")); err != nil {
		t.Errorf("after the first has left: %v", err)
	}
}

func TestLimitInAll(t *testing.T) {
	l := NewLimiter(2, 2)
	leave, _ := l.Enter(tcp("127.0.0.1"))
	second, _ := l.Enter(tcp("192.0.2.1"))
	if _, err := l.Enter(tcp("127.0.0.1")); err != ErrTooMany {
		t.Errorf("third: %v", err)
	}
	leave()
	second()
	if l.total != 0 || len(l.perNet) != 0 {
		t.Errorf("%d, %v are left", l.total, l.perNet)
	}
}

func TestHoldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		begun := time.Now()
		if !HoldBack(done, 3, time.Second) || time.Since(begun) != 3*time.Second {
			t.Errorf("held back for %v", time.Since(begun))
		}
		close(done)
		if HoldBack(done, 1, time.Hour) {
			t.Error("held back though it was over")
		}
	})
}
