package dovecotauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/login"
	"mailraft/fs/keyring"
	"mailraft/raftstore/raftpb"
)

// ok is the answer to alice's login.
func (w *world) ok(id int) string {
	return fmt.Sprintf("OK\t%d\tuser=alice@example.org\tuid=5000\tgid=5001\thome=%s/%d/example.org/alice", id, mounts, w.alice.Shard)
}

func TestHandshake(t *testing.T) {
	w := newWorld(t)
	for _, number := range []string{"1", "2"} { // before a word of the client, as Exim waits for it
		c := w.dial()
		c.want("VERSION\t1\t2", "MECH\tPLAIN\tplaintext", "MECH\tLOGIN\tplaintext", "MECH\tSCRAM-SHA-256\tmutual-auth")
		if pid := c.read(); !strings.HasPrefix(pid, "SPID\t") {
			t.Error(pid)
		}
		c.want("CUID\t" + number)
		if cookie := c.read(); len(cookie) != len("COOKIE\t")+32 {
			t.Error(cookie)
		}
		c.want("DONE")
	}
}

func TestLogin(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct{ dialogue []string }{
		"PLAIN, as Postfix": {[]string{
			"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.2\trip=192.0.2.1\tsecured\tresp=" + plain("", "alice@example.org", "secret"), w.ok(1),
		}},
		"PLAIN without an initial response": {[]string{
			"AUTH\t1\tPLAIN\tservice=smtp", "CONT\t1\t",
			"CONT\t1\t" + plain("", "alice@example.org", "secret"), w.ok(1),
		}},
		"PLAIN for oneself, in other letters": {[]string{
			"AUTH\t7\tplain\tservice=smtp\tresp=" + plain("Alice@Example.ORG", "Alice@Example.ORG", "secret"), w.ok(7),
		}},
		"what follows resp is nothing": {[]string{
			"AUTH\t7\tPLAIN\tservice=smtp\tresp=" + plain("", "alice@example.org", "secret") + "\tresp=x\tuser=bob", w.ok(7),
		}},
		"LOGIN": {[]string{
			"AUTH\t2\tLOGIN\tservice=smtp", "CONT\t2\t" + b64("Username:"),
			"CONT\t2\t" + b64("alice@example.org"), "CONT\t2\t" + b64("Password:"),
			"CONT\t2\t" + b64("secret"), w.ok(2),
		}},
		"LOGIN with an initial response": {[]string{
			"AUTH\t2\tLOGIN\tservice=smtp\tresp=" + b64("alice@example.org"), "CONT\t2\t" + b64("Password:"),
			"CONT\t2\t" + b64("secret"), w.ok(2),
		}},
		"a wrong password": {[]string{
			"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "alice@example.org", "wrong"), "FAIL\t1\tuser=alice@example.org",
			"AUTH\t2\tPLAIN\tservice=smtp\tresp=" + plain("", "alice@example.org", "secret"), w.ok(2),
		}},
		"an unknown user": {[]string{
			"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "bob@example.org", "secret"), "FAIL\t1\tuser=bob@example.org",
		}},
		"a name that has to be escaped": {[]string{
			"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "a\tOK\t1\n", "secret"), "FAIL\t1\tuser=a\x01tOK\x01t1\x01l",
		}},
		"for somebody else": {[]string{
			"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("bob@example.org", "alice@example.org", "secret"), "FAIL\t1\tauthz\tcode=authz_fail",
		}},
		"no PLAIN": {[]string{"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + b64("alice@example.org"), "FAIL\t1"}},
		"another mechanism": {[]string{
			"AUTH\t1\tGSSAPI\tservice=smtp\tresp=", "FAIL\t1\treason=Unsupported authentication mechanism",
		}},
		"an answer to nothing": {[]string{"CONT\t9\t" + b64("secret"), "FAIL\t9\ttemp\tcode=temp_fail"}},
		"cancelled": {[]string{
			"AUTH\t1\tPLAIN\tservice=smtp", "CONT\t1\t",
			"CANCEL\t1\nCONT\t1\t" + plain("", "alice@example.org", "secret"), "FAIL\t1\ttemp\tcode=temp_fail",
		}},
		"what a later version may say": {[]string{
			"HELLO\tthere\nAUTH\t1\tPLAIN\tservice=smtp\tnew\t\tmore=\tresp=" + plain("", "alice@example.org", "secret"), w.ok(1),
		}},
		"a look-up": {[]string{
			"USER\t5\tAlice@example.org\tservice=lmtp", strings.Replace(w.ok(5), "OK\t5\tuser=", "USER\t5\t", 1),
			"USER\t6\tbob@example.org\tservice=lmtp", "NOTFOUND\t6",
			"USER\t7\tnobody\tservice=lmtp", "NOTFOUND\t7",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.ring.Lock(uint64(w.alice.Number))
			conn, in := w.greeted(), false
			for i := 0; i < len(c.dialogue); i += 2 {
				conn.say(c.dialogue[i])
				conn.want(c.dialogue[i+1])
				in = in || strings.HasPrefix(c.dialogue[i+1], "OK")
			}
			conn.conn.Close()
			if w.unlocked() != in {
				t.Errorf("unlocked: %v", w.unlocked())
			}
		})
	}
}

// A client that talks nonsense is left; others are not.
func TestNonsense(t *testing.T) {
	w := newWorld(t)
	other := w.greeted()
	for name, lines := range map[string]string{
		"another version":     "VERSION\t2\t0",
		"no version":          "VERSION",
		"AUTH first":          "AUTH\t1\tPLAIN\tservice=smtp",
		"AUTH before CPID":    "VERSION\t1\t0\nAUTH\t1\tPLAIN\tservice=smtp",
		"no number":           "VERSION\t1\t0\nCPID\t1\nAUTH\tx\tPLAIN",
		"a number too large":  "VERSION\t1\t0\nCPID\t1\nAUTH\t4294967296\tPLAIN",
		"no mechanism":        "VERSION\t1\t0\nCPID\t1\nAUTH\t1",
		"no base64":           "VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tresp=s-e-c-r-e-t",
		"CONT out of turn":    "VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tresp=" + plain("", "alice@example.org", "wrong") + "\nCONT\t1\t",
		"a line without end":  "VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tresp=" + strings.Repeat("A", maxLine),
		"a look-up of nobody": "VERSION\t1\t0\nUSER\t1",
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			c := w.dial()
			for c.read() != "DONE" {
			}
			c.conn.Write([]byte(lines + "\n"))
			c.ended()
		})
	}
	if n := strings.Count(w.log.String(), "ended a connection for logins"); n != 11 {
		t.Errorf("%d of 11 are in the log:\n%s", n, w.log)
	}
	other.say("AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "alice@example.org", "secret"))
	other.want(w.ok(1))
}

// Exchanges that were given up without a word make room for others.
func TestGivenUp(t *testing.T) {
	w := newWorld(t)
	c := w.greeted()
	for i := range maxExchanges + 1 {
		c.say(fmt.Sprintf("AUTH\t%d\tLOGIN\tservice=smtp", i))
		c.want(fmt.Sprintf("CONT\t%d\t%s", i, b64("Username:")))
	}
	c.say("CONT\t0\t" + b64("alice@example.org"))
	c.want("FAIL\t0\ttemp\tcode=temp_fail")
	c.say("CONT\t1\t" + b64("alice@example.org"))
	c.want("CONT\t1\t" + b64("Password:"))
}

// held answers no login before it is told to, or the client has gone.
type held struct {
	Logins
	asked   chan login.Attempt
	refused chan error
	ended   chan error // of what nobody waits for any more
}

func (h *held) Open(ctx context.Context, at login.Attempt) (*raftpb.Account, *keyring.Session, error) {
	h.asked <- at
	select {
	case err := <-h.refused:
		return nil, nil, err
	case <-ctx.Done():
		h.ended <- ctx.Err()
		return nil, nil, ctx.Err()
	}
}

func newHeld() (*held, func(*Config)) {
	h := &held{asked: make(chan login.Attempt), refused: make(chan error), ended: make(chan error)}
	return h, func(c *Config) { h.Logins, c.Logins = c.Logins, h }
}

func TestManyAtOnce(t *testing.T) {
	h, with := newHeld()
	w := newWorld(t, with)
	c := w.greeted()
	for i := range maxExchanges {
		c.say(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=imap\trip=2001:db8::1\trport=99\tresp=%s", i, plain("", "alice@example.org", "secret")))
		at := <-h.asked
		if at.Protocol != "imap" || at.Remote != "[2001:db8::1]:99" || at.TLS || at.Username != "alice@example.org" {
			t.Errorf("%+v", at)
		}
	}
	c.say("AUTH\t1000\tPLAIN\tservice=imap\tresp=" + plain("", "alice@example.org", "secret"))
	c.want("FAIL\t1000\ttemp\tcode=temp_fail")
	h.refused <- login.NotNow("busy")
	if got := c.read(); !strings.HasSuffix(got, "\tuser=alice@example.org\ttemp\tcode=temp_fail") {
		t.Error(got)
	}
	c.conn.Close()
	for range maxExchanges - 1 { // nobody goes on with what a client asked for that has gone
		if err := <-h.ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// Each failure of one host is answered later than the one before, as long as it is the same host.
func TestGuessingGetsSlower(t *testing.T) {
	const step = 100 * time.Millisecond
	w := newWorld(t, func(c *Config) { c.FailureDelay = step })
	c := w.greeted()
	for i, want := range []struct {
		host string
		late int
	}{{"192.0.2.1", 1}, {"192.0.2.1", 2}, {"192.0.2.1", 3}, {"192.0.2.2", 1}} {
		begun := time.Now()
		c.say(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\trip=%s\tresp=%s", i, want.host, b64("no PLAIN")))
		c.want(fmt.Sprintf("FAIL\t%d", i))
		if took := time.Since(begun); took < time.Duration(want.late)*step || took > time.Duration(want.late+1)*step {
			t.Errorf("%s: answered after %v, want %d times %v", want.host, took, want.late, step)
		}
	}
}

// unsure is a directory that cannot be asked.
type unsure struct{}

func (unsure) Find(context.Context, string) (*raftpb.Account, error) { return nil, access.ErrUnsure }

func TestClient(t *testing.T) {
	w := newWorld(t)
	c, err := Dial(within(t), w.socket)
	must(t, err)
	defer c.Close()
	want := User{Name: "alice@example.org", UID: "5000", GID: "5001", Home: fmt.Sprintf("%s/%d/example.org/alice", mounts, w.alice.Shard)}
	if _, err := c.LogIn("alice@example.org", []byte("wrong")); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if _, err := c.LookUp("bob@example.org"); !errors.Is(err, ErrNoSuchUser) {
		t.Error(err)
	}
	if u, err := c.LookUp("Alice@example.org"); err != nil || u != want || w.unlocked() {
		t.Error(u, err, w.unlocked())
	}
	if u, err := c.LogIn("Alice@example.org", []byte("secret"), "service=imap", "rip=192.0.2.1"); err != nil || u != want || !w.unlocked() {
		t.Error(u, err, w.unlocked())
	}
	lost := newWorld(t, func(c *Config) { c.Accounts = unsure{} })
	c, err = Dial(within(t), lost.socket)
	must(t, err)
	defer c.Close()
	if _, err := c.LookUp("alice@example.org"); !errors.Is(err, ErrTemporary) {
		t.Error(err)
	}
}
