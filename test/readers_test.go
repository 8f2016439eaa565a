package test

import (
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"mailraft/test/client"
	"mailraft/test/node"
)

// readers are clients that read the mail of a storm while it comes, and flag it. Whoever loses the connection comes again.
type readers struct {
	s     *storm
	group sync.WaitGroup

	mu                 sync.Mutex
	over               bool
	open               map[io.Closer]bool // connections
	flagged            map[node.Account][]string
	fetched, retrieved int // messages
	broken             int // sessions
}

// beginReaders has every mailbox read by IMAP and by POP3.
func (s *storm) beginReaders() *readers {
	r := &readers{s: s, open: map[io.Closer]bool{}, flagged: map[node.Account][]string{}}
	for _, a := range s.accounts {
		r.group.Go(func() { r.come(a, r.byIMAP) })
		r.group.Go(func() { r.come(a, r.byPOP3) })
	}
	return r
}

// come has a mailbox read in one session after the other.
func (r *readers) come(a node.Account, session func(node.Account, node.Addresses) error) {
	for {
		at := r.s.enter()
		r.s.leave() // nobody waits for readers
		err := session(a, at)
		r.mu.Lock()
		if r.over {
			r.mu.Unlock()
			return
		}
		if err != nil {
			r.broken++
		}
		r.mu.Unlock()
	}
}

// begun takes note of a connection, which is closed at the end.
func (r *readers) begun(c io.Closer) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = true
	if r.over {
		c.Close()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, c)
		c.Close()
	}
}

// byIMAP waits for mail, fetches the last message and flags it, until the connection breaks.
func (r *readers) byIMAP(a node.Account, at node.Addresses) error {
	c, err := client.DialIMAP(at.IMAP, nil)
	if err != nil {
		return err
	}
	defer r.begun(c)()
	if err := c.Login(a.Address, a.Password); err != nil {
		return err
	}
	if _, err := c.Command("SELECT INBOX"); err != nil {
		return err
	}
	for {
		idle, err := c.Idle()
		for told := (client.Response{}); err == nil && !strings.HasSuffix(told.Text, " EXISTS"); {
			told, err = c.Response()
		}
		if err != nil {
			return err
		}
		if _, err := c.End(idle); err != nil {
			return err
		}
		uid := ""
		for answer, err := range c.Stream("FETCH * (UID BODY.PEEK[])") {
			if err != nil {
				return err
			}
			if m := uidItem.FindStringSubmatch(answer.Text); m != nil && len(answer.Literals) == 1 {
				uid = m[1]
				r.read(a, answer.Literals[0], &r.fetched)
			}
		}
		if _, err := c.Command(`UID STORE %s +FLAGS.SILENT (\Flagged)`, uid); err != nil {
			return err
		}
		r.mu.Lock()
		r.flagged[a] = append(r.flagged[a], uid)
		r.mu.Unlock()
	}
}

var uidItem = regexp.MustCompile(`\(.*\bUID (\d+)`)

// byPOP3 retrieves the last messages and comes again when there is more mail.
func (r *readers) byPOP3(a node.Account, at node.Addresses) error {
	c, err := client.DialPOP3(at.POP3, nil)
	if err != nil {
		return err
	}
	defer r.begun(c)()
	if err := c.Login(a.Address, a.Password); err != nil {
		return err
	}
	stat, err := c.Command("STAT")
	if err != nil {
		return err
	}
	count, _, _ := strings.Cut(strings.TrimPrefix(stat, "+OK "), " ")
	if count != "0" {
		raw, err := c.Multi("RETR %s", count)
		if err != nil {
			return err
		}
		r.read(a, raw, &r.retrieved)
	}
	if err := c.Quit(); err != nil {
		return err
	}
	r.s.awaitMore(100)
	return nil
}

// read counts a message that was read, which must be whole.
func (r *readers) read(a node.Account, raw []byte, count *int) {
	id, below, err := identify(raw)
	if err != nil {
		r.s.t.Error(err)
		return
	}
	r.s.compare(a, id, below)
	r.mu.Lock()
	defer r.mu.Unlock()
	*count++
}

// end ends all sessions once all is sent, and looks whether the flags are there that were said to be.
func (r *readers) end(t *testing.T) {
	t.Helper()
	r.s.clients.Wait()
	r.mu.Lock()
	r.over = true
	for c := range r.open {
		c.Close()
	}
	r.mu.Unlock()
	r.group.Wait()
	for a, uids := range r.flagged {
		c := logIn(t, r.s.n, a)
		must(t, c, "EXAMINE INBOX")
		flagged := map[string]bool{}
		for _, answer := range must(t, c, "UID SEARCH FLAGGED") {
			if numbers, ok := strings.CutPrefix(answer.Text, "* SEARCH"); ok {
				for _, uid := range strings.Fields(numbers) {
					flagged[uid] = true
				}
			}
		}
		for _, uid := range uids {
			if !flagged[uid] {
				t.Errorf("%s: the flag of message %s is gone", a.Address, uid)
			}
		}
		if err := c.Logout(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d messages fetched by IMAP and flagged, %d retrieved by POP3, in sessions of which %d broke", r.fetched, r.retrieved, r.broken)
	if kills := stormKills(t); r.fetched < kills || r.retrieved < kills || r.broken < kills {
		t.Error("that is too little to tell anything")
	}
}
