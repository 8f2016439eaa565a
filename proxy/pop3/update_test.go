package pop3

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func threeMessages(t testing.TB) *drop {
	d := newDrop(t)
	d.add("one\r\n", true)
	d.add("two\r\n", true)
	d.add("three\r\n", true)
	return d
}

func TestQuitRemoves(t *testing.T) {
	d := threeMessages(t)
	h := serve(t, Config{}, d)
	c := h.login()
	c.do("DELE 1", "+OK")
	c.do("RSET", "+OK")
	c.do("DELE 2", "+OK")
	c.do("QUIT", "+OK bye, 1 messages removed")
	// Whoever has the answer may come again at once.
	c2 := h.login()
	c.expectEOF()
	if _, err := os.Stat(filepath.Join(d.home, d.index.Messages[1].Name)); !os.IsNotExist(err) {
		t.Errorf("message 2 is there: %v", err)
	}
	if n := d.files(); n != 2 {
		t.Errorf("%d messages left, want 2", n)
	}
	c2.do("QUIT", "+OK")
	if n := len(d.flags()); n != 0 {
		t.Errorf("%d lock files left", n)
	}
}

// Only QUIT removes: all other ends of a session leave everything (RFC 1939, 6).
func TestOtherEndsRemoveNothing(t *testing.T) {
	for name, end := range map[string]func(h *host, c *client){
		"broken connection": func(_ *host, c *client) { c.nc.Close() },
		"half a QUIT": func(_ *host, c *client) {
			c.send("QUIT\r")
			c.nc.Close()
		},
		"timeout": func(_ *host, c *client) { c.expectEOF() }, // RFC 1939, 3: without a word
		"login ended": func(h *host, c *client) {
			close(h.logins.last().done)
			c.expectEOF()
		},
		"shutdown": func(h *host, c *client) {
			if err := h.srv.Shutdown(context.Background()); err != nil {
				h.t.Error(err)
			}
			c.expectEOF()
		},
		"bad commands": func(_ *host, c *client) {
			c.send("X\r\nX\r\nX\r\nQUIT\r\n")
			for range 3 {
				c.expect("-ERR unknown command")
			}
			c.expectEOF()
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := threeMessages(t)
			cfg := Config{MaxBadCommands: 3}
			if name == "timeout" {
				cfg.InactivityTimeout = 100 * time.Millisecond
			}
			h := serve(t, cfg, d)
			c := h.login()
			c.do("DELE 1", "+OK")
			c.do("DELE 2", "+OK")
			end(h, c)
			<-h.logins.last().closed
			if n := d.files(); n != 3 {
				t.Errorf("%d messages left, want 3", n)
			}
			if n := len(d.flags()); n != 0 {
				t.Errorf("%d lock files left", n)
			}
		})
	}
}

func TestMovedMeanwhile(t *testing.T) {
	d := threeMessages(t)
	c := serve(t, Config{}, d).login()
	d.rename(0, "cur/moved:2,S")
	if got := c.multi("RETR 1"); got != "one\r\n" {
		t.Errorf("RETR of a moved message: %q", got)
	}
	d.rename(0, "cur/moved:2,RS")
	if got := c.multi("TOP 1 9"); got != "one\r\n" {
		t.Errorf("TOP of a moved message: %q", got)
	}
	c.do("DELE 1", "+OK")
	c.do("DELE 3", "+OK")
	d.rename(0, "cur/moved:2,FRS")
	d.remove(2)
	c.do("QUIT", "+OK bye, 1 messages removed")
	if n := d.files(); n != 1 {
		t.Errorf("%d messages left, want 1", n)
	}
}

func TestGoneMeanwhile(t *testing.T) {
	d := threeMessages(t)
	h := serve(t, Config{}, d)
	c := h.login()
	d.remove(1)
	c.do("RETR 2", "-ERR the message is gone")
	c.do("TOP 2 0", "-ERR the message is gone")
	c.do("LIST 2", "+OK 2 5")
	if got := c.multi("RETR 3"); got != "three\r\n" {
		t.Errorf("RETR: %q", got)
	}
	c.do("DELE 2", "+OK")
	c.do("QUIT", "+OK bye, 0 messages removed")

	// Another UIDVALIDITY: the same UIDs are other messages.
	c = h.login()
	d.index.UIDValidity++
	d.rename(0, "cur/other")
	c.do("RETR 1", "-ERR the message is gone")
	c.do("DELE 1", "+OK")
	c.do("QUIT", "+OK bye, 0 messages removed")
	if n := d.files(); n != 2 {
		t.Errorf("%d messages left, want 2", n)
	}
}

func TestNotRemoved(t *testing.T) {
	d := threeMessages(t)
	path := filepath.Join(d.home, d.index.Messages[1].Name)
	c := serve(t, Config{}, d).login()
	for _, command := range []string{"DELE 1", "DELE 2", "DELE 3"} {
		c.do(command, "+OK")
	}
	d.must(os.Remove(path))
	d.must(os.Mkdir(path, 0o700)) // unlink says EISDIR
	c.do("QUIT", "-ERR some deleted messages not removed: 1 of 3")
	c.expectEOF()
	if n := d.files(); n != 1 {
		t.Errorf("%d messages left, want 1", n)
	}
}

func TestUnreadableMessage(t *testing.T) {
	d := threeMessages(t)
	d.add("no sizes\n", false)
	for _, i := range []int{1, 3} {
		path := filepath.Join(d.home, d.index.Messages[i].Name)
		d.must(os.Remove(path))
		d.must(os.Mkdir(path, 0o700)) // read says EISDIR, behind +OK
	}
	h := serve(t, Config{}, d)
	c := h.login()
	c.do("STAT", "+OK 4 26") // 9 for the one that cannot be read
	c.do("RETR 2", "+OK")
	c.expectEOF() // no final dot

	path := filepath.Join(d.home, d.index.Messages[0].Name)
	d.must(os.Remove(path))
	d.must(os.Symlink(filepath.Base(path), path)) // open says ELOOP
	<-h.logins.last().closed
	c = h.login()
	c.do("RETR 1", "-ERR [SYS/TEMP] the message cannot be read")
	c.do("NOOP", "+OK")
}
