package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/xdg-go/scram"
)

// dialTLS begins a session of IMAP over TLS, from an address of this machine. It trusts any certificate, and resumes nothing.
func dialTLS(address string, from net.IP) (*imapConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	c, err := tls.DialWithDialer(&d, "tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	ic := &imapConn{lineConn: &lineConn{c, bufio.NewReaderSize(c, 64<<10)}}
	if _, err := ic.in.ReadString('\n'); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return ic, nil
}

// logins logs in to Users in turns, each time by a new session, which says goodbye. It times the login itself as "login".
func (l *load) logins() (result, error) {
	provers := make([]*scram.Client, len(l.Users))
	for i, user := range l.Users {
		var err error
		if provers[i], err = scram.SHA256.NewClient(user, l.Pass, ""); err != nil {
			return result{}, err
		}
	}
	took := make([][]float64, l.Workers)
	r, err := l.each(func(worker, i int) error {
		c, err := dialTLS(l.Address, net.IPv4(127, 0, 0, 1))
		if err != nil {
			return err
		}
		defer c.Close()
		start := time.Now()
		if l.Proof {
			err = c.prove(provers[i%len(provers)])
		} else {
			_, err = c.command(fmt.Sprintf("LOGIN %q %q", l.Users[i%len(l.Users)], l.Pass), "")
		}
		if err != nil {
			return err
		}
		took[worker] = append(took[worker], time.Since(start).Seconds())
		_, err = c.command("LOGOUT", "BYE")
		return err
	})
	if r.Times != nil {
		r.Times["login"] = quantile(0.5, took...)
	}
	return r, err
}

// prove logs in by SCRAM-SHA-256. What the client derives of its password it has from its first login on (RFC 5802, 3).
func (c *imapConn) prove(who *scram.Client) error {
	exchange := who.NewConversation()
	c.tag++
	tag := fmt.Sprintf("a%d ", c.tag)
	if err := c.send(tag + "AUTHENTICATE SCRAM-SHA-256\r\n"); err != nil {
		return err
	}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		challenge, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "+ ")
		if !ok {
			if strings.HasPrefix(line, "* ") {
				continue
			}
			if !strings.HasPrefix(line, tag+"OK") || !exchange.Valid() {
				return fmt.Errorf("AUTHENTICATE: server said %q", strings.TrimSpace(line))
			}
			return nil
		}
		decoded, err := base64.StdEncoding.DecodeString(challenge)
		if err != nil {
			return err
		}
		response, err := exchange.Step(string(decoded))
		if err != nil {
			return err
		}
		if err := c.send(base64.StdEncoding.EncodeToString([]byte(response)) + "\r\n"); err != nil {
			return err
		}
	}
}

// guesses tries wrong passwords, each of another user, from an address of its own. Who does not exist costs the server what others do.
func (l *load) guesses() (result, error) {
	return l.each(func(_, i int) error {
		c, err := dialTLS(l.Address, net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(256)), byte(1+rand.IntN(250))))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.command(fmt.Sprintf("LOGIN guessed%d@%s guess", i, domain), "")
		if err == nil {
			return errors.New("a wrong password is in")
		}
		if !strings.Contains(err.Error(), "[AUTHENTICATIONFAILED]") {
			return err
		}
		return nil
	})
}

// fetches has one session fetch messages at random.
func (l *load) fetches() (result, error) {
	c, err := dialTLS(l.Address, net.IPv4(127, 0, 0, 1))
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	for _, command := range []string{fmt.Sprintf("LOGIN %q %q", l.User, l.Pass), "SELECT INBOX"} {
		if _, err := c.command(command, ""); err != nil {
			return result{}, err
		}
	}
	return l.each(func(_, _ int) error {
		n, err := c.command(fmt.Sprintf("FETCH %d (BODY.PEEK[])", 1+rand.IntN(l.Size)), " FETCH ")
		if err == nil && n != 1 {
			err = fmt.Errorf("%d answers", n)
		}
		return err
	})
}
