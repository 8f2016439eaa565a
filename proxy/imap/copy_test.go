package imap

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestCopy(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Other")
	for n := range 3 {
		w.deliver("", testMessage(n+1), []string{"", "S", "FS"}[n])
	}
	w.deliver(".Other", testMessage(9), "")
	c := w.selected("INBOX")
	if _, answer := c.do("UID COPY 1,3 Other"); !regexp.MustCompile(`^OK \[COPYUID \d+ 1,3 2:3\]`).MatchString(answer) {
		t.Errorf("COPY: %s", answer)
	}
	if names := strings.Join(w.names(".Other"), " "); !strings.Contains(names, ":2,FS") || !regexp.MustCompile(`cur/[^ ]*,S=\d+,W=\d+:2,( |$)`).MatchString(names) {
		t.Errorf("copies: %s", names)
	}
	if _, answer := c.do("COPY 2 INBOX"); !strings.HasPrefix(answer, "OK [COPYUID") {
		t.Errorf("COPY to itself: %s", answer)
	}
	c.ok("NOOP")
	if got := c.ok("FETCH 4 (UID FLAGS)"); len(got) != 1 || !strings.Contains(got[0], `UID 4 FLAGS (\Seen)`) {
		t.Errorf("copy in itself: %q", got)
	}
	c.fails("COPY 1 Nowhere", "NO [TRYCREATE]")
	c.ok("COPY 99 Other")
	c.ok("SELECT Other")
	c.gives("FETCH 3 BODY.PEEK[]", testMessage(3))
}

// COPY is all or nothing.
func TestCopyUndone(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Other")
	w.deliver("", testMessage(1), "S")
	gone := w.deliver("", testMessage(2), "S")
	c := w.selected("INBOX")
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	c.fails("COPY 1:2 Other", "NO [EXPUNGEISSUED]")
	if names := w.names(".Other"); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

// What is copied or moved is answered so, even when nobody can tell its UIDs.
func TestCopyWithoutUIDs(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Other")
	w.deliver("", testMessage(1), "S")
	w.deliver("", testMessage(2), "S")
	c := w.selected("INBOX")
	w.keeper.failWith(func(dir string, since uint64) error {
		if strings.HasSuffix(dir, ".Other") && since != unchanged {
			return syscall.EIO
		}
		return nil
	})
	if got, answer := c.do("COPY 1 Other"); !strings.HasPrefix(answer, "OK COPY") || len(got) > 0 {
		t.Errorf("COPY: %q %s", got, answer)
	}
	if got, answer := c.do("MOVE 1:2 Other"); !strings.HasPrefix(answer, "OK MOVE") || len(got) != 2 {
		t.Errorf("MOVE: %q %s", got, answer)
	}
	if names := w.names(".Other"); len(names) != 3 {
		t.Errorf("in the other folder: %v", names)
	}
}

func TestMove(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Other")
	for n := range 4 {
		w.deliver("", testMessage(n+1), "S")
	}
	c := w.selected("INBOX")
	c.gives("MOVE 1,3 Other", "* OK [COPYUID ", "* 3 EXPUNGE", "* 1 EXPUNGE")
	c.gives("FETCH 1:* UID", "* 1 FETCH (UID 2)", "* 2 FETCH (UID 4)")
	c.fails("MOVE 1 INBOX", "NO [CANNOT]")
	c.fails("MOVE 1 Nowhere", "NO [TRYCREATE]")
	c.gives("UID MOVE 4 Other", " 4 3] ", "* 2 EXPUNGE")
	if len(w.names("")) != 1 || len(w.names(".Other")) != 3 {
		t.Errorf("%q %q", w.names(""), w.names(".Other"))
	}
}

func TestExpunge(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		w.deliver("", testMessage(n+1), "S")
	}
	c := w.selected("INBOX")
	c.ok(`STORE 1,3,5 +FLAGS.SILENT \Deleted`)
	c.gives("UID EXPUNGE 1:3", "* 3 EXPUNGE", "* 1 EXPUNGE")
	c.gives("EXPUNGE", "* 3 EXPUNGE")
	if got := c.ok("EXPUNGE"); len(got) != 0 {
		t.Errorf("again: %q", got)
	}
	c.gives("STATUS INBOX (MESSAGES UIDNEXT DELETED SIZE)", "MESSAGES 2 UIDNEXT 6 DELETED 0 SIZE "+fmt.Sprint(2*len(testMessage(1))))
}

func TestAppend(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Sent")
	c := w.login()
	send := func(arguments, text string) string {
		t.Helper()
		c.send(fmt.Sprintf("a APPEND %s {%d}\r\n", arguments, len(text)))
		line := c.line()
		if !strings.HasPrefix(line, "+ ") {
			return line
		}
		c.send(text + "\r\n")
		_, answer := c.until("a")
		return answer
	}
	if got := send(`Sent (\Seen Work) "01-Feb-2003 04:05:06 +0100"`, testMessage(1)); !strings.HasPrefix(got, "OK [APPENDUID ") || !strings.Contains(got, " 1] ") {
		t.Errorf("APPEND: %s", got)
	}
	if got := send(`Sent`, strings.ReplaceAll(testMessage(2), "\r\n", "\n")); !strings.HasPrefix(got, "OK [APPENDUID ") {
		t.Errorf("APPEND: %s", got)
	}
	c.ok("SELECT Sent")
	c.gives("FETCH 1:2 (FLAGS INTERNALDATE BODY.PEEK[])", `FLAGS (\Seen Work) INTERNALDATE " 1-Feb-2003 03:05:06 +0000"`, testMessage(2))
	if names := w.names(".Sent"); !strings.HasSuffix(names[0], ":2,Sa") || !strings.HasPrefix(names[1], "new/") {
		t.Errorf("files: %q", names)
	}

	// Into the selected mailbox.
	c.send(fmt.Sprintf("b APPEND Sent {%d+}\r\n%s\r\n", len(testMessage(3)), testMessage(3)))
	if got, answer := c.until("b"); !contains(got, "* 3 EXISTS") || !strings.Contains(answer, " 3] ") {
		t.Errorf("%q %s", got, answer)
	}
	if got := send("Nowhere", "x"); !strings.HasPrefix(got, "NO [TRYCREATE]") {
		t.Errorf("%s", got)
	}
	if got := send("Sent (\\Nonsense)", "x"); !strings.HasPrefix(got, "BAD") {
		t.Errorf("%s", got)
	}
	c.send("u APPEND Sent UTF8 (~{3+}\r\nabc)\r\n") // RFC 6855, 4
	if _, answer := c.until("u"); !strings.HasPrefix(answer, "OK [APPENDUID") {
		t.Errorf("UTF8: %s", answer)
	}
}

func TestAppendLarge(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxAppend = 2 << 20 })
	c := w.login()
	if caps := c.ok("CAPABILITY"); !contains(caps, "APPENDLIMIT=2097152") {
		t.Errorf("%q", caps)
	}
	large := testMessage(1) + strings.Repeat("0123456789abcdef\r\n", 100_000)
	c.send(fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s\r\n", len(large), large))
	c.until("a")
	c.ok("SELECT INBOX")
	c.gives("FETCH 1 BODY.PEEK[]", large)
	huge := strings.Repeat("b LOGOUT\r\n", 300_000)
	c.send(fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s\r\n", len(huge), huge))
	c.want("a NO [TOOBIG]")
	c.ok("NOOP")
}

// A reader that never comes to its end must not end up as a message; a full disk is told as such.
func TestAppendFails(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Full")
	if err := os.RemoveAll(w.home + "/.Full/tmp"); err != nil {
		t.Fatal(err)
	}
	c := w.login()
	c.send("a APPEND Full {3+}\r\nabc\r\n")
	c.want("a NO")
	c.ok("NOOP")
}

func TestUpdates(t *testing.T) {
	w := newWorld(t)
	paths := []string{w.deliver("", testMessage(1), "S"), w.deliver("", testMessage(2), "S"), w.deliver("", testMessage(3), "S")}
	c := w.selected("INBOX")
	w.deliver("", testMessage(4), "")
	c.gives("NOOP", "* 4 EXISTS", "* 1 RECENT")

	if err := os.Rename(paths[2], strings.Replace(paths[2], ":2,S", ":2,FS", 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(paths[0]); err != nil {
		t.Fatal(err)
	}
	w.changes.changed("")
	// No EXPUNGE in answer to what goes by sequence numbers, and numbers stay what they were.
	for {
		got := c.ok("FETCH 2 UID")
		if contains(got, "EXPUNGE") || !contains(got, "* 2 FETCH (UID 2)") {
			t.Fatalf("%q", got)
		}
		if contains(got, `* 3 FETCH (UID 3 FLAGS (\Flagged \Seen))`) {
			break // the change feed has come through
		}
	}
	c.gives("NOOP", "* 1 EXPUNGE")
	c.gives("FETCH 1 UID", "* 1 FETCH (UID 2)")

	// Two sessions.
	d := w.selected("INBOX")
	d.ok(`STORE 1 +FLAGS \Deleted`)
	d.ok("EXPUNGE")
	c.gives("NOOP", "* 1 EXPUNGE")
}

func TestIdle(t *testing.T) {
	w := newWorld(t)
	path := w.deliver("", testMessage(1), "S")
	c := w.selected("INBOX")
	c.send("i IDLE\r\n")
	c.want("+ ")
	w.deliver("", testMessage(2), "")
	w.changes.changed("")
	c.want("* 2 EXISTS")
	c.want("* 1 RECENT")
	if err := os.Rename(path, path+"T"); err != nil {
		t.Fatal(err)
	}
	w.changes.changed("")
	c.want(`* 1 FETCH (UID 1 FLAGS (\Seen \Deleted))`)
	if err := os.Remove(path + "T"); err != nil {
		t.Fatal(err)
	}
	w.changes.changed("")
	c.want("* 1 EXPUNGE")
	c.send("DONE\r\n")
	c.want("i OK")
	c.send("j IDLE\r\n")
	c.want("+ ")
	c.send("nonsense\r\n")
	c.want("j BAD")
	c.ok("NOOP")
	c.send("k IDLE\r\n")
	c.want("+ ")
	c.conn.Close() // a client that vanishes
}

func TestIdleWithoutMailbox(t *testing.T) {
	c := newWorld(t).login()
	for _, done := range []string{"DONE\r\n", "done\r\n", "Done\n"} {
		c.send("i IDLE\r\n")
		c.want("+ ")
		c.send(done)
		c.want("i OK")
	}
	c.send("i IDLE\r\n")
	c.want("+ ")
	c.send("DONE x\r\n")
	c.want("i BAD")
}

func TestMailboxDeletedUnderUs(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Other")
	w.deliver(".Other", testMessage(1), "")
	c := w.selected("Other")
	d := w.login()
	d.ok("DELETE Other")
	c.do("NOOP")
	c.want("* BYE")
	c.closed()
	for _, command := range []string{"FETCH 1 BODY[]", "STORE 1 +FLAGS \\Seen", "COPY 1 INBOX", "MOVE 1 INBOX", "SEARCH TEXT x", "EXPUNGE"} {
		w.mkdir(".Other")
		w.deliver(".Other", testMessage(1), "")
		c := w.selected("Other")
		d.ok("DELETE Other")
		if _, answer := c.do(command); !strings.HasPrefix(answer, "NO [NONEXISTENT] Selected") && command != "EXPUNGE" {
			t.Errorf("%s: %s", command, answer)
		}
		c.want("* BYE Selected mailbox was deleted")
		c.closed()
	}
	d.ok("CREATE Mine")
	d.ok("SELECT Mine")
	d.fails("DELETE Mine", "NO [INUSE]")
}

func TestSessionEndedByNode(t *testing.T) {
	w := newWorld(t)
	idle, waiting := w.selected("INBOX"), w.selected("INBOX")
	idle.send("i IDLE\r\n")
	idle.want("+ ")
	for _, s := range w.logins.open {
		close(s.done)
	}
	idle.want("* BYE")
	waiting.want("* BYE")
	for _, s := range w.logins.open {
		<-s.closed
	}
}

func TestShutdown(t *testing.T) {
	w := newWorld(t)
	stranger, idle := w.dial(), w.selected("INBOX")
	idle.send("i IDLE\r\n")
	idle.want("+ ")
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	stranger.want("* BYE")
	idle.want("* BYE")
	<-w.logins.open[0].closed
}

// An upload that is under way may end.
func TestShutdownLetsCommandsEnd(t *testing.T) {
	w := newWorld(t)
	c := w.login()
	c.send("a APPEND INBOX {3}\r\n")
	c.want("+ ")
	done := make(chan error)
	go func() { done <- w.server.Shutdown(t.Context()) }()
	for !w.server.isStopping() {
		runtime.Gosched()
	}
	c.send("abc\r\n")
	c.want("a OK")
	c.want("* BYE")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if x, err := w.keeper.read(w.home, 0); err != nil || len(x.Messages) != 1 {
		t.Errorf("%v %v", x, err)
	}
}
