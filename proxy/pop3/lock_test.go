package pop3

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestInUse(t *testing.T) {
	d := threeMessages(t)
	one, two := serve(t, Config{}, d), serve(t, Config{}, d) // two servers on one mount
	first := one.login()
	for _, h := range []*host{one, two} {
		c := h.dial()
		c.expect("+OK")
		c.do("USER "+alice, "+OK")
		c.do("PASS "+testPassword, "-ERR [IN-USE]")
		<-h.logins.last().closed
		c.do("QUIT", "+OK")
	}
	first.do("QUIT", "+OK")
	two.login().do("QUIT", "+OK")
	if n := len(d.flags()); n != 0 {
		t.Errorf("%d lock files left", n)
	}
}

func TestStaleLocks(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	me := thisProcess()
	gone := owner{place: me.place, pid: dead.Process.Pid, start: me.start}.String()
	reused := owner{place: me.place, pid: me.pid, start: "1"}.String()
	elsewhere := owner{place: "0123456789abcdef", pid: dead.Process.Pid, start: "1"}.String()
	for name, flag := range map[string]struct {
		owner string
		age   time.Duration
		inUse bool
	}{
		"alive here":          {me.String(), time.Minute, true},
		"alive here, stale":   {me.String(), 6 * time.Minute, false},
		"dead here":           {gone, 0, false},
		"pid used again":      {reused, 0, false},
		"elsewhere":           {elsewhere, 4 * time.Minute, true},
		"elsewhere, stale":    {elsewhere, 6 * time.Minute, false},
		"elsewhere, to come":  {elsewhere, -time.Minute, true},
		"of the far future":   {elsewhere, -time.Hour, false},
		"nobody knows, fresh": {"x", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			path := filepath.Join(home, lockPrefix+flag.owner+".RANDOM")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			when := time.Now().Add(-flag.age)
			if err := os.Chtimes(path, when, when); err != nil {
				t.Fatal(err)
			}
			l, err := lockDrop(home, lockStale)
			if flag.inUse {
				if !errors.Is(err, errInUse) {
					t.Fatalf("locked: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := l.unlock(); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(home); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// However many want it, and with whatever stale locks around, a maildrop is never had by two.
func TestLockExcludes(t *testing.T) {
	home := t.TempDir()
	var holders, had atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				stale := filepath.Join(home, lockPrefix+"elsewhere."+strconv.Itoa(i*1000+j))
				if err := os.WriteFile(stale, nil, 0o600); err != nil {
					t.Error(err)
				}
				os.Chtimes(stale, time.Unix(1, 0), time.Unix(1, 0)) // it may be gone already
				l, err := lockDrop(home, lockStale)
				if errors.Is(err, errInUse) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d holders", n)
				}
				had.Add(1)
				holders.Add(-1)
				if err := l.unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if had.Load() == 0 {
		t.Error("nobody ever had it")
	}
}

// A session whose lock was taken down (it slept for long, or its node's clock was off) must not remove anything.
func TestLostLock(t *testing.T) {
	d := threeMessages(t)
	h := serve(t, Config{}, d)
	c := h.login()
	c.do("DELE 1", "+OK")
	for _, path := range d.flags() {
		d.must(os.Remove(path))
	}
	c.do("QUIT", "-ERR the maildrop's lock is lost, nothing was removed")
	if n := d.files(); n != 3 {
		t.Errorf("%d messages left, want 3", n)
	}
}

func TestKeeper(t *testing.T) {
	d := threeMessages(t)
	h := serve(t, Config{}, d, func(s *Server) { s.lockRefresh = 20 * time.Millisecond })
	c := h.login()
	path := d.flags()[0]
	old := time.Now().Add(-time.Hour)
	d.must(os.Chtimes(path, old, old))
	for { // until the keeper has touched it
		info, err := os.Stat(path)
		d.must(err)
		if time.Since(info.ModTime()) < time.Minute {
			break
		}
		c.do("NOOP", "+OK")
	}
	d.must(os.Remove(path))
	c.expectEOF()
}
