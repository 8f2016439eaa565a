package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
)

// mail sends messages over Workers connections, one recipient each, with the commands before the data in one packet (RFC 2920).
func (l *load) mail() (result, error) {
	bodies := make([][]byte, 16)
	for i := range bodies {
		bodies[i] = append(dotted(message(l.Size, uint64(i))), ".\r\n"...)
	}
	conns := make([]*lineConn, l.Workers)
	hello := map[string]string{"smtp": "EHLO", "lmtp": "LHLO"}[l.Kind]
	for i := range conns {
		c, err := dial(l.Address)
		if err != nil {
			return result{}, err
		}
		defer c.Close()
		if err := errors.Join(c.expect("220"), c.send(hello+" bench.test\r\n"), c.expect("250")); err != nil {
			return result{}, err
		}
		conns[i] = c
	}
	r, err := l.each(func(worker, i int) error {
		c := conns[worker]
		to := l.Recipients[i%len(l.Recipients)]
		if err := c.send("MAIL FROM:<bench@example.net>\r\nRCPT TO:<" + to + ">\r\nDATA\r\n"); err != nil {
			return err
		}
		if err := errors.Join(c.expect("250"), c.expect("250"), c.expect("354")); err != nil {
			return err
		}
		if _, err := c.Write(bodies[i%len(bodies)]); err != nil {
			return err
		}
		return c.expect("250")
	})
	for _, c := range conns {
		c.send("QUIT\r\n")
	}
	return r, err
}

// dotted doubles dots at the begin of lines (RFC 5321, 4.5.2).
func dotted(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n."), []byte("\r\n.."))
	if len(b) > 0 && b[0] == '.' {
		b = append([]byte("."), b...)
	}
	return b
}

// lineConn is a connection of a protocol of lines.
type lineConn struct {
	net.Conn
	in *bufio.Reader
}

func dial(address string) (*lineConn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &lineConn{c, bufio.NewReaderSize(c, 256<<10)}, nil
}

func (c *lineConn) send(s string) error {
	_, err := c.Write([]byte(s))
	return err
}

// expect reads a reply, of some lines perhaps, that has to begin with code.
func (c *lineConn) expect(code string) error {
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("server said %q, not %s", strings.TrimSpace(line), code)
		}
		if len(line) < 4 || line[3] != '-' {
			return nil
		}
	}
}
