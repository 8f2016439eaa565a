package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// imapConn is a session that is logged in and has INBOX selected.
type imapConn struct {
	*lineConn
	tag int
}

// command sends a command and reads up to its answer, and counts the untagged lines that have the word in them.
func (c *imapConn) command(text, word string) (count int, err error) {
	c.tag++
	tag := fmt.Sprintf("a%d ", c.tag)
	if err := c.send(tag + text + "\r\n"); err != nil {
		return 0, err
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return count, err
		}
		if s := string(line); strings.HasPrefix(s, tag) {
			if !strings.HasPrefix(s, tag+"OK") {
				return count, fmt.Errorf("%.20s: server said %q", text, strings.TrimSpace(s))
			}
			return count, nil
		} else if strings.Contains(s, word) {
			count++
		}
		if n := literal(line); n >= 0 {
			if _, err := io.CopyN(io.Discard, c.in, n); err != nil {
				return count, err
			}
		}
	}
}

// literal is the length of the literal that the line announces, or -1.
func literal(line []byte) int64 {
	s := strings.TrimRight(string(line), "\r\n")
	i := strings.LastIndexByte(s, '{')
	if i < 0 || !strings.HasSuffix(s, "}") {
		return -1
	}
	n, err := strconv.ParseInt(s[i+1:len(s)-1], 10, 63)
	if err != nil {
		return -1
	}
	return n
}

func (l *load) login() (*imapConn, error) {
	c, err := dial(l.Address)
	if err != nil {
		return nil, err
	}
	ic := &imapConn{lineConn: c}
	if _, err := c.in.ReadString('\n'); err != nil {
		return nil, err
	}
	_, err = ic.command(fmt.Sprintf("LOGIN %q %q", l.User, l.Pass), "")
	return ic, err
}

// imap times SELECT, a new session's first and its second, and FETCH of all flags.
func (l *load) imap() (r result, err error) {
	c, err := l.login()
	if err != nil {
		return r, err
	}
	defer c.Close()
	r.Times, r.Items = map[string]float64{}, map[string]float64{}
	for _, name := range []string{"select", "again"} {
		start := time.Now()
		if _, err := c.command("SELECT INBOX", "EXISTS"); err != nil {
			return r, err
		}
		r.Times[name] = time.Since(start).Seconds()
	}
	start := time.Now()
	n, err := c.command("FETCH 1:* (FLAGS)", " FETCH ")
	if err != nil {
		return r, err
	}
	r.Times["flags"], r.Items["flags"] = time.Since(start).Seconds(), float64(n)
	if n != l.Size {
		return r, fmt.Errorf("%d answers for %d messages", n, l.Size)
	}
	_, err = c.command("LOGOUT", "BYE")
	return r, err
}

// bodies fetches whole messages at random over Workers connections.
func (l *load) bodies() (r result, err error) {
	conns := make([]*imapConn, l.Workers)
	for i := range conns {
		if conns[i], err = l.login(); err != nil {
			return r, err
		}
		defer conns[i].Close()
		if _, err := conns[i].command("SELECT INBOX", ""); err != nil {
			return r, err
		}
	}
	return l.each(func(worker, _ int) error {
		n, err := conns[worker].command(fmt.Sprintf("FETCH %d (BODY.PEEK[])", 1+rand.IntN(l.Size)), " FETCH ")
		if err == nil && n != 1 {
			err = fmt.Errorf("%d answers", n)
		}
		return err
	})
}

// pop3 times UIDL, a session's first and its second.
func (l *load) pop3() (r result, err error) {
	c, err := dial(l.Address)
	if err != nil {
		return r, err
	}
	defer c.Close()
	if err := errors.Join(c.expect("+OK"), c.send("USER "+l.User+"\r\n"), c.expect("+OK"), c.send("PASS "+l.Pass+"\r\n"), c.expect("+OK")); err != nil {
		return r, err
	}
	r.Times = map[string]float64{}
	for _, name := range []string{"uidl", "again"} {
		start := time.Now()
		if err := errors.Join(c.send("UIDL\r\n"), c.expect("+OK")); err != nil {
			return r, err
		}
		n := 0
		for {
			line, err := c.in.ReadSlice('\n')
			if err != nil {
				return r, err
			}
			if string(line) == ".\r\n" {
				break
			}
			n++
		}
		if n != l.Size {
			return r, fmt.Errorf("UIDL has %d lines for %d messages", n, l.Size)
		}
		r.Times[name] = time.Since(start).Seconds()
	}
	return r, errors.Join(c.send("QUIT\r\n"), c.expect("+OK"))
}
